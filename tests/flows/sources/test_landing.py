"""The landing: whole and verified or not at all, over servers that behave badly."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import itertools
import json
import logging
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.errors import (
    DestinationBusy,
    LocalStorageError,
    SourceBusy,
    SourceCorrupt,
    SourceNotFound,
    SourceUnreachable,
    TaxiError,
    UsageError,
    locate,
)
from flows.settings import Settings
from flows.sources import LandedFile, SourceFile, land, source_version
from flows.sources.inspection import Census
from flows.sources.landing import landed_before, record_path
from flows.sources.transports import BUCKET_CHUNK_BYTES, Request, open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.web import Web

NAME = "yellow_tripdata_2021-01.csv.gz"
PATH = f"/{NAME}"
PART, PART_VERSION, RECORD = f"{NAME}.part", f"{NAME}.part.version", f"{NAME}.json"
HEADER = "VendorID,tpep_pickup_datetime,fare_amount"
ATTEMPTS = 3
SECRETS = ("hunter2", "t0ken")


def trips(seed: int, lines: int = 30_000) -> bytes:
    draw = random.Random(seed)
    rows = (f"{draw.randint(1, 2)},{draw.random()},{draw.random()}" for _ in range(lines))
    return "\n".join([HEADER, *rows, ""]).encode()


CSV, OLD_CSV = trips(1), trips(2)
GZIP, OLD_GZIP = gzip.compress(CSV, 1, mtime=0), gzip.compress(OLD_CSV, 1, mtime=0)
HALF = len(GZIP) // 2
assert len(GZIP) > 2**19  # several network reads and several chunks


def settings(**changes: float) -> Settings:
    usual: dict[str, Any] = {
        "http_timeout_seconds": 5,
        "http_attempts": ATTEMPTS,
        "http_backoff_seconds": 0.001,
        "lock_timeout_seconds": 20,
    }
    return Settings(**usual | changes)


def web_source(web: Web, path: str = PATH) -> SourceFile:
    return SourceFile(web.url + path, path.lstrip("/"))


def file_source(path: Path) -> SourceFile:
    return SourceFile(path.absolute().as_uri(), path.name)


def files_in(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir() if entry.name != ".locks"}


def statuses(web: Web) -> list[int]:
    return [seen.status for seen in web.requests]


def refuse(source: SourceFile, directory: Path, **changes: float) -> TaxiError:
    """The error of a landing, which must be one line."""
    with pytest.raises(TaxiError) as refused:
        land(source, directory, settings(**changes))
    assert "\n" not in str(refused.value)
    return refused.value


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Where files land."""
    return tmp_path / "raw" / "yellow"


# --- a landing that goes well


def test_a_file_lands_whole_with_its_sum_its_census_and_its_record(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP, etag='"v1"')
    landed = land(web_source(web), raw, settings())
    assert landed == LandedFile(
        path=raw / NAME,
        url=web.url + PATH,
        identity=web_source(web).identity,
        version='"v1"',
        kind="csv.gz",
        bytes=len(GZIP),
        sha256=hashlib.sha256(GZIP).hexdigest(),
        header=tuple(HEADER.split(",")),
        census=Census(lines=30_001, separators=60_002, quotes=0, nuls=0, bytes=len(CSV)),
        rows=None,
        modified_ns=(raw / NAME).stat().st_mtime_ns,
        fetched=True,
    )
    assert (raw / NAME).read_bytes() == GZIP
    assert files_in(raw) == {NAME, RECORD}
    assert landed_before(raw / NAME) == replace(landed, fetched=False)


def test_the_record_is_json_that_others_can_read(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP, etag='"v1"')
    land(web_source(web), raw, settings())
    record = json.loads((raw / RECORD).read_text())
    assert record["sha256"] == hashlib.sha256(GZIP).hexdigest()
    assert record["url"] == web.url + PATH
    assert record["version"] == '"v1"'
    assert record["census"]["lines"] == 30_001


def test_the_first_request_asks_for_the_files_own_bytes(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    land(web_source(web), raw, settings())
    (seen,) = web.requests
    assert (seen.method, seen.status, seen.body_bytes) == ("GET", 200, len(GZIP))
    assert seen.headers["accept-encoding"] == "identity"
    assert not {"range", "if-none-match", "if-modified-since"} & seen.headers.keys()


def test_progress_is_reported_up_to_the_end(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    reports: list[tuple[int, int | None]] = []
    land(web_source(web), raw, settings(), report=lambda *report: reports.append(report))
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})
    assert reports[-1] == (len(GZIP), len(GZIP))


def test_a_file_of_unknown_length_lands(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, chunked=True)
    assert land(web_source(web), raw, settings()).bytes == len(GZIP)


def test_a_redirect_is_followed(web: Web, raw: Path) -> None:
    web.put("/elsewhere", GZIP)
    web.misbehave(PATH, status=302, headers={"Location": "/elsewhere?signature=abc"})
    landed = land(web_source(web), raw, settings())
    assert (landed.path.name, landed.url) == (NAME, web.url + PATH)
    assert landed.path.read_bytes() == GZIP
    assert land(web_source(web), raw, settings()).fetched is False
    assert statuses(web) == [302, 200, 302, 304]


def test_a_slow_start_is_waited_for(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, delay_seconds=0.2, times=1)
    land(web_source(web), raw, settings(http_timeout_seconds=5))
    assert statuses(web) == [200]


# --- a landing of what is here already


@pytest.mark.parametrize(
    ("etag", "modified", "header"),
    [
        ('"v1"', "Mon, 04 Jan 2021 00:00:00 GMT", "if-none-match"),
        ('W/"v1"', None, "if-none-match"),
        (None, "Mon, 04 Jan 2021 00:00:00 GMT", "if-modified-since"),
    ],
)
def test_an_unchanged_file_is_not_fetched_again(
    web: Web, raw: Path, etag: str | None, modified: str | None, header: str
) -> None:
    web.put(PATH, GZIP, etag=etag, modified=modified)
    first = land(web_source(web), raw, settings())
    before = (raw / NAME).stat()
    web.requests.clear()
    second = land(web_source(web), raw, settings())
    assert second == replace(first, fetched=False)
    assert (raw / NAME).stat() == before
    (seen,) = web.requests
    assert seen.headers[header] == (etag or modified)
    assert (seen.status, seen.body_bytes) == (304, 0)
    assert files_in(raw) == {NAME, RECORD}


@pytest.mark.parametrize("etag", ['"v1"', "no-quotes"])
def test_a_server_that_ignores_the_condition_is_hung_up_on(web: Web, raw: Path, etag: str) -> None:
    web.put(PATH, GZIP, etag=etag)
    land(web_source(web), raw, settings())
    web.misbehave(PATH, status=200, headers={"ETag": etag}, body=b"not read")
    assert land(web_source(web), raw, settings()).fetched is False
    assert (raw / NAME).read_bytes() == GZIP


def test_a_server_that_calls_the_unknown_unchanged_has_no_file(web: Web, raw: Path) -> None:
    web.misbehave(PATH, status=304)
    error = refuse(web_source(web), raw)
    assert isinstance(error, SourceNotFound)
    assert "HTTP 304, not a file" in error.message
    assert files_in(raw) == set()


def test_a_changed_file_is_fetched_again(web: Web, raw: Path) -> None:
    web.put(PATH, OLD_GZIP)
    old = land(web_source(web), raw, settings())
    web.put(PATH, GZIP)
    new = land(web_source(web), raw, settings())
    assert statuses(web) == [200, 200]
    assert new.fetched
    assert new.sha256 != old.sha256
    assert (raw / NAME).read_bytes() == GZIP
    assert landed_before(raw / NAME) == replace(new, fetched=False)


def test_a_file_without_a_version_is_always_fetched_again(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP, etag=None, modified=None)
    assert land(web_source(web), raw, settings()).version is None
    assert land(web_source(web), raw, settings()).fetched
    assert statuses(web) == [200, 200]


def test_force_fetches_an_unchanged_file(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    land(web_source(web), raw, settings())
    forced = land(web_source(web), raw, settings(), force=True)
    assert forced.fetched
    assert statuses(web) == [200, 200]
    assert "if-none-match" not in web.requests[-1].headers


@pytest.mark.parametrize("damage", ["same size", "same time", "touched", "gone"])
def test_a_copy_that_was_changed_by_hand_is_not_trusted(web: Web, raw: Path, damage: str) -> None:
    web.put(PATH, GZIP)
    landed = land(web_source(web), raw, settings())
    copy = landed.path
    if damage == "same size":
        copy.write_bytes(b"x" * len(GZIP))
    elif damage == "same time":
        copy.write_bytes(GZIP[:-1])
        os.utime(copy, ns=(landed.modified_ns, landed.modified_ns))
    elif damage == "touched":
        os.utime(copy, ns=(1, 1))
    else:
        copy.unlink()
    assert landed_before(copy) is None
    again = land(web_source(web), raw, settings())
    assert again.fetched
    assert copy.read_bytes() == GZIP
    assert "if-none-match" not in web.requests[-1].headers


@pytest.mark.parametrize("record", [None, b"", b"{", b"{}", b"\xff", b'{"path": 5}'])
def test_a_copy_without_a_readable_record_is_not_trusted(web: Web, raw: Path, record: bytes | None) -> None:
    web.put(PATH, GZIP)
    copy = land(web_source(web), raw, settings()).path
    if record is None:
        record_path(copy).unlink()
    else:
        record_path(copy).write_bytes(record)
    assert landed_before(copy) is None
    assert land(web_source(web), raw, settings()).fetched
    assert landed_before(copy) is not None


def test_a_copy_from_another_address_is_not_the_same_file(web: Web, raw: Path) -> None:
    web.put(PATH, OLD_GZIP, etag='"same"')
    web.put("/mirror" + PATH, GZIP, etag='"same"')
    land(web_source(web), raw, settings())
    landed = land(SourceFile(web.url + "/mirror" + PATH, NAME), raw, settings())
    assert landed.fetched
    assert (raw / NAME).read_bytes() == GZIP


def test_a_copy_moved_with_its_record_is_still_trusted(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    land(web_source(web), raw, settings())
    moved = raw.rename(raw.with_name("moved"))
    landed = land(web_source(web), moved, settings())
    assert not landed.fetched
    assert landed.path == moved / NAME


def test_the_version_is_told_without_reading_the_file(web: Web) -> None:
    web.put(PATH, GZIP, etag='"v1"')
    assert source_version(web_source(web), settings()) == '"v1"'
    assert source_version(web_source(web, "/absent"), settings()) is None


# --- bytes that came are not fetched again


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
    elsewhere = f"bytes {HALF + 1}-{len(GZIP) - 1}/{len(GZIP)}"
    web.misbehave(
        PATH,
        times=1,
        status=206,
        headers={"Content-Range": elsewhere, "ETag": '"v1"'},
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


def leave_part(raw: Path, url: str, version: str, content: bytes) -> None:
    """What a killed run leaves."""
    raw.mkdir(parents=True, exist_ok=True)
    (raw / PART).write_bytes(content)
    (raw / PART_VERSION).write_text(f"{SourceFile(url, NAME).identity}\n{version}")


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


LAND_IN_A_PROCESS = """
import sys
from pathlib import Path
from flows.settings import Settings
from flows.sources import SourceFile, land
url, name, directory = sys.argv[1:]
landed = land(SourceFile(url, name), Path(directory), Settings(lock_timeout_seconds=20))
print(landed.fetched, landed.sha256)
"""


def start_landing(web: Web, raw: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LAND_IN_A_PROCESS, web.url + PATH, NAME, str(raw)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(3000):
        if is_so():
            return
        time.sleep(0.01)
    pytest.fail("waited in vain")


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
    assert landed_before(raw / NAME) == replace(old, fetched=False)
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


# --- servers that misbehave


@dataclass(frozen=True)
class Bad:
    """A server's behaviour, and what is to come of it.

    Attributes:
        how: see `Web.misbehave`.
        error, message: what is to be raised; None: it is to be got over.
        changes: of the settings.
        part: whether bytes may be left to go on with.
    """

    how: dict[str, Any]
    error: type[TaxiError] | None = None
    message: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    part: bool = False


def parquet_bytes(rows: int = 1000) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"fare_amount": list(range(rows))}), file)
    return file.getvalue()


IMPATIENT = {"http_timeout_seconds": 0.1, "http_attempts": 20}  # the machine may be slow as well
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
BAD = {
    # Over which it gets.
    "cut once": Bad({"cut_after": HALF, "times": 1}),
    "cut at every quarter": Bad({"cut_after": len(GZIP) // 4}),
    "cut before the body": Bad({"cut_after": 0, "times": 2}),
    "cut in a chunked body": Bad({"cut_after": HALF, "chunked": True, "times": 2}),
    "cut, then the whole file for a range": Bad({"cut_after": 100, "times": 2, "ignore_range": True}),
    "hangs up": Bad({"raw": b"", "times": 2}),
    "speaks no HTTP": Bad({"raw": b"SSH-2.0-OpenSSH_9.9\r\n", "times": 2}),
    "hangs up in the headers": Bad({"raw": b"HTTP/1.1 200 OK\r\nETag: ", "times": 2}),
    "silent once": Bad({"stall_after": HALF, "times": 1}, changes=IMPATIENT),
    "silent before the headers once": Bad({"delay_seconds": 60, "times": 1}, changes=IMPATIENT),
    **{
        f"{status} twice": Bad({"status": status, "times": 2})
        for status in (408, 425, 429, 500, 502, 503, 504)
    },
    # Over which it does not get.
    **{
        f"{status} for good": Bad(
            {"status": status, "body": PAGE}, SourceBusy, f"answered HTTP {status}; run it again"
        )
        for status in (429, 500, 503)
    },
    **{
        f"{status}": Bad(
            {"status": status, "body": PAGE}, SourceNotFound, f"no such file \\(HTTP {status} for"
        )
        for status in (403, 404, 410)
    },
    **{
        f"{status}": Bad({"status": status}, SourceNotFound, f"HTTP {status}, not a file; check the address")
        for status in (204, 400, 401, 451)
    },
    "cut for good": Bad(
        {"cut_after": 1000, "ignore_range": True},
        SourceBusy,
        f"1,000 of {len(GZIP):,} announced bytes came and {ATTEMPTS} attempts brought no more",
        part=True,
    ),
    "cut for good before the body": Bad({"cut_after": 0}, SourceBusy, "cut the connection", part=True),
    "hangs up for good": Bad({"raw": b""}, SourceBusy, "cut the connection"),
    "silent for good": Bad(
        {"stall_after": 1000, "ignore_range": True},
        SourceBusy,
        r"was silent for 0\.1 s.*TAXI_HTTP_TIMEOUT_SECONDS",
        {"http_timeout_seconds": 0.1, "http_attempts": 2},
        part=True,
    ),
    "silent before the headers": Bad(
        {"delay_seconds": 60},
        SourceBusy,
        r"was silent for 0\.1 s.*TAXI_HTTP_TIMEOUT_SECONDS",
        {"http_timeout_seconds": 0.1, "http_attempts": 2},
    ),
    "announces more than it sends": Bad(
        {"headers": {"Content-Length": str(len(GZIP) + 10)}},
        SourceBusy,
        "run it again",
        part=True,
    ),
    "announces less than it sends": Bad(
        {"headers": {"Content-Length": str(len(GZIP) - 10)}},
        SourceCorrupt,
        "truncated file",
    ),
    "a range without its place": Bad(
        {"cut_after": HALF, "headers": {"Content-Range": "bytes"}},
        SourceCorrupt,
        "answered a range without saying which",
    ),
    "redirects in a circle": Bad(
        {"status": 302, "headers": {"Location": PATH}}, SourceNotFound, "redirects in a circle"
    ),
    "redirects to another protocol": Bad(
        {"status": 302, "headers": {"Location": "ftp://127.0.0.1/trips"}},
        SourceNotFound,
        "check the address",
    ),
    "redirects to no address": Bad(
        {"status": 302, "headers": {"Location": "http://127.0.0.1:port/"}},
        SourceBusy,
        "Invalid URL in location",
    ),
    "redirects to nowhere": Bad({"status": 302}, SourceNotFound, "HTTP 302, not a file; check the address"),
    "a page instead": Bad({"body": PAGE}, SourceCorrupt, "sent an HTML or XML page instead"),
    "nothing": Bad({"body": b""}, SourceCorrupt, r"the file is empty \(0 bytes\)"),
    "gzip of nothing": Bad({"body": gzip.compress(b"")}, SourceCorrupt, "empty once unpacked"),
    "gzip of gzip": Bad({"body": gzip.compress(GZIP)}, SourceCorrupt, "compressed twice"),
    "gzip of a page": Bad({"body": gzip.compress(PAGE)}, SourceCorrupt, "an HTML or XML page"),
    "garbage behind": Bad({"body": GZIP + b"<!-- -->"}, SourceCorrupt, "garbage behind the gzip"),
    "a wrong checksum": Bad({"body": GZIP[:-8] + b"12345678"}, SourceCorrupt, "gzip data is damaged"),
    "cut at its origin": Bad({"body": GZIP[:HALF]}, SourceCorrupt, "truncated file"),
    "cut without a length": Bad(
        {"cut_after": HALF, "headers": {"Content-Length": None}}, SourceCorrupt, "truncated file"
    ),
    "a bomb": Bad(
        {"body": gzip.compress(b"a,b\n" + b"0" * 10**7)},
        SourceCorrupt,
        "unpacks to more than 1,000,000 bytes.*TAXI_MAX_UNCOMPRESSED_BYTES",
        {"max_uncompressed_bytes": 1_000_000},
    ),
    "a parquet file cut at its origin": Bad(
        {"body": parquet_bytes()[:-20]}, SourceCorrupt, "no readable footer"
    ),
    "a ZIP archive": Bad({"body": b"PK\3\4" + GZIP}, SourceCorrupt, "a ZIP archive"),
}


@pytest.mark.parametrize("earlier", [False, True], ids=["first landing", "earlier copy"])
@pytest.mark.parametrize("name", BAD)
def test_a_server_that_misbehaves(web: Web, raw: Path, name: str, earlier: bool) -> None:
    bad, source = BAD[name], web_source(web)
    old = None
    if earlier:
        web.put(PATH, OLD_GZIP)
        old = replace(land(source, raw, settings()), fetched=False)
    web.put(PATH, GZIP)
    web.misbehave(PATH, **bad.how)
    if bad.error is None:
        land(source, raw, settings(**bad.changes))
    else:
        error = refuse(source, raw, **bad.changes)
        assert isinstance(error, bad.error)
        assert isinstance(error, SourceBusy) == (bad.error is SourceBusy)
        assert re.search(bad.message, error.message)
        # Whole or not at all: the copy of before, or none.
        assert landed_before(raw / NAME) == old
        assert not earlier or (raw / NAME).read_bytes() == OLD_GZIP
        kept = ({NAME, RECORD} if earlier else set()) | ({PART, PART_VERSION} if bad.part else set())
        assert files_in(raw) <= kept
        web.heal()
        assert land(source, raw, settings()).fetched
    assert (raw / NAME).read_bytes() == GZIP
    landed = landed_before(raw / NAME)
    assert landed is not None
    assert landed.sha256 == hashlib.sha256(GZIP).hexdigest()
    assert files_in(raw) == {NAME, RECORD}


def test_a_file_that_never_stays_the_same_is_given_up(web: Web, raw: Path) -> None:
    versions = itertools.count()

    def change() -> None:
        web.put(PATH, GZIP, etag=f'"v{next(versions)}"')

    change()
    web.misbehave(PATH, cut_after=HALF, ignore_if_range=True, then=change)
    error = refuse(web_source(web), raw)
    assert isinstance(error, SourceBusy)
    assert "the file changed while it was being read" in error.message
    assert "run it again later" in error.message
    assert files_in(raw) <= {PART, PART_VERSION}
    web.heal()
    land(web_source(web), raw, settings())
    assert (raw / NAME).read_bytes() == GZIP


@pytest.mark.parametrize(
    ("how", "requests"),
    [
        ({"status": 503}, ATTEMPTS),
        ({"raw": b""}, ATTEMPTS),
        ({"cut_after": 1000, "ignore_range": True}, ATTEMPTS + 1),  # of which the first brought some
        ({"status": 404}, 1),
        ({"body": PAGE}, 1),
    ],
)
def test_only_what_may_pass_is_tried_again(web: Web, raw: Path, how: dict[str, Any], requests: int) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, **how)
    refuse(web_source(web), raw)
    assert len(web.requests) == requests


def test_bytes_of_an_earlier_run_are_not_new_ones(web: Web, raw: Path) -> None:
    url = web.put(PATH, GZIP, etag='"v1"')
    leave_part(raw, url, '"v1"', GZIP[:HALF])
    web.misbehave(PATH, status=503)
    refuse(web_source(web), raw)
    assert len(web.requests) == ATTEMPTS
    assert (raw / PART).stat().st_size == HALF  # for a better day


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of every pause, none of which is made."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.mark.parametrize(
    ("retry_after", "least"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("86400", 120),
        ("0", 0),
        ("", 0),
        ("-1", 0),
        ("1e9", 0),
        ("\xb2", 0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0),
    ],
)
def test_a_pause_is_as_long_as_the_server_asks(
    web: Web, raw: Path, pauses: list[float], retry_after: str, least: float
) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, status=429, headers={"Retry-After": retry_after}, times=1)
    land(web_source(web), raw, settings())
    assert len(pauses) == 1
    assert least <= pauses[0] <= least + 1


def test_what_the_server_asks_for_is_passed_on_in_the_end(web: Web, raw: Path, pauses: list[float]) -> None:
    web.misbehave(PATH, status=503, headers={"Retry-After": "7"})
    error = refuse(web_source(web), raw)
    assert isinstance(error, SourceBusy)
    assert error.retry_after_seconds == 7


def test_pauses_grow(web: Web, raw: Path, pauses: list[float]) -> None:
    web.misbehave(PATH, status=500)
    refuse(web_source(web), raw, http_attempts=8, http_backoff_seconds=1)
    assert len(pauses) == 7
    for number, seconds in enumerate(pauses):
        assert min(2**number, 30) <= seconds <= min(2**number + 1, 30)


def test_pauses_grow_anew_after_every_new_byte(web: Web, raw: Path, pauses: list[float]) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, cut_after=len(GZIP) // 8)
    land(web_source(web), raw, settings(http_backoff_seconds=1))
    assert len(pauses) >= 7
    assert max(pauses) <= 2


def test_pauses_are_told_in_the_log(web: Web, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, status=502, times=1)
    with caplog.at_level(logging.INFO, logger="flows"):
        land(web_source(web), raw, settings())
    assert "answered HTTP 502" in caplog.text
    assert "Trying again in 0.0 s" in caplog.text


# --- no network


def test_without_a_network_an_earlier_copy_is_named_but_not_taken_for_new(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    first = land(web_source(web), raw, settings())
    web.stop()
    error = refuse(web_source(web), raw)
    assert isinstance(error, SourceUnreachable)
    assert f"--source {first.path}" in error.message
    assert first.is_intact()
    assert land(SourceFile(first.path.as_uri(), "again"), raw, settings()).sha256 == first.sha256


@pytest.mark.parametrize("why", ["never landed", "changed by hand", "forced"])
def test_no_network_and_no_copy_names_the_way_out(web: Web, raw: Path, why: str) -> None:
    web.put(PATH, GZIP)
    if why != "never landed":
        land(web_source(web), raw, settings())
    web.stop()
    if why == "changed by hand":
        (raw / NAME).write_bytes(b"1,2")
    with pytest.raises(SourceUnreachable, match=r"no connection to 127\.0\.0\.1.*--source synthetic"):
        land(web_source(web), raw, settings(), force=why == "forced")
    if why == "forced":
        assert (raw / NAME).read_bytes() == GZIP


def test_a_server_of_another_protocol_is_unreachable(web: Web, raw: Path) -> None:
    web.misbehave("/", raw=b"no TLS here\r\n")
    source = SourceFile(web.url.replace("http:", "https:") + PATH, NAME)
    assert isinstance(refuse(source, raw), SourceUnreachable)


def test_a_server_that_comes_back_is_found(web: Web, raw: Path, pauses: list[float]) -> None:
    url = web.put(PATH, GZIP, etag='"v1"')
    leave_part(raw, url, '"v1"', GZIP[:HALF])
    web.stop()
    error = refuse(web_source(web), raw)
    assert isinstance(error, SourceUnreachable)
    assert len(pauses) == ATTEMPTS - 1
    assert (raw / PART).stat().st_size == HALF


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999/x", "http://exa mple/x", "http://\x7f/"])
def test_an_impossible_address_is_one_clear_line(raw: Path, address: str) -> None:
    error = refuse(SourceFile(address, NAME), raw, http_attempts=1)
    assert isinstance(error, SourceNotFound | SourceUnreachable)
    assert "check" in error.message


# --- secrets


@pytest.mark.parametrize("how", [None, *(name for name, bad in BAD.items() if bad.error)])
def test_no_secret_of_the_address_is_ever_shown(
    web: Web, raw: Path, caplog: pytest.LogCaptureFixture, how: str | None
) -> None:
    caplog.set_level(logging.DEBUG)
    web.put(PATH, GZIP)
    secret = f"{web.url}{PATH}?token=t0ken".replace("//", "//user:hunter2@")
    if how:
        web.misbehave(PATH, **BAD[how].how)
    elsewhere = BAD[how] if how else Bad({})
    shown = ""
    try:
        shown = repr(land(SourceFile(secret, NAME), raw, settings(**elsewhere.changes)))
    except TaxiError as error:
        shown = "".join(traceback.format_exception(error))
    assert web.requests[0].query == {"token": ["t0ken"]}  # the server gets what it needs
    assert web.requests[0].headers["authorization"].startswith("Basic ")
    on_disk = b"".join(file.read_bytes() for file in raw.iterdir() if file.is_file())
    for word in SECRETS:
        assert word not in shown
        assert word not in caplog.text
        assert word.encode() not in on_disk


def test_no_secret_is_shown_without_a_network(web: Web, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    web.put(PATH, GZIP)
    source = SourceFile(f"{web.url}{PATH}?token=t0ken".replace("//", "//user:hunter2@"), NAME)
    land(source, raw, settings())
    web.stop()
    error = refuse(source, raw)
    assert not [word for word in SECRETS if word in "".join(traceback.format_exception(error))]
    error = refuse(SourceFile(source.url, "other"), raw)
    shown = "".join(traceback.format_exception(error)) + caplog.text
    assert not [word for word in SECRETS if word in shown]


def test_the_secrets_of_a_redirect_are_not_shown(
    web: Web, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    web.put("/signed", GZIP)
    there = f"{web.url}/signed?signature=t0ken"
    web.misbehave(PATH, status=302, headers={"Location": there})
    land(web_source(web), raw, settings())
    assert "t0ken" not in caplog.text
    assert "t0ken" not in (raw / RECORD).read_text()


def test_another_query_is_another_file(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    first = land(SourceFile(f"{web.url}{PATH}?key=1", NAME), raw, settings())
    second = land(SourceFile(f"{web.url}{PATH}?key=2", NAME), raw, settings())
    assert second.fetched
    assert (first.url, first.sha256) == (second.url, second.sha256)
    assert first.identity != second.identity


# --- files


def test_a_local_file_lands(raw: Path, tmp_path: Path) -> None:
    origin = tmp_path / NAME
    origin.write_bytes(GZIP)
    landed = land(file_source(origin), raw, settings())
    assert (landed.kind, landed.bytes, landed.fetched) == ("csv.gz", len(GZIP), True)
    assert (raw / NAME).read_bytes() == GZIP
    assert not land(file_source(origin), raw, settings()).fetched
    origin.write_bytes(OLD_GZIP)
    assert land(file_source(origin), raw, settings()).fetched
    assert (raw / NAME).read_bytes() == OLD_GZIP


@pytest.mark.parametrize("folder", ["with space", "50%25", "a#b?c", "ünïcode", "{braces}", "it's"])
def test_any_local_path_can_be_read(raw: Path, tmp_path: Path, folder: str) -> None:
    origin = tmp_path / folder / NAME
    origin.parent.mkdir()
    origin.write_bytes(GZIP)
    assert land(file_source(origin), raw, settings()).bytes == len(GZIP)


def test_any_path_of_a_server_can_be_read(web: Web, raw: Path) -> None:
    url = web.put("/with space/50%/ü.csv.gz", GZIP)
    assert "with%20space/50%25" in url
    assert land(SourceFile(url, NAME), raw, settings()).bytes == len(GZIP)


@pytest.mark.parametrize("origin", ["absent.csv", "absent/trips.csv", "folder", "file/trips.csv"])
def test_a_local_file_that_is_not_there_is_not_found(raw: Path, tmp_path: Path, origin: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    path = tmp_path / origin
    error = refuse(file_source(path), raw)
    assert isinstance(error, SourceNotFound)
    assert str(path) in error.message
    assert files_in(raw) == set()


def test_a_local_file_that_may_not_be_read_says_so(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = tmp_path / NAME
    origin.write_bytes(GZIP)
    origin.chmod(0)
    if os.access(origin, os.R_OK):  # as root may, whatever the mode says

        def denied(path: Path, *_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        monkeypatch.setattr(Path, "open", denied)
    error = refuse(file_source(origin), raw)
    assert isinstance(error, SourceNotFound)
    assert f"no permission to read {origin}" in error.message


@pytest.mark.parametrize(
    ("name", "content", "kind", "census", "rows"),
    [
        ("t.csv", CSV, "csv", Census(30_001, 60_002, 0, 0, len(CSV)), None),
        ("t.csv.gz", GZIP, "csv.gz", Census(30_001, 60_002, 0, 0, len(CSV)), None),
        (
            "t.csv.gz",
            b"".join(gzip.compress(CSV[at : at + 99_999]) for at in range(0, len(CSV), 99_999)),
            "csv.gz",
            Census(30_001, 60_002, 0, 0, len(CSV)),
            None,
        ),
        ("t.parquet", parquet_bytes(1234), "parquet", None, 1234),
        # Names that lie.
        ("t.csv.gz", CSV, "csv", Census(30_001, 60_002, 0, 0, len(CSV)), None),
        ("t.csv", GZIP, "csv.gz", Census(30_001, 60_002, 0, 0, len(CSV)), None),
        ("t.csv.gz", parquet_bytes(1234), "parquet", None, 1234),
        ("t.parquet", GZIP, "csv.gz", Census(30_001, 60_002, 0, 0, len(CSV)), None),
        ("t", b"a", "csv", Census(1, 0, 0, 0, 1), None),
    ],
)
@pytest.mark.parametrize("over_http", [False, True], ids=["file", "http"])
def test_kinds_are_told_by_content(
    web: Web,
    raw: Path,
    tmp_path: Path,
    name: str,
    content: bytes,
    kind: str,
    census: Census | None,
    rows: int | None,
    over_http: bool,
) -> None:
    origin = tmp_path / name
    origin.write_bytes(content)
    web.serve(tmp_path)
    source = web_source(web, f"/{name}") if over_http else file_source(origin)
    landed = land(source, raw, settings())
    assert (landed.kind, landed.census, landed.rows) == (kind, census, rows)
    assert (raw / name).read_bytes() == content
    assert landed_before(raw / name) == replace(landed, fetched=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (PAGE, "HTML"),
        (GZIP[:-1], "truncated"),
        (parquet_bytes()[:-1], "no readable footer"),
        (parquet_bytes()[:500], "no readable footer"),
        (b"BZh91AY&SY", "bzip2"),
    ],
)
def test_a_local_file_that_is_no_trip_file_does_not_land(
    raw: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    origin = tmp_path / NAME
    origin.write_bytes(OLD_GZIP)
    old = land(file_source(origin), raw, settings())
    origin.write_bytes(content)
    error = refuse(file_source(origin), raw)
    assert isinstance(error, SourceCorrupt)
    assert message in error.message
    assert landed_before(raw / NAME) == replace(old, fetched=False)
    assert files_in(raw) == {NAME, RECORD}


def test_a_local_file_that_grows_while_it_is_read_does_not_land(raw: Path, tmp_path: Path) -> None:
    origin = tmp_path / "trips.csv"
    origin.write_bytes(CSV)

    def grow(_done: int, _total: int | None) -> None:
        if origin.stat().st_size == len(CSV):
            with origin.open("ab") as file:
                file.write(b"1,2,3\n")

    with pytest.raises(SourceCorrupt, match=r"bytes came where .* were announced"):
        land(file_source(origin), raw, settings(), report=grow)
    assert files_in(raw) == set()


def test_a_local_file_that_shrinks_while_it_is_read_is_read_anew(raw: Path, tmp_path: Path) -> None:
    origin = tmp_path / "trips.csv"
    origin.write_bytes(CSV)

    def shrink(_done: int, _total: int | None) -> None:
        if origin.stat().st_size == len(CSV):
            os.truncate(origin, len(CSV) // 2)

    assert land(file_source(origin), raw, settings(), report=shrink).bytes == len(CSV) // 2


# --- buckets

OBJECT = f"gs://bucket/yellow/{NAME}"
OBJECT_INFO = f"/storage/v1/b/bucket/o/yellow/{NAME}"
OBJECT_DATA = f"/download{OBJECT_INFO}"


def put_object(web: Web, content: bytes, generation: int) -> None:
    info = {
        "name": f"yellow/{NAME}",
        "bucket": "bucket",
        "generation": str(generation),
        "size": str(len(content)),
        "updated": "2021-02-01T00:00:00Z",
        "timeCreated": "2021-02-01T00:00:00Z",
    }
    web.put(OBJECT_INFO, json.dumps(info).encode())
    web.put(OBJECT_DATA, content, etag=None)


@pytest.fixture
def bucket(web: Web, monkeypatch: pytest.MonkeyPatch) -> SourceFile:
    """A file in a bucket of which `web` plays the server."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", web.url)
    import gcsfs.retry

    async def no_pause(_seconds: float) -> None:
        pass

    monkeypatch.setattr(gcsfs.retry, "asyncio", SimpleNamespace(sleep=no_pause))
    put_object(web, GZIP, generation=1)
    return SourceFile(OBJECT, NAME)


def test_a_file_in_a_bucket_lands(web: Web, raw: Path, bucket: SourceFile) -> None:
    landed = land(bucket, raw, settings())
    assert (landed.url, landed.version, landed.bytes) == (OBJECT, "1", len(GZIP))
    assert (raw / NAME).read_bytes() == GZIP
    web.requests.clear()
    assert not land(bucket, raw, settings()).fetched
    assert OBJECT_DATA not in {seen.path for seen in web.requests}
    put_object(web, OLD_GZIP, generation=2)
    assert land(bucket, raw, settings()).version == "2"
    assert (raw / NAME).read_bytes() == OLD_GZIP


def test_a_file_in_a_bucket_goes_on_where_it_stopped(web: Web, raw: Path, bucket: SourceFile) -> None:
    leave_part(raw, OBJECT, "1", GZIP[:HALF])
    land(bucket, raw, settings())
    assert (raw / NAME).read_bytes() == GZIP
    (data,) = [seen for seen in web.requests if seen.path == OBJECT_DATA]
    assert data.headers["range"].startswith(f"bytes={HALF}-")
    leave_part(raw, OBJECT, "1", GZIP[:HALF])
    put_object(web, OLD_GZIP, generation=2)
    land(bucket, raw, settings())
    assert (raw / NAME).read_bytes() == OLD_GZIP


def test_a_file_in_a_bucket_that_is_replaced_meanwhile_is_no_mixture(
    web: Web, raw: Path, bucket: SourceFile
) -> None:
    new, old = (trips(seed) * 10 for seed in (1, 2))
    assert len(old) > BUCKET_CHUNK_BYTES
    put_object(web, old, generation=1)
    web.misbehave(OBJECT_DATA, times=1, then=lambda: put_object(web, new, generation=2))
    web.misbehave(OBJECT_DATA, times=1, status=404)  # what becomes of the generation before
    land(bucket, raw, settings())
    assert (raw / NAME).read_bytes() == new
    asked = [seen.query["generation"] for seen in web.requests if seen.path == OBJECT_DATA]
    assert asked[:3] == [["1"], ["1"], ["2"]]


@pytest.mark.parametrize(
    ("path", "how", "error", "message"),
    [
        (OBJECT_INFO, {"status": 404}, SourceNotFound, f"there is no {OBJECT}"),
        (OBJECT_INFO, {"status": 401}, SourceNotFound, "check the credentials"),
        (OBJECT_INFO, {"status": 400, "body": b"invalid bucket name"}, SourceNotFound, "invalid"),
        (OBJECT_INFO, {"status": 503}, SourceBusy, "run it again"),
        (OBJECT_INFO, {"status": 502}, SourceBusy, "run it again"),
        (OBJECT_INFO, {"status": 429}, SourceBusy, "run it again"),
        (OBJECT_DATA, {"status": 503}, SourceBusy, "run it again"),
        (OBJECT_DATA, {"raw": b""}, SourceBusy, "run it again"),
        (OBJECT_DATA, {"cut_after": 1000}, SourceBusy, "run it again"),
    ],
)
def test_a_bucket_that_misbehaves(
    web: Web,
    raw: Path,
    bucket: SourceFile,
    path: str,
    how: dict[str, Any],
    error: type[TaxiError],
    message: str,
) -> None:
    web.misbehave(path, **how)
    refused = refuse(bucket, raw, http_attempts=2)
    assert isinstance(refused, error)
    assert message in refused.message
    assert files_in(raw) <= {PART, PART_VERSION}
    web.heal()
    assert land(bucket, raw, settings()).bytes == len(GZIP)


def test_a_bucket_without_a_network(web: Web, raw: Path, bucket: SourceFile) -> None:
    first = land(bucket, raw, settings())
    web.stop()
    with pytest.raises(SourceUnreachable, match=f"--source {first.path}"):
        land(bucket, raw, settings(http_attempts=1))
    with pytest.raises(SourceUnreachable, match="--source synthetic"):
        land(bucket, raw, settings(http_attempts=1), force=True)


def test_a_bucket_is_asked_by_nobody_if_there_are_no_credentials(
    web: Web, raw: Path, bucket: SourceFile, no_google_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcsfs.core._location", lambda *_: web.url)
    assert land(bucket, raw, settings()).bytes == len(GZIP)  # it is public
    assert not [seen for seen in web.requests if "authorization" in seen.headers]
    web.misbehave(OBJECT_INFO, status=401)
    error = refuse(bucket, raw)
    assert isinstance(error, SourceNotFound)
    assert "TAXI_GCP_KEY_FILE" in error.message


def test_credentials_that_cannot_be_read_are_said_and_not_left_out(
    raw: Path, bucket: SourceFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(UsageError, match=r"absent\.json"):
        land(bucket, raw, settings())


# --- the local disk


@contextlib.contextmanager
def files_no_larger_than(limit_bytes: int) -> Iterator[None]:
    """A disk that is full sooner."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("over_http", [False, True], ids=["file", "http"])
def test_a_full_disk_is_no_fault_of_the_source(web: Web, raw: Path, tmp_path: Path, over_http: bool) -> None:
    (tmp_path / NAME).write_bytes(OLD_GZIP)
    web.serve(tmp_path)
    source = web_source(web) if over_http else file_source(tmp_path / NAME)
    old = land(source, raw, settings())
    (tmp_path / NAME).write_bytes(GZIP)
    web.heal()
    with (
        files_no_larger_than(300_000),
        pytest.raises(LocalStorageError, match="File too large") as full,
        locate("yellow 2021-01"),
    ):
        land(source, raw, settings())
    assert full.value.where == "yellow 2021-01"
    assert landed_before(raw / NAME) == replace(old, fetched=False)
    assert len(web.requests) == over_http  # once: a full disk does not pass by itself
    assert land(source, raw, settings()).fetched
    assert (raw / NAME).read_bytes() == GZIP
    assert files_in(raw) == {NAME, RECORD}


@pytest.mark.parametrize(
    "trouble",
    [
        PermissionError(13, "Permission denied", "/data"),
        FileNotFoundError(2, "No such file or directory", "/data"),
        OSError(28, "No space left on device"),
    ],
)
def test_trouble_on_this_side_is_not_blamed_on_the_source(
    web: Web, bucket: SourceFile, tmp_path: Path, trouble: OSError
) -> None:
    (tmp_path / NAME).write_bytes(GZIP)
    web.serve(tmp_path)
    for source in (file_source(tmp_path / NAME), web_source(web), bucket):
        with (
            pytest.raises(type(trouble)) as raised,
            open_source(Request(source.url), settings()),
        ):
            raise trouble
        assert raised.value is trouble


# --- two at once


def test_two_threads_fetch_one_copy(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, delay_seconds=0.2, times=1)
    start = threading.Barrier(2)

    def run() -> LandedFile:
        start.wait()
        return land(web_source(web), raw, settings())

    with ThreadPoolExecutor(2) as pool:
        landed = [run.result() for run in [pool.submit(run), pool.submit(run)]]
    assert sorted(statuses(web)) == [200, 304]
    assert sorted(file.fetched for file in landed) == [False, True]
    assert {file.sha256 for file in landed} == {hashlib.sha256(GZIP).hexdigest()}
    assert (raw / NAME).read_bytes() == GZIP
    assert files_in(raw) == {NAME, RECORD}


def test_two_processes_fetch_one_copy(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    both_here = threading.Event()
    web.misbehave(PATH, then=lambda: both_here.wait(20), times=1)
    with start_landing(web, raw) as first, start_landing(web, raw) as second:
        wait_until(lambda: len(web.requests) == 1)
        locks = raw / ".locks"
        wait_until(lambda: any(locks.iterdir()))
        time.sleep(0.3)  # the other one comes to the lock; if it came later, the test would pass too
        both_here.set()
        said = [run.communicate(timeout=60)[0].split() for run in (first, second)]
    sha256 = hashlib.sha256(GZIP).hexdigest()
    assert sorted(said) == [["False", sha256], ["True", sha256]]
    assert statuses(web) == [200, 304]
    assert files_in(raw) == {NAME, RECORD}


def test_a_landing_that_goes_on_for_too_long_is_not_waited_for(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    go_on, asked = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        go_on.wait(20)

    web.misbehave(PATH, then=hold, times=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(land, web_source(web), raw, settings(http_timeout_seconds=30))
        asked.wait(20)
        with pytest.raises(DestinationBusy, match="TAXI_LOCK_TIMEOUT_SECONDS"):
            land(web_source(web), raw, settings(lock_timeout_seconds=0.1))
        go_on.set()
        assert first.result().fetched


# --- synthetic trips


def test_synthetic_trips_land_like_any_others(raw: Path) -> None:
    source = SourceFile("synthetic://yellow/2021-01?rows=500&seed=1&broken_rows=0", NAME)
    landed = land(source, raw, settings())
    assert landed.kind == "csv.gz"
    assert landed.census is not None
    assert landed.census.lines == 501
    assert not land(source, raw, settings()).fetched
    other = replace(source, url=source.url.replace("rows=500", "rows=600"))
    assert land(other, raw, settings()).fetched
