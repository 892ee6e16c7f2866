"""What only Iceberg tables can get wrong: snapshots, the ledger in them, files shared with the staging."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock
from uuid import uuid4

import polars as pl
import pyarrow.parquet as pq
import pyiceberg.catalog
import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties
from pyiceberg.types import DateType, NestedField, StringType
from pyiceberg.utils.config import Config
from support.destinations import Apart, Months, Place, assert_holds, die_while_publishing, keep_reading
from support.iceberg_harness import IcebergHarness
from support.trips import (
    REAL_MONTHS,
    REAL_YELLOW,
    assert_equals_pandas,
    needs_real_trips,
    read_with_pandas,
    real_month,
)

import taxi_etl.maintain
from flows.destinations import REJECTS, bound_to_this_machine, make_destination
from flows.destinations.iceberg import Iceberg
from flows.destinations.iceberg import destination as iceberg
from flows.destinations.iceberg.durable_io import DurableFileIO
from flows.errors import DestinationBusy, DestinationRefused, SchemaDrift, UsageError
from flows.runtime import RetryPolicy
from flows.settings import Settings
from flows.sources import land, locate_source
from flows.staging import StagingOptions, stage
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

JANUARY, FEBRUARY, MARCH, APRIL = (TripMonth("yellow", 2021, month) for month in (1, 2, 3, 4))
YELLOW = JANUARY.dataset


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> IcebergHarness:
    return IcebergHarness(tmp_path / "data", request)


def data_file_of(harness: IcebergHarness, month: TripMonth = JANUARY) -> Path:
    [path] = harness.directory.glob(f"taxi/*/data/file_month={month.first_day}/*")
    return path


# A month is a snapshot


def test_a_month_is_one_snapshot_that_says_what_it_was_loaded_from(
    harness: IcebergHarness, months: Months
) -> None:
    first, second = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    for staged in (first, months.trips(FEBRUARY), second):
        harness.make().publish(staged)
    snapshots = harness.table().snapshots()
    assert len(snapshots) == 3
    summary = snapshots[-1].summary
    assert summary
    assert summary["taxi-etl.source_sha256"] == second.source_sha256
    assert summary["taxi-etl.file_month"] == "2021-01-01"
    assert (summary["added-records"], summary["deleted-records"]) == ("80", "50")

    assert harness.make().publish(second).status == "unchanged"
    assert len(harness.table().snapshots()) == 3


def test_an_old_snapshot_still_has_the_old_rows(harness: IcebergHarness, months: Months) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    harness.make().publish(old)
    before = harness.table().current_snapshot()
    harness.make().publish(new)
    assert before
    rows = harness.table().scan(snapshot_id=before.snapshot_id).to_arrow()
    assert rows["fare_amount"].to_pylist() == pq.read_table(old.path)["fare_amount"].to_pylist()


def test_polars_and_pyiceberg_read_the_same_values(harness: IcebergHarness, months: Months) -> None:
    staged = [months.synthetic(month, 500) for month in (JANUARY, FEBRUARY)]
    for month in staged:
        harness.make().publish(month)
    expected = pl.concat([pl.read_parquet(month.path) for month in staged])
    names = expected.columns
    by_pyiceberg = pl.DataFrame(harness.table().scan().to_arrow()).select(names).sort(names)
    with mock.patch.dict(os.environ, {"POLARS_ICEBERG_PLANNER": "pyiceberg"}):
        by_polars = pl.scan_iceberg(harness.table()).select(names).collect().sort(names)
    assert by_pyiceberg.equals(expected.sort(names))
    assert by_polars.equals(expected.sort(names))


@needs_real_trips
def test_real_months_read_by_polars_and_pyiceberg_value_by_value(
    harness: IcebergHarness, tmp_path: Path
) -> None:
    settings, template = (
        Settings(_env_file=None),
        str(REAL_YELLOW / "{color}_tripdata_{year}-{month:02}.csv.gz"),
    )
    for number in REAL_MONTHS:
        month = TripMonth("yellow", 2019, number)
        landed = land(locate_source(template, month, settings), tmp_path, settings)
        assert harness.make().publish(stage(landed, month, tmp_path, StagingOptions())).rows == 10_000
    table = harness.table()
    assert table.scan().count() == 10_000 * len(REAL_MONTHS)
    for number in REAL_MONTHS:
        expected = read_with_pandas(real_month(number), ["tpep_pickup_datetime", "tpep_dropoff_datetime"])
        day = f"2019-{number:02}-01"
        assert_equals_pandas(table.scan(f"file_month = '{day}'").to_pandas(), expected)
        with mock.patch.dict(os.environ, {"POLARS_ICEBERG_PLANNER": "pyiceberg"}):
            frame = pl.scan_iceberg(table).filter(pl.col("file_month") == dt.date.fromisoformat(day))
            assert_equals_pandas(frame.collect().to_pandas(), expected)


def test_a_query_of_one_day_skips_the_files_of_other_months(harness: IcebergHarness, months: Months) -> None:
    for month in (JANUARY, FEBRUARY, MARCH):
        harness.make().publish(months.trips(month))
    [task] = harness.table().scan("tpep_pickup_datetime < '2021-01-02T00:00:00'").plan_files()
    assert "file_month=2021-01-01" in task.file.file_path


def test_columns_have_ids_comments_and_units(harness: IcebergHarness, months: Months) -> None:
    harness.make().publish(months.trips(JANUARY))
    harness.make().publish(months.trips(FEBRUARY, new=["tip_jar"]))
    schema = harness.table().schema()
    ids = [schema.find_field(name).field_id for name in YELLOW.types()]
    assert ids == list(range(1, len(ids) + 1))
    assert schema.find_field("trip_distance").doc == "Distance by the taximeter (mile)"
    assert schema.find_field("tip_jar").field_id == len(ids) + 1
    assert not any(field.required for field in schema.fields)


# The file


def test_the_staged_file_itself_is_the_data_file(harness: IcebergHarness, months: Months) -> None:
    staged = months.trips(JANUARY)
    harness.make().publish(staged)
    data_file = data_file_of(harness)
    assert data_file.samefile(staged.path)
    assert data_file.stat().st_mode & 0o222 == 0


def test_on_another_disk_it_is_a_copy(
    harness: IcebergHarness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = months.trips(JANUARY)

    def refuse(_: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(target))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    harness.make().publish(staged)
    data_file = data_file_of(harness)
    assert not data_file.samefile(staged.path)
    assert data_file.read_bytes() == staged.path.read_bytes()
    assert_holds(harness, staged)


def test_everything_is_on_the_disk_before_the_catalog_names_it(
    harness: IcebergHarness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.make().publish(months.trips(JANUARY))
    known, synced, real = harness.files(), set[str](), os.fsync

    def note(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    harness.make().publish(months.trips(FEBRUARY))
    written = harness.files() - known
    assert {path.suffix for path in written} == {".json", ".avro", ".parquet"}
    assert {str(path) for path in written if path.suffix != ".parquet"} <= synced  # staging synced that one
    assert {str(path.parent) for path in written} <= synced


def test_the_next_run_removes_what_a_killed_one_left(harness: IcebergHarness, months: Months) -> None:
    january, new, february = (
        months.trips(JANUARY),
        months.trips(JANUARY, 80, first=500),
        months.trips(FEBRUARY),
    )
    harness.make().publish(january)
    before = harness.files()
    with Apart(die_while_publishing, harness.place, harness.module, new) as process:
        process.wait()
    left = harness.files() - before
    assert {path.suffix for path in left} == {".avro", ".parquet"}

    harness.make().publish(february)

    assert left & harness.files() == set()
    assert before <= harness.files()
    assert harness.unnamed_files() == set()


@pytest.mark.parametrize("is_second", [False, True], ids=["first commit", "second commit"])
def test_a_run_killed_just_after_its_commit_is_not_undone(
    harness: IcebergHarness, months: Months, monkeypatch: pytest.MonkeyPatch, is_second: bool
) -> None:
    january = months.trips(JANUARY)
    harness.make().publish(months.trips(MARCH))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", mock.Mock(side_effect=KeyboardInterrupt))
        if is_second:  # pyiceberg itself then commits once more, with other names
            commits = mock.Mock(
                wraps=SqlCatalog.commit_table, side_effect=[CommitFailedException, mock.DEFAULT]
            )
            patch.setattr(SqlCatalog, "commit_table", lambda *arguments: commits(*arguments))
        with pytest.raises(KeyboardInterrupt):
            harness.make().publish(january)
    harness.make().publish(months.trips(FEBRUARY))
    assert_holds(harness, january, months.trips(FEBRUARY), months.trips(MARCH))


# The ledger


def delete_some(table: Table) -> None:
    table.delete("fare_amount < 2")


def delete_all(table: Table) -> None:
    table.delete("file_month = '2021-01-01'")


def double(table: Table) -> None:
    table.append(table.scan("file_month = '2021-01-01'").to_arrow())


@pytest.mark.parametrize(
    ("damage", "recorded", "rows"),
    [(delete_some, None, 43), (delete_all, 50, 0), (double, 50, 100)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_another_program_has_changed_is_shown_and_loaded_again(
    harness: IcebergHarness, months: Months, damage: Callable[[Table], None], recorded: int | None, rows: int
) -> None:
    january, february = months.trips(JANUARY), months.trips(FEBRUARY, first=500)
    for staged in (january, february):
        harness.make().publish(staged)
    damage(harness.table())

    [found, other] = harness.make().holdings(YELLOW)
    assert (found.load and found.load.row_count, found.rows, found.reconciles) == (recorded, rows, False)
    assert other.reconciles
    assert harness.make().loaded(JANUARY) is None
    assert harness.make().publish(january).status == "published"
    assert_holds(harness, january, february)


def test_after_a_rollback_the_ledger_is_that_of_the_old_rows(harness: IcebergHarness, months: Months) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, first=500)
    harness.make().publish(old)
    before = harness.table().current_snapshot()
    harness.make().publish(new)
    assert before
    harness.table().manage_snapshots().rollback_to_snapshot(before.snapshot_id).commit()
    assert_holds(harness, old)
    assert harness.make().publish(new).status == "published"
    assert_holds(harness, new)


def test_a_table_of_another_shape_is_refused_and_left_alone(harness: IcebergHarness, months: Months) -> None:
    harness.make().publish(months.trips(TripMonth("green", 2021, 1)))
    columns = [NestedField(1, "fare_amount", StringType(), required=False)]
    columns += [NestedField(2, "file_month", DateType(), required=False)]
    with harness.catalog() as catalog:
        catalog.create_table(
            f"taxi.{YELLOW.table}", Schema(*columns), partition_spec=UNPARTITIONED_PARTITION_SPEC
        )
    with pytest.raises(SchemaDrift, match=r"not by file_month; fare_amount is string, not double\."):
        harness.make().publish(months.trips(JANUARY))
    assert harness.table().schema().column_names == ["fare_amount", "file_month"]
    assert harness.make().holdings(YELLOW) == []


# Two at once


@contextlib.contextmanager
def meanwhile(happens: Callable[[], object]) -> Generator[None]:
    """Something happens just before the next commit, and no lock prevents it, as for a table in a bucket."""
    pending, count = [happens], iceberg.reconcile

    def reconcile(*counts: Any) -> None:  # noqa: ANN401 - as the real one
        count(*counts)
        if pending:
            pending.pop()()

    everybody_at_once = {
        "reconcile": reconcile,
        "exclusive": lambda *_: contextlib.nullcontext(uuid4()),
        "_turn": contextlib.nullcontext(),
    }
    with mock.patch.multiple(iceberg, **everybody_at_once):
        yield


def test_another_month_that_comes_first_is_kept(
    harness: IcebergHarness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg, "AFTER_CONFLICTS", RetryPolicy(attempts=1))  # it is no conflict
    january, february = months.trips(JANUARY), months.trips(FEBRUARY, new=["tip_jar"])
    harness.make().publish(months.trips(MARCH))
    with meanwhile(lambda: harness.make().publish(february)):
        assert harness.make().publish(january).status == "published"
    assert_holds(harness, january, february, months.trips(MARCH))


@pytest.mark.parametrize("same", [True, False], ids=["same data", "other data"])
@pytest.mark.parametrize("first", [True, False], ids=["first load", "replaced"])
def test_the_same_month_that_comes_first_gives_way_or_is_replaced(
    harness: IcebergHarness, months: Months, same: bool, first: bool
) -> None:
    staged, other = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    if not first:
        harness.make().publish(months.trips(JANUARY, 20, first=900))
    with meanwhile(lambda: harness.make().publish(staged if same else other)):
        assert harness.make().publish(staged).status == ("unchanged" if same else "published")
    assert_holds(harness, staged)


def test_whoever_is_always_second_says_so(
    harness: IcebergHarness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    harness.make().publish(old)
    monkeypatch.setattr(iceberg, "AFTER_CONFLICTS", RetryPolicy(attempts=2, first_pause_seconds=0))
    refuse = mock.Mock(side_effect=CommitFailedException("Table has been updated by another process"))
    with monkeypatch.context() as patch:
        patch.setattr(SqlCatalog, "commit_table", refuse)
        patch.setattr(TableProperties, "COMMIT_NUM_RETRIES_DEFAULT", 0)
        with pytest.raises(DestinationBusy, match="other runs changed the table again and again"):
            harness.make().publish(new)
    assert refuse.call_count == 2
    assert_holds(harness, old)


def test_a_commit_whose_answer_is_lost_is_found(
    harness: IcebergHarness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged, commit = months.trips(JANUARY), SqlCatalog.commit_table
    harness.make().publish(months.trips(FEBRUARY))

    def lose_the_answer(*arguments: Any) -> None:  # noqa: ANN401 - as the real one
        commit(*arguments)
        raise CommitStateUnknownException("502 Bad Gateway")

    monkeypatch.setattr(SqlCatalog, "commit_table", lose_the_answer)
    assert harness.make().publish(staged).status == "published"
    assert len(harness.table().snapshots()) == 2
    assert_holds(harness, staged, months.trips(FEBRUARY))


def test_a_reader_sees_the_old_month_or_the_new_one(harness: IcebergHarness, months: Months) -> None:
    small, large = months.trips(JANUARY, 1000), months.trips(JANUARY, 1500, first=5000)
    harness.make().publish(small)
    count = contextlib.nullcontext(lambda: harness.table().scan().to_arrow().num_rows)
    with keep_reading(lambda: count) as readers:
        for staged in [large, small] * 3:
            harness.make().publish(staged)
    assert readers.seen().keys() == {1000, 1500}


# Maintenance


def maintain(harness: IcebergHarness, *arguments: str) -> int:
    return taxi_etl.maintain.main(["--data-dir", str(harness.place.data_dir), *arguments])


def test_expired_snapshots_go_with_their_files_and_months_stay(
    harness: IcebergHarness, months: Months, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, february = months.trips(JANUARY), months.trips(JANUARY, 80, first=500), months.trips(FEBRUARY)
    for staged in (old, february, new):
        harness.make().publish(staged)
    assert maintain(harness) == 0
    nothing = "0 snapshots expired, 0 files removed"
    assert capsys.readouterr().out == f"taxi.yellow_taxi_trips: {nothing}\ntaxi.{REJECTS}: {nothing}\n"

    assert maintain(harness, "--keep-days", "0", "--color", "yellow") == 0

    assert "2 snapshots expired, 4 files removed" in capsys.readouterr().out
    assert_holds(harness, new, february)
    assert {harness.make().publish(staged).status for staged in (new, february)} == {"unchanged"}
    assert harness.unnamed_files() == set()
    assert old.path.exists(), "the staged file is the user's"


def test_files_that_nothing_names_go_after_three_days(harness: IcebergHarness, months: Months) -> None:
    harness.make().publish(months.trips(JANUARY))
    folder = data_file_of(harness).parent
    young, old = folder / "young.parquet", folder / "old.parquet"
    for path in (young, old):
        path.touch()
    four_days_ago = time.time() - 4 * 86_400
    os.utime(old, (four_days_ago, four_days_ago))
    assert maintain(harness) == 0
    assert (young.exists(), old.exists()) == (True, False)
    assert_holds(harness, months.trips(JANUARY))


def test_without_tables_there_is_nothing_to_maintain(
    harness: IcebergHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    assert maintain(harness) == 0
    assert capsys.readouterr().out == ""
    assert not harness.directory.exists()


@pytest.mark.parametrize("days", ["-1", "soon", "1e300"])
def test_a_wrong_number_of_days_is_one_line(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert taxi_etl.maintain.main(["--keep-days", days]) == 2
    assert f"{days!r} is no number of days; legal are 0 and more" in capsys.readouterr().err


# The catalog


def test_a_catalog_of_pyicebergs_configuration_is_used(
    harness: IcebergHarness, months: Months, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__URI", f"sqlite:///{tmp_path}/lake.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__WAREHOUSE", f"file://{tmp_path}/lake")
    monkeypatch.setattr(pyiceberg.catalog, "_ENV_CONFIG", Config())  # it has read them on import
    settings = Settings(_env_file=None, iceberg_catalog="lake")
    lake = make_destination("iceberg", harness.place.data_dir, settings)
    staged = months.trips(JANUARY)
    assert lake.publish(staged).status == "published"
    assert lake.publish(staged).status == "unchanged"
    assert bound_to_this_machine("iceberg", settings) is None
    assert not harness.directory.exists()
    table = load_catalog("lake").load_table(f"taxi.{YELLOW.table}")
    assert table.scan().count() == staged.rows
    [task] = table.scan().plan_files()
    assert Path(task.file.file_path.removeprefix("file://")).samefile(staged.path)


def test_a_table_in_a_bucket(
    harness: IcebergHarness, months: Months, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its file system is a directory here: pyarrow cannot read from the emulator of the other tests."""
    directory = tmp_path / "lake" / "w" / "taxi" / YELLOW.table
    for name in (
        "metadata",
        *(f"data/file_month={month.first_day}" for month in (JANUARY, FEBRUARY, MARCH, APRIL)),
    ):
        (directory / name).mkdir(parents=True)
    (directory.with_name(REJECTS) / "metadata").mkdir(parents=True)
    bucket = SubTreeFileSystem(str(tmp_path), LocalFileSystem())
    monkeypatch.setattr(DurableFileIO, "_initialize_gcs_fs", lambda _: bucket)
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__URI", f"sqlite:///{tmp_path}/lake.db")
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__WAREHOUSE", "gs://lake/w")
    monkeypatch.setattr(pyiceberg.catalog, "_ENV_CONFIG", Config())
    monkeypatch.setattr(iceberg, "_turn", contextlib.nullcontext())
    place = Place("iceberg", harness.place.data_dir, {"iceberg_catalog": "lake"})
    old, new = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    four = [old, months.trips(FEBRUARY), months.trips(MARCH), months.trips(APRIL)]
    assert place.make().publish(old).status == "published"  # creates the table

    with ThreadPoolExecutor(len(four)) as pool:  # without any lock
        receipts = list(pool.map(lambda staged: place.make().publish(staged), four))

    assert [receipt.status for receipt in receipts] == ["unchanged", *["published"] * 3]
    assert place.make().publish(new).status == "published"
    assert [holding.rows for holding in place.make().holdings(YELLOW)] == [80, 50, 50, 50]
    contents = {path.read_bytes() for path in directory.glob("data/*/*.parquet")}
    assert contents == {staged.path.read_bytes() for staged in (new, *four)}
    assert not any(path.samefile(new.path) for path in directory.glob("data/*/*.parquet"))
    target = place.make()
    assert isinstance(target, Iceberg)
    assert target.maintain(YELLOW, dt.timedelta(0)) is not None
    assert len(list(directory.glob("data/*/*.parquet"))) == len(four)


def test_a_catalog_that_is_not_configured_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"TAXI_ICEBERG_CATALOG='lake' is not configured\. Tried: PYICEBERG_CATALOG__LAKE__"
    ):
        make_destination("iceberg", tmp_path, Settings(_env_file=None, iceberg_catalog="lake"))


def test_a_damaged_catalog_is_one_line(harness: IcebergHarness, months: Months) -> None:
    harness.directory.mkdir(parents=True)
    (harness.directory / "catalog.db").write_text("no database " * 100)
    with pytest.raises(DestinationRefused, match=r"catalog\.db cannot be used .*not a database"):
        harness.make().publish(months.trips(JANUARY))


@pytest.mark.parametrize("name", ["a=1 ü", "what? 100%25 #1", "back\\slash"])
def test_a_data_directory_may_have_any_name(
    name: str, months: Months, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    harness, staged = IcebergHarness(tmp_path / name, request), months.trips(JANUARY)
    assert harness.make().publish(staged).status == "published"
    assert harness.make().publish(staged).status == "unchanged"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['pyiceberg'] = None; from flows.parent import main; sys.exit(main())"
    call = ["--color", "yellow", "--months", "1", "--to", "iceberg", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(
        [sys.executable, "-c", program, *call, "--runner", "direct"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --to iceberg needs the extra `iceberg`; pip install 'taxi-etl[iceberg]'\n"
