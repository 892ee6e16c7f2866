"""What only the local warehouse can get wrong: its file, its lock, its disk, its own SQL."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import duckdb
import pytest
from support.destinations import Apart, DuckDBHarness, Months, assert_holds

import flows.runtime.files
from flows.destinations import LEDGER, REJECTS, make_destination
from flows.destinations.duckdb import connection as duckdb_connection
from flows.destinations.duckdb import destination as duckdb_file
from flows.destinations.duckdb.destination import DuckDBFile
from flows.destinations.duckdb.tables import quoted
from flows.errors import (
    DestinationBusy,
    LocalStorageError,
    LockTimeout,
    ReconciliationError,
    SchemaDrift,
    TaxiError,
    UsageError,
    error_context,
)
from flows.runtime import file_lock
from flows.settings import Settings
from transforms.dataset import FILE_MONTH, ColumnType
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from flows.staging import StagedMonth

JANUARY, FEBRUARY, MARCH = (TripMonth("yellow", 2021, month) for month in (1, 2, 3))
TABLE = JANUARY.dataset.table


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> DuckDBHarness:
    return DuckDBHarness(tmp_path / "data", request)


@pytest.fixture
def path(harness: DuckDBHarness) -> Path:
    return harness.path


def _refusal(error: type[TaxiError], call: Callable[[], object]) -> str:
    with pytest.raises(error) as raised:
        call()
    assert type(raised.value) is error
    assert "\n" not in raised.value.message
    return raised.value.message


# Somebody else has it open


def hold(pipe: Connection, path: Path, read_only: bool) -> None:
    """Keep the file open until told otherwise."""
    with duckdb.connect(path, read_only=read_only):
        pipe.send("held")
        pipe.recv()
    pipe.send("released")


@pytest.mark.parametrize("read_only", [False, True], ids=["by a writer", "by a reader"])
def test_a_file_held_by_another_process_is_waited_for_and_then_refused(
    harness: DuckDBHarness, path: Path, months: Months, read_only: bool
) -> None:
    staged = months.trips(JANUARY)
    harness.make().publish(staged)
    with Apart(hold, path, read_only) as holder:
        holder.hear()
        started = time.monotonic()
        message = _refusal(LockTimeout, lambda: DuckDBFile(path, 0.3).publish(staged))
        assert time.monotonic() - started >= 0.3
        assert f"PID {holder.process.pid})" in message
        assert str(path) in message
        assert "TAXI_LOCK_TIMEOUT_SECONDS" in message
        if read_only:
            assert DuckDBFile(path, 0.3).loaded(JANUARY)
        else:
            assert "PID" in _refusal(LockTimeout, lambda: DuckDBFile(path, 0).loaded(JANUARY))
    assert_holds(harness, staged)


def test_the_months_of_a_run_wait_once_for_the_same_holder(
    harness: DuckDBHarness, path: Path, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.make().publish(months.trips(JANUARY))
    staged, attempts = months.trips(FEBRUARY), list[Path]()
    connect = duckdb.connect

    def count(*arguments: Path, **options: bool) -> duckdb.DuckDBPyConnection:
        attempts.extend(arguments)
        return connect(*arguments, **options)

    def attempts_of(target: DuckDBFile) -> int:
        attempts.clear()
        _refusal(LockTimeout, lambda: target.publish(staged))
        return len(attempts)

    monkeypatch.setattr(duckdb_connection.duckdb, "connect", count)
    target = DuckDBFile(path, 3 * duckdb_connection.POLL_SECONDS)
    with Apart(hold, path, False) as holder:
        holder.hear()
        assert attempts_of(target) > 1
        assert attempts_of(target) == 1
        assert attempts_of(DuckDBFile(path, 9 * duckdb_connection.POLL_SECONDS)) > 1  # which may wait longer
        holder.tell()
    assert target.publish(staged).status == "published"
    with Apart(hold, path, False) as holder:
        holder.hear()
        assert attempts_of(target) > 1, "another holder, another wait"
        holder.tell()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_the_program_that_holds_the_file_is_named(harness: DuckDBHarness, path: Path, months: Months) -> None:
    harness.make().publish(months.trips(JANUARY))
    code = f"import duckdb; held = duckdb.connect({str(path)!r}); print(flush=True); input()"
    script = path.with_name("notebook.py")
    script.write_text(code)
    command = [sys.executable, str(script), "--token=hush"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        message = _refusal(LockTimeout, lambda: DuckDBFile(path, 0).loaded(JANUARY))
        process.kill()
    assert f"({Path(sys.executable).name} notebook.py, PID {process.pid})" in message
    assert "hush" not in message


def test_it_goes_on_once_the_holder_lets_go(
    harness: DuckDBHarness, path: Path, months: Months, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path.parent.mkdir()
    duckdb.connect(path).close()
    with Apart(hold, path, False) as holder, ThreadPoolExecutor(1) as pool:
        holder.hear()
        publishing = pool.submit(DuckDBFile(path, 60).publish, months.trips(JANUARY))
        while f"PID {holder.process.pid}" not in caplog.text:
            assert not publishing.done()
            time.sleep(0.01)
        time.sleep(3 * duckdb_connection.POLL_SECONDS)
        assert caplog.text.count("waiting for it") == 1
        holder.tell()
        assert publishing.result(60).status == "published"
    assert_holds(harness, months.trips(JANUARY))


def test_a_connection_of_this_process_with_other_settings_is_named(
    harness: DuckDBHarness, path: Path, months: Months
) -> None:
    harness.make().publish(months.trips(JANUARY))
    with duckdb.connect(path, read_only=True):
        message = _refusal(
            LockTimeout, lambda: DuckDBFile(path, 0).publish(months.trips(JANUARY), force=True)
        )
        assert "this process with other settings" in message
        assert DuckDBFile(path, 0).loaded(JANUARY)
    with duckdb.connect(path):
        _refusal(LockTimeout, lambda: DuckDBFile(path, 0).loaded(JANUARY))


def test_a_conflicting_change_by_this_process_is_worth_another_try(
    harness: DuckDBHarness, path: Path, months: Months
) -> None:
    harness.make().publish(months.trips(JANUARY))
    with duckdb.connect(path) as other:
        with pytest.raises(ReconciliationError):  # that one lets go of everything
            harness.make().publish(replace(months.trips(JANUARY), rows=1), force=True)
        other.begin()
        other.execute(f"DELETE FROM {TABLE}")
        message = _refusal(DestinationBusy, lambda: harness.make().publish(months.trips(JANUARY, first=100)))
        assert "another connection of this process" in message
        other.rollback()
    assert_holds(harness, months.trips(JANUARY))


def test_months_of_one_process_take_turns(
    harness: DuckDBHarness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or two of them would create the same table, and one would be refused."""
    monkeypatch.setattr(duckdb_file, "reconcile", lambda *_: time.sleep(0.1))
    three = [months.trips(month) for month in (JANUARY, FEBRUARY, MARCH)]
    with ThreadPoolExecutor(3) as pool:
        receipts = list(pool.map(harness.make().publish, three))
    assert [receipt.status for receipt in receipts] == ["published"] * 3
    assert_holds(harness, *three)


# A file that is damaged, or half made


def _future_version(whole: bytes) -> bytes:
    header = bytearray(whole[8:4096])
    header[4:12] = struct.pack("<Q", 9999)
    checksum = 5381
    for (word,) in struct.iter_unpack("<Q", header):
        checksum ^= word * 0xBF58476D1CE4E5B9 % 2**64
    return struct.pack("<Q", checksum) + header + whole[4096:]


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "not a valid DuckDB database"),
    "something else": (lambda _: b"<html>not found</html>" * 1000, "not a valid DuckDB database"),
    "truncated": (lambda whole: whole[: len(whole) // 4], "Could not read enough bytes"),
    "header overwritten": (lambda whole: whole[:4096] + b"\xaa" * 8192 + whole[12288:], "checksum"),
    "blocks overwritten": (lambda whole: whole[:12288] + b"\xaa" * (len(whole) - 12288), "checksum"),
    "from the future": (_future_version, "version number 9999"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_clear_line(
    harness: DuckDBHarness, path: Path, months: Months, damage: str
) -> None:
    spoil, reason = DAMAGES[damage]
    harness.make().publish(months.trips(JANUARY))
    path.write_bytes(spoilt := spoil(path.read_bytes()))
    for call in (
        lambda: harness.make().publish(months.trips(JANUARY)),
        lambda: harness.make().loaded(JANUARY),
    ):
        message = _refusal(LocalStorageError, call)
        assert str(path) in message
        assert reason in message
        assert "move it away" in message
    assert path.read_bytes() == spoilt


def test_a_path_with_lock_in_it_is_not_taken_for_a_lock(tmp_path: Path, months: Months) -> None:
    path = tmp_path / "Could not set lock" / "warehouse.duckdb"
    path.parent.mkdir()
    path.write_bytes(b"no database")
    started = time.monotonic()
    _refusal(LocalStorageError, lambda: DuckDBFile(path, 60).publish(months.trips(JANUARY)))
    assert time.monotonic() - started < 60


def test_duckdb_never_makes_the_warehouse_in_its_place(
    harness: DuckDBHarness, path: Path, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a second run would find a half-made file, and a killed one would leave it."""
    connect, made = duckdb.connect, []

    def connecting(database: Path, **options: object) -> duckdb.DuckDBPyConnection:
        made.append((database, database.exists()))
        return connect(database, **options)

    monkeypatch.setattr(duckdb, "connect", connecting)
    harness.make().publish(months.trips(JANUARY))
    assert [existed for database, existed in made if database == path] == [True]
    assert len(made) == 2


def die_before_the_file_is_in_place(_: Connection, directory: Path, staged: StagedMonth) -> None:
    """Be killed between making the file and giving it its name."""
    with mock.patch.object(
        flows.runtime.files, "commit_file", side_effect=lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    ):
        DuckDBFile(directory / "warehouse.duckdb", 5).publish(staged)


def test_a_run_killed_while_it_makes_the_file_leaves_nothing(
    harness: DuckDBHarness, path: Path, months: Months
) -> None:
    with Apart(die_before_the_file_is_in_place, path.parent, months.trips(JANUARY)) as process:
        assert process.wait() == -signal.SIGKILL
    assert not path.exists()
    assert harness.make().loaded(JANUARY) is None
    harness.make().publish(months.trips(JANUARY))
    assert_holds(harness, months.trips(JANUARY))
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, ".locks"}


def die_after_commit(_: Connection, path: Path, staged: StagedMonth) -> None:
    """Be killed when the month is in the log and not yet in the file."""
    with duckdb.connect(path) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        DuckDBFile(path, 5).publish(staged)
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_committed_survives_in_the_log(harness: DuckDBHarness, path: Path, months: Months) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 80, first=500, new=["tip_jar"])
    harness.make().publish(old)
    with Apart(die_after_commit, path, new) as process:
        assert process.wait() == -signal.SIGKILL
    log = path.with_name(f"{path.name}.wal")
    assert log.stat().st_size > 0
    assert harness.make().loaded(JANUARY)
    assert log.exists(), "asking does not write"
    assert harness.make().publish(new).status == "unchanged"
    assert not log.exists()
    assert_holds(harness, new)


@pytest.fixture
def torn_log(harness: DuckDBHarness, path: Path, months: Months) -> bytes:
    """The content of a log whose only transaction, a reload of January, has a hole."""
    harness.make().publish(months.trips(JANUARY))
    with Apart(die_after_commit, path, months.trips(JANUARY, 8_000, first=500)) as process:
        process.wait()
    log = path.with_name(f"{path.name}.wal")
    content = log.read_bytes()
    hole = len(content) // 2  # the end of the log is there, a block within it is not
    damaged = content[:hole] + bytes(4096) + content[hole + 4096 :]
    log.write_bytes(damaged)
    return damaged


def test_a_transaction_that_a_loss_of_power_left_in_parts_is_dropped(
    harness: DuckDBHarness, path: Path, months: Months, caplog: pytest.LogCaptureFixture, torn_log: bytes
) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 8_000, first=500)
    with pytest.raises(LocalStorageError, match=r"Corrupt WAL.* The next load drops it") as refused:
        harness.make().loaded(JANUARY)
    assert "move it away" not in str(refused.value)
    assert path.with_name(f"{path.name}.wal").read_bytes() == torn_log, "asking does not write"
    assert harness.make().publish(months.trips(FEBRUARY)).status == "published"
    assert "not whole on the disk" in caplog.text
    (kept,) = path.parent.glob(f"{path.name}.wal.*.damaged")
    assert kept.read_bytes() == torn_log
    assert_holds(harness, old, months.trips(FEBRUARY))
    assert harness.make().publish(new).status == "published"
    assert_holds(harness, new, months.trips(FEBRUARY))


def publish_apart(pipe: Connection, path: Path, staged: StagedMonth) -> None:
    pipe.send("ready")
    pipe.send(DuckDBFile(path, 30).publish(staged).status)


def test_processes_that_find_such_a_log_at_once_cut_it_once(
    harness: DuckDBHarness, path: Path, months: Months, torn_log: bytes
) -> None:
    later = [months.trips(FEBRUARY), months.trips(TripMonth("yellow", 2021, 3))]
    with contextlib.ExitStack() as stack:
        with file_lock(path.parent / ".locks" / f"{path.stem}.lock", 5):  # both find it, and wait for this
            processes = [stack.enter_context(Apart(publish_apart, path, staged)) for staged in later]
            assert [process.hear() for process in processes] == ["ready"] * 2
            time.sleep(1)
        assert [process.hear() for process in processes] == ["published"] * 2
    (kept,) = path.parent.glob(f"{path.name}.wal.*.damaged")
    assert kept.read_bytes() == torn_log
    assert_holds(harness, months.trips(JANUARY), *later)


# Disk and memory


def publish_with_little_room(pipe: Connection, path: Path, staged: StagedMonth, most_bytes: int) -> None:
    """Publish while no file may grow beyond that; sends the error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        DuckDBFile(path, 5, with_views=False).publish(staged)
    except Exception as error:  # noqa: BLE001 - raised again by `Apart.hear`
        pipe.send(error)
    else:
        pipe.send(None)


@pytest.mark.parametrize(
    ("rows", "bytes_more"), [(150_000, 100_000), (2_000, -500_000)], ids=["while inserting", "at the commit"]
)
def test_a_full_disk_leaves_the_old_month(
    harness: DuckDBHarness, path: Path, months: Months, rows: int, bytes_more: int
) -> None:
    old, new = months.trips(JANUARY), months.synthetic(JANUARY, rows)
    DuckDBFile(path, 5, with_views=False).publish(old)
    most = max(path.stat().st_size + bytes_more, 4096)
    with Apart(publish_with_little_room, path, new, most) as process:
        message = _refusal(LocalStorageError, process.hear)
    assert "File too large" in message
    assert str(path) in message
    assert "Make room" in message
    assert_holds(harness, old)
    assert harness.make().publish(new).rows == rows


def test_too_little_memory_is_one_clear_line(harness: DuckDBHarness, path: Path, months: Months) -> None:
    harness.make().publish(months.trips(JANUARY))
    large = months.synthetic(JANUARY, 150_000)  # staged with as much memory as it takes
    message = _refusal(LocalStorageError, lambda: DuckDBFile(path, 1, memory_mb=1).publish(large))
    assert "Out of Memory" in message
    assert_holds(harness, months.trips(JANUARY))


def test_a_database_that_gave_up_is_a_storage_error(
    harness: DuckDBHarness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a failed checkpoint leaves; it cannot be had on demand."""
    gave_up = duckdb.FatalException("FATAL Error: database has been invalidated\nand more")
    monkeypatch.setattr(duckdb_file, "reconcile", mock.Mock(side_effect=gave_up))
    message = _refusal(LocalStorageError, lambda: harness.make().publish(months.trips(JANUARY)))
    assert "database has been invalidated)" in message


def test_a_mistake_of_ours_is_not_explained_away(
    harness: DuckDBHarness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_file, "reconcile", mock.Mock(side_effect=duckdb.ParserException("SELEKT")))
    with pytest.raises(duckdb.ParserException, match="SELEKT"):
        harness.make().publish(months.trips(JANUARY))
    assert harness.make().loaded(JANUARY) is None


def test_a_file_in_the_place_of_the_directory(tmp_path: Path, months: Months) -> None:
    (tmp_path / "data").write_text("not a directory")

    def publish() -> None:
        with error_context("yellow 2021-01 -> duckdb"):
            DuckDBFile(tmp_path / "data" / "warehouse.duckdb", 1).publish(months.trips(JANUARY))

    assert str(tmp_path / "data") in _refusal(LocalStorageError, publish)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; run the tests as another user")
@pytest.mark.parametrize("exists", [False, True])
def test_a_directory_that_may_not_be_written_to(
    harness: DuckDBHarness, path: Path, months: Months, exists: bool
) -> None:
    if exists:
        harness.make().publish(months.trips(JANUARY))
        path.chmod(0o400)
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o500)

    def publish() -> None:
        with error_context("yellow 2021-01 -> duckdb"):
            harness.make().publish(months.trips(FEBRUARY))

    try:
        assert str(path.parent) in _refusal(LocalStorageError, publish)
    finally:
        path.parent.chmod(0o700)


@pytest.mark.parametrize("open_elsewhere", [False, True])
def test_the_file_does_not_grow_without_bound(
    harness: DuckDBHarness, path: Path, months: Months, open_elsewhere: bool
) -> None:
    january, changed = months.synthetic(JANUARY, 5_000), months.trips(JANUARY, 2_000)
    for staged in (months.trips(FEBRUARY, 2_000), january, changed, january):
        harness.make().publish(staged)
    once = path.stat().st_size
    with duckdb.connect(path) if open_elsewhere else contextlib.nullcontext():
        for _ in range(10):
            harness.make().publish(changed)
            harness.make().publish(january)
    assert path.stat().st_size <= 2 * once
    assert_holds(harness, months.trips(FEBRUARY, 2_000), january)


# Paths

ODD_DIRECTORIES = (
    "it's",
    'two words and "quotes"',
    "100% größe %20 數",
    "a;b#c$d&e",
    "{a,b}",
    "[x]",
    "st*r",
    "run=3",
    "file_month=1999-01-01",
    "VendorID=7",
)


@pytest.mark.parametrize("name", ODD_DIRECTORIES)
def test_odd_names_of_directories(
    tmp_path: Path, months: Months, request: pytest.FixtureRequest, name: str
) -> None:
    directory = tmp_path / name
    harness = DuckDBHarness(directory, request)
    staged = _moved(months.trips(JANUARY), directory)
    # What a pattern would match as well.
    _moved(
        months.trips(JANUARY, first=100), tmp_path / name.replace("*", "aa").replace("[x]", "x"), exist=True
    )
    assert harness.make().publish(staged).rows == staged.rows
    assert_holds(harness, staged)
    assert harness.make().publish(staged).status == "unchanged"


def _moved(staged: StagedMonth, directory: Path, *, exist: bool = False) -> StagedMonth:
    """A copy of the staged file in that directory."""
    directory = directory / "staged"
    if exist and directory.exists():
        return staged
    directory.mkdir(parents=True)
    return replace(staged, path=Path(shutil.copy(staged.path, directory)))


def test_a_directory_called_tilde_is_not_the_home(
    tmp_path: Path, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    staged = replace(
        _moved(months.trips(JANUARY), Path("~")), path=Path("~/staged/") / months.trips(JANUARY).path.name
    )
    DuckDBFile(Path("~") / "warehouse.duckdb", 1).publish(staged)
    assert (tmp_path / "~" / "warehouse.duckdb").exists()
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["really?", "back\\slash"])
def test_a_path_that_duckdb_cannot_use_is_refused_beforehand(tmp_path: Path, name: str) -> None:
    message = _refusal(
        UsageError, lambda: make_destination("duckdb", tmp_path / name, Settings(_env_file=None))
    )
    assert name in message
    assert "--data-dir" in message


# What else is in the file


def test_a_table_of_the_same_name_in_another_schema_is_not_ours(
    harness: DuckDBHarness, months: Months
) -> None:
    harness.execute(f"CREATE SCHEMA other; CREATE TABLE other.{TABLE} AS SELECT 'theirs' AS fare_amount")
    harness.execute("CREATE TABLE other.taxi_loads AS SELECT 1 AS row_count")
    assert harness.make().loaded(JANUARY) is None
    harness.make().publish(months.trips(JANUARY))
    assert_holds(harness, months.trips(JANUARY))
    with harness.reader() as query:
        assert query(f"FROM other.{TABLE}") == [("theirs",)]


def test_a_failed_month_takes_its_new_columns_along(
    harness: DuckDBHarness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.make().publish(months.trips(JANUARY))
    new = months.trips(FEBRUARY, new=["tip_jar"])
    with pytest.raises(ReconciliationError):
        harness.make().publish(replace(new, rows=1))
    assert_holds(harness, months.trips(JANUARY))


def test_spellings_of_a_column_share_it(harness: DuckDBHarness, months: Months) -> None:
    harness.make().publish(months.trips(JANUARY, new=["Tip_Jar", "Ähre"]))
    harness.make().publish(months.trips(FEBRUARY, new=["TIP_jar", "ähre"]))
    with harness.reader() as query:
        assert query(f"SELECT count(tip_jar), count(Ähre), count(ähre) FROM {TABLE}") == [(100, 50, 50)]


def test_spellings_of_a_table_share_it(harness: DuckDBHarness, months: Months) -> None:
    harness.create_table(TABLE.upper(), {"FARE_amount": ColumnType.FLOAT, FILE_MONTH: ColumnType.DATE})
    harness.make().publish(months.trips(JANUARY))
    assert harness.make().loaded(JANUARY)
    assert harness.tables() == {TABLE.upper(), LEDGER, REJECTS}


@pytest.mark.parametrize(
    ("added", "new_columns"),
    [
        (f"ALTER TABLE {TABLE} ALTER fare_amount SET NOT NULL", []),
        (f"CREATE UNIQUE INDEX theirs ON {TABLE} (fare_amount)", []),
        (f"ALTER TABLE {TABLE} RENAME TO moved; CREATE VIEW {TABLE} AS FROM moved", []),
        (f"ALTER TABLE {TABLE} RENAME TO moved; CREATE VIEW {TABLE} AS FROM moved", ["tip_jar"]),
    ],
    ids=["constraint", "unique index", "view in its place", "view in its place, to grow"],
)
def test_what_somebody_added_is_named(
    harness: DuckDBHarness, path: Path, months: Months, added: str, new_columns: list[str]
) -> None:
    january = months.trips(JANUARY, 1, first=1)
    harness.make().publish(january)
    harness.execute(added)
    message = _refusal(SchemaDrift, lambda: harness.make().publish(months.trips(FEBRUARY, new=new_columns)))
    assert str(path) in message
    assert "such as a constraint or a unique index" in message
    assert harness.make().loaded(JANUARY)
    assert harness.make().loaded(FEBRUARY) is None


def test_an_index_is_no_hindrance_by_itself(harness: DuckDBHarness, months: Months) -> None:
    harness.make().publish(months.trips(JANUARY))
    harness.execute(f"CREATE INDEX theirs ON {TABLE} (fare_amount)")
    for staged in (months.trips(JANUARY, 80), months.trips(FEBRUARY), months.trips(JANUARY)):
        harness.make().publish(staged)
    assert_holds(harness, months.trips(JANUARY), months.trips(FEBRUARY))


@pytest.mark.parametrize("name", ["plain", 'a"b', '"', "select", "x; drop table t", "ü 😀", "a.b", "\\", "'"])
def test_quoted_names_come_back(name: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE {quoted(name)} ({quoted(name)} INTEGER)")
        assert connection.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [(name,)]
        assert [column[0] for column in connection.sql(f"FROM {quoted(name)}").description] == [name]


def test_the_memory_of_the_warehouse_is_bounded(path: Path, months: Months) -> None:
    settings = Settings(duckdb_memory_mb=200)
    destination = DuckDBFile.from_settings(path.parent, settings)
    destination.publish(months.trips(JANUARY))
    with duckdb.connect(path) as same_instance:
        destination.publish(months.trips(JANUARY), force=True)
        limit = same_instance.sql("SELECT current_setting('memory_limit')").fetchall()
    assert limit == [("190.7 MiB",)]
