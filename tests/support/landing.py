"""Support for the tests of the landing: files to serve, bad servers, landings in other processes."""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.errors import SourceBusy, SourceCorrupt, SourceNotFound, SourceUnreachable, TaxiError
from flows.settings import Settings
from flows.sources import SourceFile, land

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.web import Web

NAME = "yellow_tripdata_2021-01.csv.gz"
PATH = f"/{NAME}"
PART, PART_VERSION, RECORD = f"{NAME}.part", f"{NAME}.part.version", f"{NAME}.json"
HEADER = "VendorID,tpep_pickup_datetime,fare_amount"
ATTEMPTS = 3


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
        "min_free_disk_bytes": 0,
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


def leave_part(raw: Path, url: str, version: str, content: bytes) -> None:
    """Leave the partial file of a killed run."""
    raw.mkdir(parents=True, exist_ok=True)
    (raw / PART).write_bytes(content)
    (raw / PART_VERSION).write_text(f"{SourceFile(url, NAME).identity}\n{version}")


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
    pytest.fail("the condition did not become true in time")


@dataclass(frozen=True)
class Bad:
    """A server's behaviour, and the expected result.

    Attributes:
        how: see `Web.misbehave`.
        error, message: the expected error; None: the file is expected to land.
        changes: settings to change.
        part: whether a partial file may be left for the next run to resume.
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


IMPATIENT = {"http_timeout_seconds": 0.1, "http_attempts": 20}  # many, since a slow machine uses some up
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
BAD = {
    # The file lands in the end.
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
    # The landing fails.
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
    "speaks no HTTP for good": Bad(
        {"raw": b"SSH-2.0-OpenSSH_9.9\r\n\r\n"},
        SourceUnreachable,
        "answers, but not in HTTP .*check the address",
    ),
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
        SourceNotFound,
        "redirects to no address .*check the address",
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
        "more than 1,000,000 bytes, unpacked if .*TAXI_MAX_UNCOMPRESSED_BYTES",
        {"max_uncompressed_bytes": 1_000_000},
    ),
    "a parquet file cut at its origin": Bad(
        {"body": parquet_bytes()[:-20]}, SourceCorrupt, "no readable footer"
    ),
    "a ZIP archive": Bad({"body": b"PK\3\4" + GZIP}, SourceCorrupt, "a ZIP archive"),
}


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
