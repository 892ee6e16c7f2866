"""A disk that is really full, or read-only: one line that names it, nothing half there, healed by a rerun."""

from __future__ import annotations

import gzip
import os
import random
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.cli import HEADER, ROW
from support.destinations import DuckDBHarness, Months, assert_holds
from support.landing import GZIP, NAME, OLD_GZIP, PATH, RECORD, file_source, files_in, settings, web_source

from flows.errors import LocalStorageError, TaxiError, error_context
from flows.sources import SourceFile, download, find_landed, land
from flows.staging import StagingOptions, stage
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.disk import SmallDisk
    from support.web import Web

JANUARY = TripMonth("yellow", 2021, 1)
PAGE = 4096
IN_A_NAMESPACE = "TAXI_TEST_IN_A_NAMESPACE"


def refusal(call: Callable[[], object], directory: Path, reason: str = "No space left") -> None:
    """It is refused in one line that names the directory, the reason and the room."""
    with pytest.raises(LocalStorageError) as refused, error_context("yellow 2021-01"):
        call()
    message = str(refused.value)
    assert "\n" not in message
    assert str(directory) in message
    assert reason in message
    assert "exception_type" not in message
    if reason == "No space left":
        assert re.search(r"\([\d.,]+ of 8\.4 MB free\)", message), message
    assert "--data-dir" in message or "move it away" in message


def test_as_a_user_in_a_namespace_of_its_own(no_small_disk: str) -> None:
    if not no_small_disk:
        return  # the others have run as they are
    if IN_A_NAMESPACE in os.environ or shutil.which("unshare") is None:
        pytest.skip(f"needs to mount a filesystem: {no_small_disk}")
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"needs to mount a filesystem, as root or in a user namespace: {no_small_disk}")
    command = ["unshare", "-rm", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = os.environ | {IN_A_NAMESPACE: "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout, done.stdout


@pytest.mark.parametrize("over_http", [False, True], ids=["file", "http"])
@pytest.mark.parametrize("earlier", [False, True], ids=["first landing", "earlier copy"])
def test_landing_on_a_full_disk(
    small_disk: SmallDisk, web: Web, tmp_path: Path, over_http: bool, earlier: bool
) -> None:
    raw, origin = small_disk.path / "raw", tmp_path / NAME
    origin.write_bytes(OLD_GZIP)
    web.serve(tmp_path)
    source = web_source(web) if over_http else file_source(origin)
    old = land(source, raw, settings()) if earlier else None
    origin.write_bytes(GZIP)
    web.heal()
    small_disk.leave(300_000)
    refusal(lambda: land(source, raw, settings()), raw)
    assert len(web.requests) == over_http  # once: a full disk does not pass by itself
    assert files_in(raw) == ({NAME, RECORD} if earlier else set())
    assert (find_landed(raw / NAME) is not None) == (old is not None)
    small_disk.make_room()
    assert land(source, raw, settings()).fetched
    assert (raw / NAME).read_bytes() == GZIP
    assert files_in(raw) == {NAME, RECORD}


def test_a_landed_file_for_whose_record_there_is_no_room_is_not_trusted(
    small_disk: SmallDisk, web: Web
) -> None:
    raw = small_disk.path / "raw"
    web.put(PATH, GZIP)
    small_disk.leave((-(-len(GZIP) // PAGE) + 1) * PAGE)  # the file, and its version beside it
    refusal(lambda: land(web_source(web), raw, settings()), raw)
    assert find_landed(raw / NAME) is None
    small_disk.make_room()
    assert land(web_source(web), raw, settings()).fetched
    assert files_in(raw) == {NAME, RECORD}


def test_some_room_is_left_on_the_disk(small_disk: SmallDisk, web: Web) -> None:
    """Seen before the first byte if the source says how much will come."""
    raw, large = small_disk.path / "raw", b"a,b\n" + b"1,2\n" * 2**20
    received: list[int] = []

    def note_bytes(so_far: int, _total: int | None) -> None:
        received.append(so_far)

    web.put(PATH, large)
    small_disk.leave(3_000_000)
    refusal(
        lambda: land(web_source(web), raw, settings(min_free_disk_bytes=1), report=note_bytes),
        raw,
    )
    assert not received
    assert not files_in(raw)
    small_disk.make_room()
    assert land(web_source(web), raw, settings(min_free_disk_bytes=2**40)).bytes == len(large)


def test_the_room_is_looked_at_while_a_file_grows(
    small_disk: SmallDisk, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, free = small_disk.path / "raw", []
    monkeypatch.setattr(download, "ROOM_CHECK_BYTES", 2**16)
    web.put(PATH, b"a,b\n" + b"1,2\n" * 2**20)
    web.misbehave(PATH, chunked=True)
    small_disk.leave(2_000_000)

    def note_room(_received: int, _total: int | None) -> None:
        free.append(shutil.disk_usage(small_disk.path).free)

    with pytest.raises(LocalStorageError, match=r"0\.4 MB are to stay free"):
        land(web_source(web), raw, settings(min_free_disk_bytes=2**30), report=note_room)
    assert 300_000 < min(free) < 1_000_000
    assert not files_in(raw)


@pytest.mark.parametrize("bad", [0, 3_000], ids=["fast", "with rejects"])
def test_staging_wherever_the_room_ends(small_disk: SmallDisk, tmp_path: Path, bad: int) -> None:
    def landed(rows: int, name: str) -> object:
        draw = random.Random(rows)
        rejected = (f"no trip {draw.randbytes(150).hex()}" for _ in range(bad))  # larger than the trips
        lines = [HEADER, *(f"{ROW}{at}" for at in range(rows)), *rejected, ""]
        origin = tmp_path / name
        origin.write_bytes(gzip.compress("\n".join(lines).encode(), 1))
        return land(SourceFile(origin.as_uri(), name), tmp_path / "raw", settings())

    directory, options = small_disk.path / "yellow", StagingOptions(max_reject_ratio=1.0)

    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in directory.iterdir()}

    stage(landed(5, "old.csv.gz"), JANUARY, directory, options)
    before, new, refused = contents(), landed(20_000, "new.csv.gz"), 0
    for pages in (0, 1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 512):
        small_disk.leave(pages * PAGE)
        try:
            stage(new, JANUARY, directory, options)
            break
        except TaxiError:
            refusal(lambda: stage(new, JANUARY, directory, options), directory)
            assert contents() == before, f"with {pages} pages"
            refused += 1
    assert refused >= 4
    small_disk.make_room()
    staged = stage(new, JANUARY, directory, options)
    assert (staged.rows, staged.rejected_rows) == (20_000, bad)
    assert not [name for name in contents() if name.startswith(".")]


@pytest.mark.parametrize("earlier", [False, True], ids=["first month", "month replaced"])
def test_loading_into_duckdb_wherever_the_room_ends(
    small_disk: SmallDisk, tmp_path: Path, request: pytest.FixtureRequest, earlier: bool
) -> None:
    (tmp_path / "months").mkdir()
    months, harness = Months(tmp_path / "months"), DuckDBHarness(small_disk.path, request)
    old, new = months.trips(JANUARY), months.synthetic(JANUARY, 20_000)
    if earlier:
        harness.make().publish(old)
    refused = 0
    for pages in (0, 1, 8, 64, 256, 512, 1024):
        small_disk.leave(pages * PAGE)
        try:
            harness.make().publish(new)
            break
        except TaxiError:
            refusal(lambda: harness.make().publish(new), small_disk.path)
            refused += 1
        small_disk.make_room()
        if earlier:
            assert_holds(harness, old)
        else:
            assert harness.make().loaded(JANUARY) is None
    assert refused >= 4
    (small_disk.path / "ballast").unlink(missing_ok=True)
    harness.make().publish(new)
    assert_holds(harness, new)
    assert {path.name for path in small_disk.path.iterdir()} <= {harness.path.name, ".locks"}


def test_a_read_only_disk_is_one_line_and_what_is_there_stays(
    small_disk: SmallDisk, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "months").mkdir()
    months, harness = Months(tmp_path / "months"), DuckDBHarness(small_disk.path / "data", request)
    old, new = months.trips(JANUARY), months.trips(JANUARY, 70)
    origin = tmp_path / NAME
    origin.write_bytes(GZIP)
    raw = small_disk.path / "raw"
    land(file_source(origin), raw, settings())
    harness.make().publish(old)
    small_disk.make_read_only()
    origin.write_bytes(OLD_GZIP)
    read_only = "Read-only file system"
    refusal(lambda: land(file_source(origin), raw, settings()), raw, read_only)
    refusal(
        lambda: land(file_source(origin), raw.with_name("new"), settings()), raw.with_name("new"), read_only
    )
    refusal(lambda: harness.make().publish(new), harness.path, read_only)
    assert harness.make().loaded(JANUARY)
    small_disk.make_writable()
    assert_holds(harness, old)
    harness.make().publish(new)
    assert_holds(harness, new)
    assert land(file_source(origin), raw, settings()).fetched
