"""Bytes that came are not fetched again: within a run, and after one that was killed."""

from __future__ import annotations

import gzip
import hashlib
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.landing import (
    CSV,
    GZIP,
    HALF,
    NAME,
    OLD_GZIP,
    PART,
    PART_VERSION,
    PATH,
    RECORD,
    files_in,
    leave_part,
    refuse,
    settings,
    start_landing,
    statuses,
    trips,
    wait_until,
    web_source,
)

from flows.errors import SourceCorrupt
from flows.sources import find_landed, land

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.web import Web


def test_a_cut_download_goes_on_where_it_stopped(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP, etag='"v1"')
    web.misbehave(PATH, cut_after=HALF, times=1)
    land(web_source(web), raw, settings())
    first, second = web.requests
    assert (first.status, second.status) == (200, 206)
    assert second.headers["range"] == f"bytes={HALF}-"
    assert second.headers["if-range"] == '"v1"'
    assert second.body_bytes == len(GZIP) - HALF
    assert (raw / NAME).read_bytes() == GZIP
    assert files_in(raw) == {NAME, RECORD}


@pytest.mark.parametrize("cut_after", [2**16 + 1, 2**18 + 1])
def test_every_new_byte_makes_the_attempts_count_anew(web: Web, raw: Path, cut_after: int) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, cut_after=cut_after)
    land(web_source(web), raw, settings(http_attempts=1, http_backoff_seconds=0))
    assert len(web.requests) == -(-len(GZIP) // cut_after)
    assert sum(cut_after for _ in web.requests) < len(GZIP) + cut_after  # no byte came twice
    assert (raw / NAME).read_bytes() == GZIP


def test_a_download_of_few_bytes_at_a_time_gets_there(web: Web, raw: Path) -> None:
    small = gzip.compress(trips(3, 20), mtime=0)
    web.put(PATH, small)
    web.misbehave(PATH, cut_after=len(small) // 10)
    land(web_source(web), raw, settings(http_attempts=1, http_backoff_seconds=0))
    assert (raw / NAME).read_bytes() == small
    assert len(web.requests) in (10, 11)


def test_a_download_without_a_version_starts_over(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP, etag=None, modified=None)
    web.misbehave(PATH, cut_after=HALF, times=1)
    land(web_source(web), raw, settings())
    assert statuses(web) == [200, 200]
    assert not any("range" in seen.headers for seen in web.requests)
    assert (raw / NAME).read_bytes() == GZIP


def test_a_date_serves_as_a_version_to_go_on_with(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP, etag=None, modified="Mon, 04 Jan 2021 00:00:00 GMT")
    web.misbehave(PATH, cut_after=HALF, times=1)
    land(web_source(web), raw, settings())
    assert statuses(web) == [200, 206]
    assert web.requests[-1].headers["if-range"] == "Mon, 04 Jan 2021 00:00:00 GMT"


@pytest.mark.parametrize("ignore_if_range", [False, True])
def test_a_file_that_changes_between_two_ranges_starts_over(
    web: Web, raw: Path, ignore_if_range: bool
) -> None:
    web.put(PATH, OLD_GZIP)
    web.misbehave(PATH, cut_after=HALF, times=1, then=lambda: web.put(PATH, GZIP))
    web.misbehave(PATH, ignore_if_range=ignore_if_range, times=1)
    landed = land(web_source(web), raw, settings())
    assert statuses(web) == ([200, 206, 200] if ignore_if_range else [200, 200])
    assert (raw / NAME).read_bytes() == GZIP
    assert landed.version == web.find(PATH).etag  # type: ignore[union-attr]


def test_a_range_that_starts_elsewhere_is_not_appended(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP, etag='"v1"')
    web.misbehave(PATH, cut_after=HALF, times=1)
    another_range = f"bytes {HALF + 1}-{len(GZIP) - 1}/{len(GZIP)}"
    web.misbehave(
        PATH,
        times=1,
        status=206,
        headers={"Content-Range": another_range, "ETag": '"v1"'},
        body=GZIP[HALF + 1 :],
    )
    land(web_source(web), raw, settings())
    assert statuses(web) == [200, 206, 200]
    assert (raw / NAME).read_bytes() == GZIP


def test_a_range_of_unknown_size_does_not_make_a_cut_file_whole(web: Web, raw: Path) -> None:
    web.put(PATH, CSV, etag='"v1"')  # plain text: nothing but its size tells that it is cut
    web.misbehave(PATH, cut_after=HALF, times=1)
    web.misbehave(
        PATH,
        times=1,
        status=206,
        headers={"Content-Range": f"bytes {HALF}-{HALF + 99}/*", "ETag": '"v1"'},
        body=CSV[HALF : HALF + 100],
    )
    land(web_source(web), raw, settings())
    assert (raw / NAME).read_bytes() == CSV


def test_the_next_run_goes_on_where_a_killed_one_stopped(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP, etag='"v1"')
    leave_part(raw, web.url + PATH, '"v1"', GZIP[:HALF])
    landed = land(web_source(web), raw, settings())
    (seen,) = web.requests
    assert (seen.status, seen.body_bytes) == (206, len(GZIP) - HALF)
    assert (raw / NAME).read_bytes() == GZIP
    assert landed.sha256 == hashlib.sha256(GZIP).hexdigest()
    assert landed.census is not None
    assert landed.census.bytes == len(CSV)
    assert files_in(raw) == {NAME, RECORD}


def test_the_next_run_starts_over_when_the_file_has_changed(web: Web, raw: Path) -> None:
    url = web.put(PATH, GZIP, etag='"v2"')
    leave_part(raw, url, '"v1"', OLD_GZIP[:HALF])
    land(web_source(web), raw, settings())
    assert statuses(web) == [200]
    assert (raw / NAME).read_bytes() == GZIP


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(lambda url: (url, '"v1"', b"<html>" * 9), id="a page in place of the file"),
        pytest.param(lambda url: (url + "x", '"v1"', b"other"), id="another address"),
        pytest.param(lambda url: (url, "", OLD_GZIP[:9]), id="no version"),
        pytest.param(lambda url: (url, '"v1"\nmore', OLD_GZIP[:9]), id="unreadable version"),
        pytest.param(lambda url: (url, '"v1"', GZIP + b"more"), id="more than there is"),
        pytest.param(lambda url: (url, '"v1"', GZIP), id="all there is"),
        pytest.param(lambda url: (url, '"v1"', b""), id="nothing"),
    ],
)
def test_any_leftover_of_a_killed_run_ends_in_the_whole_file(
    web: Web, raw: Path, left: Callable[[str], tuple[str, str, bytes]]
) -> None:
    url = web.put(PATH, GZIP, etag='"v1"')
    leave_part(raw, *left(url))
    land(web_source(web), raw, settings())
    assert (raw / NAME).read_bytes() == GZIP
    assert files_in(raw) == {NAME, RECORD}


@pytest.mark.parametrize("gone", [PART, PART_VERSION])
def test_half_of_a_leftover_is_not_used(web: Web, raw: Path, gone: str) -> None:
    url = web.put(PATH, GZIP, etag='"v1"')
    leave_part(raw, url, '"v1"', OLD_GZIP[:HALF])
    (raw / gone).unlink()
    land(web_source(web), raw, settings())
    assert statuses(web) == [200]
    assert (raw / NAME).read_bytes() == GZIP
    assert files_in(raw) == {NAME, RECORD}


def test_wrong_bytes_in_a_leftover_are_found_by_the_checksum(web: Web, raw: Path) -> None:
    url = web.put(PATH, GZIP, etag='"v1"')
    leave_part(raw, url, '"v1"', GZIP[: HALF - 50] + b"\0" * 50)
    error = refuse(web_source(web), raw)
    assert isinstance(error, SourceCorrupt)
    assert files_in(raw) == set()
    land(web_source(web), raw, settings())
    assert (raw / NAME).read_bytes() == GZIP


def test_a_run_that_is_killed_leaves_bytes_to_go_on_with(web: Web, raw: Path) -> None:
    web.put(PATH, OLD_GZIP)
    old = land(web_source(web), raw, settings())
    web.put(PATH, GZIP)
    web.misbehave(PATH, stall_after=HALF, times=1)
    part = raw / PART
    with start_landing(web, raw) as run:
        wait_until(lambda: part.exists() and part.stat().st_size > HALF // 2)
        run.send_signal(signal.SIGKILL)
    came = part.stat().st_size
    assert find_landed(raw / NAME) == replace(old, fetched=False)
    web.heal()
    assert land(web_source(web), raw, settings()).fetched
    (seen,) = web.requests
    assert (seen.status, seen.headers["range"]) == (206, f"bytes={came}-")
    assert (raw / NAME).read_bytes() == GZIP
    assert files_in(raw) == {NAME, RECORD}


def test_what_a_run_killed_while_recording_left_is_swept_up(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    raw.mkdir(parents=True)
    (raw / f".{RECORD}.4711.tmp").touch()
    (raw / NAME).write_bytes(OLD_GZIP)
    land(web_source(web), raw, settings())
    assert files_in(raw) == {NAME, RECORD}
    assert (raw / NAME).read_bytes() == GZIP
