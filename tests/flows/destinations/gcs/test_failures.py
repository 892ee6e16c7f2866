"""Whatever breaks on the way to the bucket, one whole object stays, and what arrived is not sent again."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from support.destinations import Apart
from support.gcs import GRAIN_BYTES
from support.gcs_harness import SMALL_CHUNK_BYTES, GcsHarness, publish_in_small_chunks

from flows.destinations.gcs import http as gcs_http
from flows.destinations.gcs import resumable_upload as gcs_upload
from flows.destinations.gcs.connection import LONGEST_PAUSE_SECONDS, Patience, Unavailable
from flows.destinations.gcs.destination import MOST_CONFLICTS
from flows.errors import DestinationBusy, DestinationRefused, Stopped
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.destinations import Months
    from support.gcs import Bucket

    from flows.staging import StagedMonth

JANUARY = TripMonth("yellow", 2021, 1)
NAME = "data/yellow/yellow_tripdata_2021-01.parquet"
MANY_ROWS = 150_000
BUSY = b'{"error": {"code": 503, "message": "Service Unavailable"}}'


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> GcsHarness:
    return GcsHarness(tmp_path / "data", request)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs_upload, "CHUNK_BYTES", SMALL_CHUNK_BYTES)


@pytest.fixture
def old(harness: GcsHarness, bucket: Bucket, months: Months) -> StagedMonth:
    """A month that is there already."""
    staged = months.trips(JANUARY)
    harness.make().publish(staged)
    bucket.front.heal()
    return staged


@pytest.fixture
def large(months: Months) -> StagedMonth:
    """The same month, of many chunks."""
    return months.synthetic(JANUARY, MANY_ROWS)


def assert_is(harness: GcsHarness, bucket: Bucket, staged: StagedMonth) -> None:
    """The object is this file, byte by byte, and says so; metadata included."""
    assert bucket.names() == {NAME}
    assert bucket.read(NAME) == staged.path.read_bytes()
    load = harness.make().loaded(JANUARY)
    assert load is not None
    assert load.source_sha256 == staged.source_sha256


def sent_bytes(bucket: Bucket) -> int:
    return sum(request.body_bytes for request in bucket.front.requests if request.kind == "chunk")


# What passes


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        *((kind, 503) for kind in ("object", "begin", "chunk", "ask", "read")),
        *(("chunk", status) for status in (408, 429, 500, 502, 504)),
    ],
)
def test_a_server_that_is_busy_for_a_moment(
    harness: GcsHarness, bucket: Bucket, months: Months, kind: str, status: int
) -> None:
    staged = months.trips(JANUARY)
    if kind == "ask":
        bucket.front.misbehave("chunk", status=503)
    bucket.front.misbehave(kind, times=2, status=status, body=BUSY, headers={"Retry-After": "0"})
    assert harness.make().publish(staged).status == "published"
    assert bucket.front.kinds().count(kind) == 3
    assert_is(harness, bucket, staged)


def test_an_upload_is_resumed_after_a_503_in_its_middle(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth
) -> None:
    bucket.front.misbehave("chunk", skip=2, status=503, body=BUSY)
    assert harness.make().publish(large).rows == MANY_ROWS
    assert bucket.front.kinds().count("begin") == 1
    assert bucket.front.kinds()[4:7] == ["chunk", "ask", "chunk"]
    assert sent_bytes(bucket) == large.path.stat().st_size + SMALL_CHUNK_BYTES, "one chunk twice"
    assert_is(harness, bucket, large)


@pytest.mark.parametrize("kept_grains", [0, 1, 2, 3])
def test_a_cut_connection_is_resumed_where_the_server_says(
    harness: GcsHarness,
    bucket: Bucket,
    large: StagedMonth,
    monkeypatch: pytest.MonkeyPatch,
    kept_grains: int,
) -> None:
    monkeypatch.setattr(gcs_upload, "CHUNK_BYTES", 3 * GRAIN_BYTES)
    bucket.front.misbehave("chunk", skip=1, keep_bytes=kept_grains * GRAIN_BYTES)
    assert harness.make().publish(large).rows == MANY_ROWS
    lost = (3 - kept_grains) * GRAIN_BYTES
    assert sent_bytes(bucket) == large.path.stat().st_size + lost
    assert bucket.front.kinds().count("begin") == 1
    assert_is(harness, bucket, large)


def test_a_connection_cut_at_the_first_chunk(harness: GcsHarness, bucket: Bucket, large: StagedMonth) -> None:
    bucket.front.misbehave("chunk", keep_bytes=0)
    assert harness.make().publish(large).rows == MANY_ROWS
    assert_is(harness, bucket, large)


def test_an_emulator_that_counts_one_byte_where_there_is_none(
    harness: GcsHarness, bucket: Bucket, large: StagedMonth
) -> None:
    bucket.front.misbehave("chunk", status=503)
    bucket.front.misbehave("ask", status=308, headers={"Range": "bytes=0-0"})
    assert harness.make().publish(large).rows == MANY_ROWS
    assert_is(harness, bucket, large)


def test_pauses_grow_and_are_as_long_as_the_server_asks() -> None:
    patience = Patience(backoff_seconds=1)
    broken, asked = Unavailable("broken"), Unavailable("busy")
    asked.retry_after_seconds = 7
    for failures, doubled in ((1, 1), (2, 2), (3, 4), (4, 8)):
        assert 0.75 * doubled <= patience.pause_seconds(failures, broken) <= 1.25 * doubled
    assert patience.pause_seconds(1, asked) == 7
    asked.retry_after_seconds = 3600
    assert patience.pause_seconds(1, asked) == LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize("skip", [0, 1, 99], ids=["first", "second", "last"])
def test_an_answer_that_is_lost(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth, skip: int
) -> None:
    chunks = -(-large.path.stat().st_size // SMALL_CHUNK_BYTES)
    bucket.front.misbehave("chunk", skip=min(skip, chunks - 1), lose_answer=True)
    assert harness.make().publish(large).status == "published"
    assert sent_bytes(bucket) == large.path.stat().st_size
    assert_is(harness, bucket, large)


@pytest.mark.parametrize("force", [False, True])
def test_the_last_answer_is_lost_and_the_upload_forgotten(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth, force: bool
) -> None:
    chunks = -(-large.path.stat().st_size // SMALL_CHUNK_BYTES)
    bucket.front.misbehave("chunk", skip=chunks - 1, lose_answer=True)
    bucket.front.misbehave("ask", then=bucket.front.uploads.clear)
    receipt = harness.make().publish(large, force=force)
    assert (receipt.status, receipt.rows) == ("published", MANY_ROWS)
    assert sent_bytes(bucket) == large.path.stat().st_size, "recognised as our own, not sent twice"
    assert_is(harness, bucket, large)


@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_that_the_server_forgets_begins_again(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth, status: int
) -> None:
    bucket.front.misbehave("chunk", skip=3, status=status)
    assert harness.make().publish(large).status == "published"
    assert bucket.front.kinds().count("begin") == 2
    assert_is(harness, bucket, large)


def test_a_server_that_says_nothing_is_given_up_and_asked_again(
    bucket: Bucket, harness: GcsHarness, large: StagedMonth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_http, "SLOWEST_BYTES_PER_SECOND", 2**30)
    harness.place.settings["http_timeout_seconds"] = 0.5
    bucket.front.misbehave("chunk", skip=1, stall=True)
    assert harness.make().publish(large).status == "published"
    assert_is(harness, bucket, large)


def test_attempts_are_counted_anew_after_every_byte_that_arrives(
    harness: GcsHarness, bucket: Bucket, large: StagedMonth
) -> None:
    harness.place.settings["http_attempts"] = 2
    for _ in range(4):
        bucket.front.misbehave("chunk", skip=1, status=503)
    assert harness.make().publish(large).status == "published"
    assert bucket.front.kinds().count("ask") == 4
    assert_is(harness, bucket, large)


# What does not pass


@pytest.mark.parametrize("kind", ["object", "begin", "chunk", "ask"])
def test_a_server_that_stays_busy_is_given_up(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth, kind: str
) -> None:
    if kind == "ask":
        bucket.front.misbehave("chunk", skip=1, status=503)
    bucket.front.misbehave(kind, times=99, status=503, body=BUSY)
    with pytest.raises(DestinationBusy, match=r"cannot do it now \(Service Unavailable\)") as busy:
        harness.make().publish(large)
    # A failed chunk is an attempt like the asking after it.
    expected = {"object": 5, "begin": 5, "chunk": 5, "ask": 4}
    assert bucket.front.kinds().count(kind) == expected[kind]
    assert "upload_id" not in busy.value.message
    bucket.front.heal()
    assert_is(harness, bucket, old)
    assert harness.make().publish(large).status == "published"
    assert_is(harness, bucket, large)


def test_an_upload_that_is_forgotten_again_and_again_is_given_up(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth
) -> None:
    for _ in range(20):
        bucket.front.misbehave("chunk", skip=1, status=410)
    with pytest.raises(DestinationBusy, match="has forgotten an upload"):
        harness.make().publish(large)
    assert bucket.front.kinds().count("begin") <= 6
    bucket.front.heal()
    assert_is(harness, bucket, old)


FORBIDDEN = (
    b'{"error": {"code": 403, "message": "taxi@x.iam.gserviceaccount.com does not have '
    b'storage.objects.create access.\\nBearer ya29.secret-token"}}'
)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kind", ["object", "begin", "chunk"])
def test_no_right_to_do_it_is_one_line_and_not_tried_again(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth, kind: str, status: int
) -> None:
    bucket.front.misbehave(kind, times=99, status=status, body=FORBIDDEN)
    with pytest.raises(DestinationRefused) as refused:
        harness.make().publish(large)
    message = refused.value.message
    assert bucket.name in message
    assert "does not have storage.objects.create access" in message
    assert ("roles/storage.objectUser" if status == 403 else "TAXI_GCP_KEY_FILE") in message
    assert "ya29" not in message
    assert "upload_id" not in message
    assert len(message.splitlines()) == 1
    assert bucket.front.kinds().count(kind) == 1
    bucket.front.heal()
    assert_is(harness, bucket, old)


def test_a_bucket_that_does_not_exist_is_named_with_the_way_to_create_it(
    harness: GcsHarness, months: Months
) -> None:
    harness.place.settings["gcs_bucket"] = "no-such-bucket"
    with pytest.raises(DestinationRefused) as refused:
        harness.make().publish(months.trips(JANUARY))
    assert "there is no bucket no-such-bucket" in refused.value.message
    assert "gcloud storage buckets create gs://no-such-bucket" in refused.value.message


@pytest.mark.parametrize("ask", ["publish", "loaded", "holdings"])
def test_nobody_there_is_one_line_at_once(
    harness: GcsHarness, bucket: Bucket, months: Months, ask: str
) -> None:
    bucket.front.stop()
    harness.place.settings["http_backoff_seconds"] = 60
    started = time.monotonic()
    about = {"publish": months.trips(JANUARY), "loaded": JANUARY, "holdings": JANUARY.dataset}
    with pytest.raises(DestinationRefused, match=r"no connection to 127\.0\.0\.1") as refused:
        getattr(harness.make(), ask)(about[ask])
    assert time.monotonic() - started < 60
    assert "STORAGE_EMULATOR_HOST" in refused.value.message


def test_a_file_that_changes_under_way_does_not_appear(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth
) -> None:
    content = large.path.read_bytes()

    def spoil() -> None:
        with large.path.open("r+b") as file:
            file.seek(2 * SMALL_CHUNK_BYTES)
            file.write(b"spoiled")

    bucket.front.misbehave("chunk", then=spoil)
    try:
        with pytest.raises(DestinationRefused, match="CRC32C"):
            harness.make().publish(large)
    finally:
        large.path.write_bytes(content)
    assert_is(harness, bucket, old)


def test_an_upload_that_is_stopped_is_taken_back(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth
) -> None:
    def report(done: int, _: int | None) -> None:
        if done:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        harness.make().publish(large, report=report)
    assert bucket.front.kinds()[-1] == "cancel"
    assert all(upload.finished for upload in bucket.front.uploads.values())
    assert_is(harness, bucket, old)


@pytest.mark.parametrize("had_before", [True, False], ids=["replacing", "its first month"])
def test_a_process_killed_in_the_middle_of_an_upload(
    harness: GcsHarness, bucket: Bucket, months: Months, large: StagedMonth, had_before: bool
) -> None:
    if had_before:
        harness.make().publish(months.trips(JANUARY))
        bucket.front.heal()
    with Apart(publish_in_small_chunks, harness.place, large) as process:
        pid = process.hear()
        bucket.front.misbehave("chunk", skip=3, then=lambda: os.kill(pid, signal.SIGKILL))
        assert process.wait() == -signal.SIGKILL
    harness.settle()
    assert bucket.front.kinds().count("chunk") == 4
    if had_before:
        assert_is(harness, bucket, months.trips(JANUARY))
    else:
        assert harness.make().loaded(JANUARY) is None
        assert bucket.names() == set()
    assert harness.make().publish(large).status == "published"
    assert_is(harness, bucket, large)


# Somebody else at the same time. (The emulator has no preconditions; the front adds them.)


def first_of_all(harness: GcsHarness, staged: StagedMonth) -> Callable[[], None]:
    """Publish a month while another publish is under way."""
    return lambda: harness.make().publish(staged, force=True)


@pytest.mark.parametrize("kind", ["begin", "chunk"])
@pytest.mark.parametrize("had_before", [True, False], ids=["replacing", "first month"])
def test_another_run_is_faster_with_other_data(
    harness: GcsHarness, bucket: Bucket, months: Months, kind: str, had_before: bool
) -> None:
    ours, theirs = months.trips(JANUARY, 80, first=500), months.trips(JANUARY, 30, first=900)
    if had_before:
        harness.make().publish(months.trips(JANUARY))
    bucket.front.misbehave(kind, then=first_of_all(harness, theirs))
    assert harness.make().publish(ours).status == "published"
    assert_is(harness, bucket, ours)


def test_another_run_is_faster_with_the_same_data(
    harness: GcsHarness, bucket: Bucket, months: Months
) -> None:
    staged = months.trips(JANUARY)
    bucket.front.misbehave("chunk", then=first_of_all(harness, staged))
    receipt = harness.make().publish(staged)
    assert (receipt.status, receipt.rows) == ("unchanged", 50)
    assert_is(harness, bucket, staged)


def test_others_that_are_always_faster_are_not_raced_for_ever(
    harness: GcsHarness, bucket: Bucket, months: Months
) -> None:
    ours, theirs = months.trips(JANUARY, 80, first=500), months.trips(JANUARY, 30, first=900)
    racing, races = False, 0

    def overtake() -> None:
        nonlocal racing, races
        if not racing:  # the faster one begins as well
            racing, races = True, races + 1
            harness.make().publish(theirs, force=True)
            racing = False

    bucket.front.misbehave("begin", times=99, then=overtake)
    with pytest.raises(DestinationBusy, match="another run has replaced"):
        harness.make().publish(ours)
    assert races == MOST_CONFLICTS
    assert_is(harness, bucket, theirs)
