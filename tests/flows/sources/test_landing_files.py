"""Files as sources, and kinds told by content."""

from __future__ import annotations

import errno
import gzip
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.landing import (
    CSV,
    GZIP,
    NAME,
    OLD_GZIP,
    PAGE,
    RECORD,
    file_source,
    files_in,
    parquet_bytes,
    refuse,
    settings,
    web_source,
)

from flows.errors import SourceCorrupt, SourceNotFound
from flows.sources import SourceFile, find_landed, land
from flows.sources.csv_census import Census

if TYPE_CHECKING:
    from support.web import Web


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


@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
def test_what_is_no_regular_file_is_refused_without_a_look_inside(
    raw: Path, tmp_path: Path, kind: str
) -> None:
    origin = tmp_path / NAME
    if kind == "a FIFO":
        os.mkfifo(origin)
    else:
        origin.symlink_to("/dev/zero")
    error = refuse(file_source(origin), raw, max_uncompressed_bytes=2**20)
    assert isinstance(error, SourceNotFound)
    assert "no regular file" in error.message
    assert files_in(raw) == set()


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
    ids=[
        "CSV",
        "gzip",
        "gzip of many members",
        "Parquet",
        "CSV named gzip",
        "gzip named CSV",
        "Parquet named gzip",
        "gzip named Parquet",
        "one byte",
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
    assert find_landed(raw / name) == replace(landed, fetched=False)


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
    ids=["empty", "HTML", "gzip cut off", "Parquet cut off", "the head of a Parquet file", "bzip2"],
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
    assert find_landed(raw / NAME) == replace(old, fetched=False)
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
