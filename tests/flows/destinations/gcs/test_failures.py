"""Whatever breaks on the way to the bucket, one whole object stays, and what arrived is not sent again."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from support.destinations import Apart
from support.gcs import GRAIN_BYTES
from support.gcs_harness import SMALL_CHUNK_BYTES, GcsHarness, publish_in_small_chunks

from flows.destinations.gcs import upload as gcs_upload
from flows.destinations.gcs.connection import LONGEST_RETRY_AFTER_SECONDS, GcsAddress
from flows.destinations.gcs.destination import AFTER_CONFLICTS, Gcs
from flows.errors import DestinationBusy, DestinationRefused, Stopped
from flows.gcp import google_credentials
from flows.runtime import clear_stop, request_stop, retry
from flows.settings import Settings
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.destinations import Months
    from support.gcs import Bucket, ServiceAccount

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
        *((kind, 503) for kind in ("object", "begin", "chunk", "read")),
        *(("chunk", status) for status in (408, 429, 500, 502, 504)),
    ],
)
def test_a_server_that_is_busy_for_a_moment(
    harness: GcsHarness, bucket: Bucket, months: Months, kind: str, status: int
) -> None:
    staged = months.trips(JANUARY)
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
    assert sent_bytes(bucket) == large.path.stat().st_size + SMALL_CHUNK_BYTES, "one chunk twice"
    assert_is(harness, bucket, large)


@pytest.mark.parametrize("kept_grains", [0, 1, 2, 3])
def test_a_cut_connection_is_resumed_with_the_same_chunk(
    harness: GcsHarness,
    bucket: Bucket,
    large: StagedMonth,
    monkeypatch: pytest.MonkeyPatch,
    kept_grains: int,
) -> None:
    monkeypatch.setattr(gcs_upload, "CHUNK_BYTES", 3 * GRAIN_BYTES)
    bucket.front.misbehave("chunk", skip=1, keep_bytes=kept_grains * GRAIN_BYTES)
    assert harness.make().publish(large).rows == MANY_ROWS
    assert sent_bytes(bucket) == large.path.stat().st_size + 3 * GRAIN_BYTES, "one chunk twice"
    assert bucket.front.kinds().count("begin") == 1
    assert_is(harness, bucket, large)


def test_a_connection_cut_at_the_first_chunk(harness: GcsHarness, bucket: Bucket, large: StagedMonth) -> None:
    bucket.front.misbehave("chunk", keep_bytes=0)
    assert harness.make().publish(large).rows == MANY_ROWS
    assert_is(harness, bucket, large)


@pytest.mark.parametrize("kept", [{}, {"Range": "bytes=0-0"}, {"Range": f"bytes=0-{GRAIN_BYTES - 1}"}])
def test_an_upload_begins_again_if_a_chunk_is_acknowledged_and_not_kept(
    harness: GcsHarness, bucket: Bucket, large: StagedMonth, kept: dict[str, str]
) -> None:
    bucket.front.misbehave("chunk", skip=2, status=308, headers=kept)
    assert harness.make().publish(large).rows == MANY_ROWS
    assert bucket.front.kinds().count("begin") == 2
    assert_is(harness, bucket, large)


def test_a_file_of_whole_chunks(
    harness: GcsHarness, bucket: Bucket, large: StagedMonth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last request has no content."""
    size = -(-large.path.stat().st_size // SMALL_CHUNK_BYTES) * SMALL_CHUNK_BYTES
    monkeypatch.setattr(gcs_upload, "CHUNK_BYTES", size)
    original = large.path.read_bytes()
    content = _padded_parquet(original, size)
    large.path.write_bytes(content)
    try:
        assert harness.make().publish(large).status == "published"
        assert bucket.front.kinds() == ["object", "begin", "chunk", "end", "read"]
        assert bucket.read(NAME) == content
        bucket.front.misbehave("end", then=first_of_all(harness, large))
        assert harness.make().publish(large, force=True).status == "published"
        assert bucket.front.kinds().count("begin") == 4, "overtaken at the end, and begun again"
    finally:
        large.path.write_bytes(original)


def _padded_parquet(content: bytes, size: int) -> bytes:
    """The same rows in a larger file: nothing points to the bytes before the footer."""
    footer_bytes = int.from_bytes(content[-8:-4], "little") + 8
    return content[:-footer_bytes] + bytes(size - len(content)) + content[-footer_bytes:]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of every pause, none of which is made."""
    seconds: list[float] = []
    monkeypatch.setattr(retry, "pause", seconds.append)
    return seconds


def test_pauses_grow_and_are_as_long_as_the_server_asks(
    harness: GcsHarness, bucket: Bucket, pauses: list[float]
) -> None:
    harness.place.settings["http_backoff_seconds"] = 1.0
    bucket.front.misbehave("object", times=4, status=503, body=BUSY)
    assert harness.make().loaded(JANUARY) is None
    for doubled, seconds in zip((1, 2, 4, 8), pauses, strict=True):
        assert 0.75 * doubled <= seconds <= 1.25 * doubled
    pauses.clear()
    for asked in ("7", "3600", "Fri, 31 Dec 2027 23:59:59 GMT"):
        bucket.front.misbehave("object", status=503, body=BUSY, headers={"Retry-After": asked})
    assert harness.make().loaded(JANUARY) is None
    assert pauses[:2] == [7, LONGEST_RETRY_AFTER_SECONDS]
    assert 3 <= pauses[2] <= 5


def test_a_pause_ends_when_the_run_is_told_to_stop(harness: GcsHarness, bucket: Bucket) -> None:
    bucket.front.misbehave("object", status=503, headers={"Retry-After": "20"}, then=request_stop)
    started = time.monotonic()
    try:
        with pytest.raises(Stopped):
            harness.make().loaded(JANUARY)
    finally:
        clear_stop()
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("skip", [0, 1, 99], ids=["first", "second", "last"])
def test_an_answer_that_is_lost(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth, skip: int
) -> None:
    chunks = -(-large.path.stat().st_size // SMALL_CHUNK_BYTES)
    bucket.front.misbehave("chunk", skip=min(skip, chunks - 1), lose_answer=True)
    assert harness.make().publish(large).status == "published"
    assert large.path.stat().st_size < sent_bytes(bucket) <= large.path.stat().st_size + SMALL_CHUNK_BYTES
    assert bucket.front.kinds().count("begin") == 1
    assert_is(harness, bucket, large)


@pytest.mark.parametrize("kind", ["object", "begin", "read"])
def test_a_connection_that_breaks_outside_the_content(
    harness: GcsHarness, bucket: Bucket, months: Months, kind: str
) -> None:
    bucket.front.misbehave(kind, times=2, lose_answer=True)
    assert harness.make().publish(months.trips(JANUARY)).status == "published"
    assert bucket.front.kinds().count(kind) == 3
    assert_is(harness, bucket, months.trips(JANUARY))


@pytest.mark.parametrize("force", [False, True])
def test_the_last_answer_is_lost_and_the_upload_forgotten(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth, force: bool
) -> None:
    chunks = -(-large.path.stat().st_size // SMALL_CHUNK_BYTES)
    bucket.front.misbehave("chunk", skip=chunks - 1, lose_answer=True)
    bucket.front.misbehave("chunk", then=bucket.front.uploads.clear)
    receipt = harness.make().publish(large, force=force)
    assert (receipt.status, receipt.rows) == ("published", MANY_ROWS)
    last = large.path.stat().st_size - (chunks - 1) * SMALL_CHUNK_BYTES
    assert sent_bytes(bucket) == large.path.stat().st_size + last, "recognised as our own, not sent twice"
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
    monkeypatch.setattr(gcs_upload, "SLOWEST_BYTES_PER_SECOND", 2**30)
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
    chunks = -(-large.path.stat().st_size // SMALL_CHUNK_BYTES)
    assert bucket.front.kinds().count("chunk") == chunks + 4
    assert bucket.front.kinds().count("begin") == 1
    assert_is(harness, bucket, large)


# What does not pass


@pytest.mark.parametrize(("kind", "skip"), [("object", 0), ("begin", 0), ("chunk", 0), ("chunk", 3)])
def test_a_server_that_stays_busy_is_given_up(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth, kind: str, skip: int
) -> None:
    bucket.front.misbehave(kind, skip=skip, times=99, status=503, body=BUSY)
    with pytest.raises(DestinationBusy, match=r"cannot do it now \(Service Unavailable\)") as busy:
        harness.make().publish(large)
    assert bucket.front.kinds().count(kind) == skip + 5
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


@pytest.fixture
def signed_in(harness: GcsHarness, bucket: Bucket, service_account: ServiceAccount) -> Gcs:
    """The bucket with credentials that have a token: without any, 401 cannot be answered with another one."""
    key = {**json.loads(service_account.key_file.read_text()), "token_uri": bucket.front.url + "/token"}
    settings = Settings(_env_file=None, gcp_key_json=SecretStr(json.dumps(key)))
    return Gcs(GcsAddress(google_credentials(settings), bucket.name, emulator=bucket.front.url))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kind", ["object", "begin", "chunk"])
def test_no_right_to_do_it_is_one_line_and_not_tried_again(
    harness: GcsHarness,
    bucket: Bucket,
    old: StagedMonth,
    large: StagedMonth,
    signed_in: Gcs,
    kind: str,
    status: int,
) -> None:
    bucket.front.misbehave(kind, times=99, status=status, body=FORBIDDEN)
    with pytest.raises(DestinationRefused) as refused:
        signed_in.publish(large)
    message = refused.value.message
    assert bucket.name in message
    assert "does not have storage.objects.create access" in message
    assert ("roles/storage.objectUser" if status == 403 else "TAXI_GCP_KEY_FILE") in message
    assert "ya29" not in message
    assert "upload_id" not in message
    assert len(message.splitlines()) == 1
    assert "upload_id" not in "".join(traceback.format_exception(refused.value))
    # After 401 Google's client asks for a new token, twice, and sends the request with it.
    assert bucket.front.kinds().count(kind) == (1 if status == 403 else 3)
    assert bucket.front.kinds().count("token") == (1 if status == 403 else 3)
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


def test_an_upload_that_is_stopped_leaves_the_old_object(
    harness: GcsHarness, bucket: Bucket, old: StagedMonth, large: StagedMonth
) -> None:
    def report(done: int, _: int | None) -> None:
        if done:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        harness.make().publish(large, report=report)
    assert bucket.front.kinds() == ["object", "object", "begin", "chunk"]  # the month, and its rejects
    [upload] = [upload for upload in bucket.front.uploads.values() if not upload.finished]
    assert upload.arrived == SMALL_CHUNK_BYTES, (
        "unfinished: nobody sees it, and Google forgets it after a week"
    )
    assert_is(harness, bucket, old)
    assert harness.make().publish(large).status == "published"
    assert_is(harness, bucket, large)


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
    assert races == AFTER_CONFLICTS.attempts
    assert_is(harness, bucket, theirs)
