"""The landing: whole and verified, and once."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.landing import (
    CSV,
    GZIP,
    HEADER,
    NAME,
    OLD_GZIP,
    PATH,
    RECORD,
    files_in,
    refuse,
    settings,
    statuses,
    web_source,
)

from flows.errors import SourceNotFound
from flows.sources import LandedFile, SourceFile, find_landed, land
from flows.sources.csv_census import Census
from flows.sources.landed_file import record_path

if TYPE_CHECKING:
    from pathlib import Path

    from support.web import Web


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
    assert find_landed(raw / NAME) == replace(landed, fetched=False)


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
    assert find_landed(raw / NAME) == replace(new, fetched=False)


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
    assert find_landed(copy) is None
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
    assert find_landed(copy) is None
    assert land(web_source(web), raw, settings()).fetched
    assert find_landed(copy) is not None


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


def test_synthetic_trips_land_like_any_others(raw: Path) -> None:
    source = SourceFile("synthetic://yellow/2021-01?rows=500&seed=1&broken_rows=0", NAME)
    landed = land(source, raw, settings())
    assert landed.kind == "csv.gz"
    assert landed.census is not None
    assert landed.census.lines == 501
    assert not land(source, raw, settings()).fetched
    other = replace(source, url=source.url.replace("rows=500", "rows=600"))
    assert land(other, raw, settings()).fetched
