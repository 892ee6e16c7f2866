"""What `flows.destinations.base` promises, tried on every destination there is."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, get_type_hints

import pyarrow.parquet as pq
import pytest
from support.destinations import (
    HARNESSES,
    Apart,
    Harness,
    Months,
    asking,
    assert_holds,
    die_while_publishing,
    keep_reading,
    publish_for_ever,
    publish_when_told,
    rows_of,
)

from flows.destinations import DESTINATIONS, LEDGER, REJECTS, Load
from flows.destinations.ledger import SQL_TYPES
from flows.errors import ReconciliationError, SchemaDrift, TaxiError
from transforms.dataset import FILE_MONTH, ColumnType
from transforms.datasets import DATASETS
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from flows.staging import StagedMonth

JANUARY, FEBRUARY, MARCH, APRIL = (TripMonth("yellow", 2021, month) for month in (1, 2, 3, 4))
GREEN_JANUARY = TripMonth("green", 2021, 1)
TABLE = JANUARY.dataset.table
OF_JANUARY = f"{FILE_MONTH} = DATE '2021-01-01'"

FIRST_AND_LAST_MOMENT = [dt.datetime.min, dt.datetime.max]  # noqa: DTZ901 - New York time, no zone
AWKWARD_NAMES = (
    "select",
    "two words",
    "it's",
    'say "no" twice',
    f'x"; drop table {TABLE}; --',
    f"x'; drop table {TABLE}; --",
    "größe",
    "数量 😀",
    "%s",
    "{x}",
    "$1",
    "?",
    "a.b",
    "back\\slash",
    "filename",
    "rowid",
    "x" * 63,
)


def test_every_destination_has_a_harness() -> None:
    lacking = sorted(set(DESTINATIONS) - set(HARNESSES))
    assert not lacking, (
        f"no contract for {', '.join(lacking)}: add a Harness to tests/support/destinations.py"
    )
    assert set(HARNESSES) == {*DESTINATIONS, "recording"}, "a harness for something that is not there"


# One month


@pytest.mark.parametrize("color", DATASETS)
def test_a_published_month_is_there_whole(anywhere: Harness, months: Months, color: str) -> None:
    staged = months.synthetic(TripMonth(color, 2021, 1), 500)
    destination = anywhere.make()
    assert destination.loaded(staged.month) is None
    before = dt.datetime.now(dt.UTC)

    receipt = destination.publish(staged)

    assert (receipt.destination, receipt.rows, receipt.status) == (destination.name, 500, "published")
    assert 0 <= receipt.seconds < 60
    assert_holds(anywhere, staged)
    load = destination.loaded(staged.month)
    assert load is not None
    assert before <= load.loaded_at <= dt.datetime.now(dt.UTC)
    assert load.loaded_at.utcoffset() == dt.timedelta(0)


def test_columns_are_in_the_staged_files_order(warehouse: Harness, months: Months) -> None:
    staged = months.trips(JANUARY, new=["tip_jar"])
    warehouse.make().publish(staged)
    assert warehouse.read(TABLE).column_names == pq.read_schema(staged.path).names


def test_asking_creates_nothing(anywhere: Harness) -> None:
    assert anywhere.make().loaded(JANUARY) is None
    if anywhere.keeps_rows:
        assert anywhere.tables() == set()


def test_publishing_again_changes_nothing(anywhere: Harness, months: Months) -> None:
    staged = months.trips(JANUARY)
    anywhere.make().publish(staged)
    load = anywhere.make().loaded(JANUARY)

    receipt = anywhere.make().publish(staged)

    assert (receipt.rows, receipt.status) == (staged.rows, "unchanged")
    assert anywhere.make().loaded(JANUARY) == load
    assert_holds(anywhere, staged)


def test_force_publishes_again(anywhere: Harness, months: Months) -> None:
    staged = months.trips(JANUARY)
    anywhere.make().publish(staged)
    before = anywhere.make().loaded(JANUARY)

    receipt = anywhere.make().publish(staged, force=True)

    after = anywhere.make().loaded(JANUARY)
    assert (receipt.rows, receipt.status) == (staged.rows, "published")
    assert before
    assert after
    assert after.loaded_at > before.loaded_at
    assert_holds(anywhere, staged)


@pytest.mark.parametrize("rows", [50, 20], ids=["same size", "shrunk"])
def test_a_changed_month_is_replaced_and_no_other(anywhere: Harness, months: Months, rows: int) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, rows, first=1000)
    others = [months.trips(FEBRUARY), months.trips(TripMonth("yellow", 2020, 1)), months.trips(GREEN_JANUARY)]
    for staged in (old, *others):
        anywhere.make().publish(staged)
    assert_holds(anywhere, old, *others)
    loads = [anywhere.make().loaded(staged.month) for staged in others]

    assert anywhere.make().publish(new).status == "published"

    assert_holds(anywhere, new, *others)
    assert [anywhere.make().loaded(staged.month) for staged in others] == loads


@pytest.mark.parametrize(
    "changed",
    [{"schema_version": "0.other"}, {"row_transforms": ("a", "b")}, {"source_sha256": "0" * 64}],
    ids=["schema version", "row transforms", "checksum"],
)
def test_a_month_staged_in_another_way_is_replaced(
    anywhere: Harness, months: Months, changed: dict[str, object]
) -> None:
    staged = months.trips(JANUARY)
    anywhere.make().publish(replace(staged, **changed))
    assert_holds(anywhere, replace(staged, **changed))
    assert anywhere.make().publish(staged).status == "published"
    assert_holds(anywhere, staged)


def test_the_same_bytes_from_another_url_are_the_same_month(anywhere: Harness, months: Months) -> None:
    staged = months.trips(JANUARY)
    anywhere.make().publish(staged)
    moved = replace(staged, source="https://elsewhere/yellow.parquet", path=staged.path)
    assert anywhere.make().publish(moved).status == "unchanged"
    assert_holds(anywhere, staged)


def test_progress_ends_with_all_rows(anywhere: Harness, months: Months) -> None:
    staged, seen = months.trips(JANUARY), []
    anywhere.make().publish(staged, report=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (staged.rows, staged.rows)


# Values


def test_extreme_values_survive(store: Harness, months: Months) -> None:
    values = {
        "tpep_pickup_datetime": FIRST_AND_LAST_MOMENT * 2,
        "VendorID": [2**63 - 1, -(2**63), 0, None],
        "PULocationID": [2**53 + 1, -1, None, 1],
        "fare_amount": [-0.0, 0.0, 5e-324, 1.7976931348623157e308],
        "extra": [0.1 + 0.2, -1.7976931348623157e308, None, 1e-7],
        "store_and_fwd_flag": ["", None, "NULL", "\\N"],
        "note": ["", None, "e\u0301 \u202e 😀" * 1_300, "\t\r\n\\ '\" ;--"],
    }
    for month in (JANUARY, TripMonth("yellow", 9999, 12)):
        staged = months.of(month, values)
        in_file = pq.read_table(staged.path)
        assert repr(in_file.select(list(values)).to_pydict()) == repr(values), "the staging changed it"
        assert store.make().publish(staged).rows == len(values["note"])
        found = store.read(TABLE).rename_columns(store.read(TABLE).column_names)
        ours = [at for at, day in enumerate(found[FILE_MONTH].to_pylist()) if day == month.first_day]
        assert rows_of(found.take(ours), in_file.column_names) == rows_of(in_file, in_file.column_names)


# Columns


def test_a_table_grows_by_the_columns_of_a_newer_file(store: Harness, months: Months) -> None:
    staged = [
        months.trips(JANUARY),
        months.trips(FEBRUARY, new=["tip_jar"]),
        months.trips(MARCH, first=200, new=["second", "tip_jar"]),
        months.trips(APRIL, first=300),
    ]
    for count, month in enumerate(staged, start=1):
        store.make().publish(month)
        assert_holds(store, *staged[:count])
    assert store.make().publish(staged[1]).status == "unchanged"
    january = months.trips(JANUARY, first=900, new=["tip_jar"])
    store.make().publish(january)
    assert_holds(store, january, *staged[1:])


@pytest.mark.parametrize("grows", [False, True], ids=["created with", "grown by"])
def test_columns_with_awkward_names(store: Harness, months: Months, grows: bool) -> None:
    staged = [months.trips(FEBRUARY, new=list(filter(store.takes_name, AWKWARD_NAMES)))]
    if grows:
        staged.insert(0, months.trips(JANUARY))
    for month in staged:
        store.make().publish(month)
    assert_holds(store, *staged)


BAD_LINES = (
    b"1,2",
    b"NUL \0 and \xff bytes",
    b"tab\t, 'quote', back\\slash",
    b'no ""quote"" \xf0\x9f\x98\x80',
)


def _expected_rejects(*months: StagedMonth) -> list[tuple[object, ...]]:
    return sorted(
        (staged.month.color, staged.month.first_day, *row)
        for staged in months
        if staged.rejects_path
        for row in zip(*pq.read_table(staged.rejects_path).to_pydict().values(), strict=True)
    )


def test_rejects_are_there_and_replaced_with_their_month(store: Harness, months: Months) -> None:
    january, february = months.with_rejects(JANUARY, *BAD_LINES), months.with_rejects(FEBRUARY, b"?")
    for staged in (january, february, months.synthetic(MARCH, 500)):
        store.make().publish(staged)
    expected = _expected_rejects(january, february)
    assert store.rejects() == expected
    assert [row[3] for row in expected] == [
        "1,2",
        "NUL \\x00 and \\xff bytes",
        "tab\t, 'quote', back\\slash",
        'no ""quote"" 😀',
        "?",
    ]
    [holding] = store.make().holdings(JANUARY.dataset, (JANUARY.first_day, JANUARY.first_day))
    assert (holding.rejects, holding.reconciles) == (len(BAD_LINES), True)
    assert store.make().publish(january).status == "unchanged"

    fewer = months.with_rejects(JANUARY, b"other", b"lines")
    store.make().publish(fewer)
    assert store.rejects() == _expected_rejects(fewer, february)
    assert_holds(store, fewer, february, months.synthetic(MARCH, 500))

    none = months.synthetic(JANUARY, 500)
    store.make().publish(none)
    assert store.rejects() == _expected_rejects(february)


def test_rejects_that_do_not_add_up_leave_the_month_as_it_was(store: Harness, months: Months) -> None:
    old = months.with_rejects(JANUARY, b"old")
    store.make().publish(old)
    new = months.with_rejects(JANUARY, *BAD_LINES)
    for wrong in (replace(new, rejected_rows=7), replace(new, rejects_path=None)):
        with pytest.raises(ReconciliationError, match="taxi_rejects"):
            store.make().publish(wrong)
        assert_holds(store, old)
        assert store.rejects() == _expected_rejects(old)


def test_a_month_whose_rejects_are_gone_is_loaded_again(warehouse: Harness, months: Months) -> None:
    staged = months.with_rejects(JANUARY, *BAD_LINES)
    for damage in (f"DELETE FROM {REJECTS} WHERE {OF_JANUARY}", f"DROP TABLE {REJECTS}"):
        warehouse.make().publish(staged)
        warehouse.execute(damage)
        assert warehouse.make().loaded(JANUARY) is None
        assert warehouse.make().publish(staged).status == "published"
        assert warehouse.rejects() == _expected_rejects(staged)


@pytest.mark.parametrize("store", ["gcs", "iceberg"], indirect=True)
def test_where_rejects_are_replaced_apart_a_month_is_loaded_without_them(
    store: Harness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = months.with_rejects(JANUARY, b"old"), months.with_rejects(JANUARY, *BAD_LINES)
    store.make().publish(old)
    with monkeypatch.context() as patch:
        patch.setattr(f"{store.module}.reconcile", lambda *_: 1 / 0)  # after the rejects, before the trips
        with pytest.raises(ZeroDivisionError):
            store.make().publish(new)
    assert store.rejects() == _expected_rejects(new)
    load = store.make().loaded(JANUARY)
    assert load
    assert load.source_sha256 == old.source_sha256
    [holding] = store.make().holdings(JANUARY.dataset)
    assert not holding.reconciles
    assert store.make().publish(old).status == "published"
    assert store.rejects() == _expected_rejects(old)
    assert_holds(store, old)


def test_a_ledger_of_an_earlier_version_is_read_and_grows(warehouse: Harness, months: Months) -> None:
    staged = replace(months.trips(JANUARY), warnings=("zero_distance 0.3 > 0.2",))
    warehouse.make().publish(staged)
    load = warehouse.make().loaded(JANUARY)
    assert load.warnings == "zero_distance 0.3 > 0.2"
    _make_earlier_ledger(warehouse, load)
    before = warehouse.make().loaded(JANUARY)
    assert before == replace(load, warnings=None)
    assert warehouse.make().publish(staged).status == "unchanged"

    warehouse.make().publish(months.trips(FEBRUARY))

    assert warehouse.make().loaded(JANUARY) == before
    assert "warnings" in warehouse.read(LEDGER).column_names


def _make_earlier_ledger(warehouse: Harness, load: Load) -> None:
    """Put the ledger of a version without rejects and warnings in place of today's."""
    hints = {name: hint for name, hint in get_type_hints(Load).items() if name != "warnings"}
    types = {name: getattr(SQL_TYPES[hint], warehouse.make().name) for name, hint in hints.items()}
    warehouse.execute(f"DROP TABLE {REJECTS}")
    warehouse.execute(f"DROP TABLE {LEDGER}")
    warehouse.execute(f"CREATE TABLE {LEDGER} ({', '.join(map(' '.join, types.items()))})")
    values = (f"CAST('{getattr(load, name)}' AS {kind})" for name, kind in types.items())
    warehouse.execute(f"INSERT INTO {LEDGER} ({', '.join(types)}) VALUES ({', '.join(values)})")


def test_a_column_that_cannot_be_called_so_is_refused(store: Harness, months: Months) -> None:
    refused = [name for name in AWKWARD_NAMES if not store.takes_name(name)]
    if not refused:
        return
    old, new = months.trips(JANUARY), months.trips(FEBRUARY, new=["tip_jar", *refused])
    store.make().publish(old)
    with pytest.raises(SchemaDrift) as said:
        store.make().publish(new)
    assert all(repr(name) in said.value.message for name in refused)
    assert "tip_jar" not in said.value.message
    assert "\n" not in said.value.message
    assert_holds(store, old)


def test_a_table_of_another_shape_is_refused_and_left_alone(warehouse: Harness, months: Months) -> None:
    warehouse.create_table(
        TABLE,
        {
            "fare_amount": ColumnType.INTEGER,
            "store_and_fwd_flag": ColumnType.FLOAT,
            "extra": ColumnType.FLOAT,
            FILE_MONTH: ColumnType.DATE,
        },
    )
    warehouse.execute(f"INSERT INTO {TABLE} (fare_amount, {FILE_MONTH}) VALUES (7, DATE '2021-01-01')")
    before = warehouse.read(TABLE)

    with pytest.raises(SchemaDrift) as refused:
        warehouse.make().publish(months.trips(JANUARY))

    message = refused.value.message
    assert TABLE in message
    assert "fare_amount" in message
    assert "store_and_fwd_flag" in message
    assert "extra" not in message
    assert "\n" not in message
    assert warehouse.read(TABLE).equals(before)
    assert warehouse.tables() == {TABLE}
    assert warehouse.make().loaded(JANUARY) is None


def test_a_table_that_was_never_ours_is_refused(warehouse: Harness, months: Months) -> None:
    warehouse.create_table(TABLE, {"fare_amount": ColumnType.FLOAT})
    assert warehouse.make().loaded(JANUARY) is None
    with pytest.raises(SchemaDrift, match=FILE_MONTH):
        warehouse.make().publish(months.trips(JANUARY))
    assert warehouse.read(TABLE).column_names == ["fare_amount"]
    assert warehouse.tables() == {TABLE}


def test_a_ledger_of_another_shape_is_refused_before_anything_is_loaded(
    warehouse: Harness, months: Months
) -> None:
    warehouse.create_table(
        LEDGER,
        {"dataset": ColumnType.TEXT, FILE_MONTH: ColumnType.DATE, "row_count": ColumnType.TEXT},
    )
    assert warehouse.make().loaded(JANUARY) is None
    with pytest.raises(SchemaDrift, match=rf"{LEDGER}.*row_count"):
        warehouse.make().publish(months.trips(JANUARY))
    assert warehouse.tables() == {LEDGER}
    assert warehouse.read(LEDGER).num_rows == 0


# Repairs


@pytest.mark.parametrize(
    "damage",
    [
        f"DELETE FROM {TABLE} WHERE {OF_JANUARY}",
        f"DELETE FROM {TABLE} WHERE {OF_JANUARY} AND fare_amount < 2",
        f"INSERT INTO {TABLE} SELECT * FROM {TABLE} WHERE {OF_JANUARY}",
        f"UPDATE {LEDGER} SET row_count = 7 WHERE {OF_JANUARY}",
        f"DELETE FROM {LEDGER} WHERE {OF_JANUARY}",
    ],
    ids=["rows gone", "some rows gone", "rows doubled", "ledger wrong", "ledger row gone"],
)
def test_a_month_that_the_ledger_has_wrong_is_loaded_again(
    warehouse: Harness, months: Months, damage: str
) -> None:
    january, february = months.trips(JANUARY), months.trips(FEBRUARY)
    for staged in (january, february):
        warehouse.make().publish(staged)
    other = warehouse.make().loaded(FEBRUARY)
    warehouse.execute(damage)

    assert warehouse.make().loaded(JANUARY) is None
    assert warehouse.make().loaded(FEBRUARY) == other
    assert warehouse.make().publish(january).status == "published"

    assert_holds(warehouse, january, february)
    assert warehouse.make().publish(february).status == "unchanged"


# What is there, with one question


def test_holdings_are_every_month_of_the_dataset_and_no_other(anywhere: Harness, months: Months) -> None:
    destination = anywhere.make()
    assert destination.holdings(JANUARY.dataset) == []
    there = [months.trips(month) for month in (MARCH, JANUARY, FEBRUARY, GREEN_JANUARY)]
    for staged in there:
        destination.publish(staged)

    found = destination.holdings(JANUARY.dataset)

    assert [one.load for one in found] == [destination.loaded(m) for m in (JANUARY, FEBRUARY, MARCH)]
    assert [(one.file_month, one.rows, one.reconciles) for one in found] == [
        (month.first_day, 50, True) for month in (JANUARY, FEBRUARY, MARCH)
    ]
    between = destination.holdings(JANUARY.dataset, (FEBRUARY.first_day, FEBRUARY.first_day))
    assert between == [found[1]]
    assert [one.load for one in destination.holdings(GREEN_JANUARY.dataset)] == [
        destination.loaded(GREEN_JANUARY)
    ]


@pytest.mark.parametrize(
    ("damage", "ledger_rows", "rows"),
    [
        (f"DELETE FROM {TABLE} WHERE {OF_JANUARY}", 50, 0),
        (f"INSERT INTO {TABLE} SELECT * FROM {TABLE} WHERE {OF_JANUARY}", 50, 100),
        (f"UPDATE {LEDGER} SET row_count = 7 WHERE {OF_JANUARY}", 7, 50),
        (f"DELETE FROM {LEDGER} WHERE {OF_JANUARY}", None, 50),
        (LEDGER, None, 50),
        (TABLE, 50, 0),
    ],
    ids=["rows gone", "rows doubled", "ledger wrong", "ledger row gone", "no ledger", "no table"],
)
def test_holdings_show_what_differs(
    warehouse: Harness, months: Months, damage: str, ledger_rows: int | None, rows: int
) -> None:
    warehouse.make().publish(months.trips(JANUARY))
    warehouse.execute(warehouse.drop.format(damage) if damage in {TABLE, LEDGER} else damage)
    [january] = warehouse.make().holdings(JANUARY.dataset)
    assert (january.load and january.load.row_count, january.rows) == (ledger_rows, rows)
    assert january.file_month == JANUARY.first_day
    assert not january.reconciles


@pytest.mark.parametrize("dropped", [[TABLE], [LEDGER], [TABLE, LEDGER]], ids=" and ".join)
def test_a_table_that_was_dropped_is_made_again(
    warehouse: Harness, months: Months, dropped: list[str]
) -> None:
    staged = months.trips(JANUARY)
    warehouse.make().publish(staged)
    for table in dropped:
        warehouse.execute(warehouse.drop.format(table))
    assert warehouse.make().loaded(JANUARY) is None
    assert warehouse.make().publish(staged).status == "published"
    assert_holds(warehouse, staged)
    if warehouse.has_tables:
        assert warehouse.read("taxi_trips").num_rows == staged.rows, "and the views"


# Failures


@pytest.mark.parametrize(
    ("error", "had_before"),
    [(ReconciliationError("counted wrong"), True), (KeyboardInterrupt(), True), (KeyboardInterrupt(), False)],
    ids=["wrong count", "interrupted", "interrupted at its first month"],
)
def test_a_failure_after_the_rows_are_written_leaves_the_old_month(
    anywhere: Harness,
    months: Months,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    had_before: bool,
) -> None:
    old, other = months.trips(JANUARY), months.trips(FEBRUARY)
    new = months.trips(JANUARY, 80, first=500)
    there = [old, other] if had_before else [other]
    for staged in there:
        anywhere.make().publish(staged)
    loads = [anywhere.make().loaded(staged.month) for staged in there]

    with monkeypatch.context() as patch:
        asked = _raise_instead_of_counting(patch, anywhere, error)
        with pytest.raises(type(error)):
            anywhere.make().publish(new)

    assert asked == [(new.rows, new.rows)], "reconcile is called once, with both counts"
    assert [anywhere.make().loaded(staged.month) for staged in there] == loads
    assert (anywhere.make().loaded(JANUARY) is not None) is had_before
    assert_holds(anywhere, *there)
    assert anywhere.make().publish(new).status == "published"
    assert_holds(anywhere, new, other)


def _raise_instead_of_counting(
    patch: pytest.MonkeyPatch, harness: Harness, error: BaseException
) -> list[tuple[int, int]]:
    asked = []

    def reconcile(_: str, staged_rows: int, counted_rows: int) -> None:
        asked.append((staged_rows, counted_rows))
        raise error

    patch.setattr(importlib.import_module(harness.module), "reconcile", reconcile)
    return asked


def test_a_file_with_other_rows_than_it_is_said_to_have_is_refused(store: Harness, months: Months) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    store.make().publish(old)
    with pytest.raises(ReconciliationError, match=r"81 rows staged, 80 counted"):
        store.make().publish(replace(new, rows=81))
    assert_holds(store, old)


@pytest.mark.parametrize("spoil", ["absent", "garbage", "truncated"])
def test_a_staged_file_that_cannot_be_read_leaves_the_old_month(
    store: Harness, months: Months, tmp_path: object, spoil: str
) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    store.make().publish(old)
    spoiled = new.path.with_name(f"{spoil}.parquet")
    content = new.path.read_bytes()
    if spoil != "absent":
        spoiled.write_bytes(b"PAR1" * 10 if spoil == "garbage" else content[: len(content) // 2])
    with pytest.raises((TaxiError, OSError)) as refused:
        store.make().publish(replace(new, path=spoiled))
    assert "\n" not in str(refused.value)
    assert spoiled.name in str(refused.value)
    assert_holds(store, old)


def test_a_killed_process_leaves_the_old_month(store: Harness, months: Months) -> None:
    old, other = months.trips(JANUARY), months.trips(FEBRUARY)
    new = months.trips(JANUARY, 80, first=500)
    for staged in (old, other):
        store.make().publish(staged)

    with Apart(die_while_publishing, store.place, store.module, new) as process:
        assert process.wait() == -signal.SIGKILL

    store.settle()
    assert_holds(store, old, other)
    assert store.make().publish(new).status == "published"
    assert_holds(store, new, other)


def test_a_process_killed_at_its_first_month_leaves_nothing(store: Harness, months: Months) -> None:
    staged = months.trips(JANUARY)
    with Apart(die_while_publishing, store.place, store.module, staged) as process:
        assert process.wait() == -signal.SIGKILL
    store.settle()
    assert store.make().loaded(JANUARY) is None
    assert store.make().publish(staged).status == "published"
    assert_holds(store, staged)


def test_whenever_a_process_is_killed_one_whole_month_stays(store: Harness, months: Months) -> None:
    old, new = months.trips(JANUARY, 2000), months.trips(JANUARY, 2500, first=5000)
    other = months.trips(FEBRUARY)
    for staged in (old, other):
        store.make().publish(staged)
    by_checksum = {staged.source_sha256: staged for staged in (old, new)}

    for moment in (0.1, 0.3, 0.5, 0.7, 0.9):
        with Apart(publish_for_ever, store.place, (new, old)) as process:
            seconds = min(process.hear() for _ in range(2))
            time.sleep(moment * seconds)
            process.kill()
        store.settle()
        load = store.make().loaded(JANUARY)
        assert load, f"killed at {moment:.0%}: no whole month"
        assert_holds(store, by_checksum[load.source_sha256], other)

    store.make().publish(new)
    assert_holds(store, new, other)
    assert store.make().publish(new).status == "unchanged"


# At once


def _four_months(months: Months) -> list[StagedMonth]:
    return [
        months.trips(month, 1000, first=1000 * at)
        for at, month in enumerate((JANUARY, FEBRUARY, MARCH, GREEN_JANUARY))
    ]


def test_four_months_from_four_threads(anywhere: Harness, months: Months) -> None:
    four = _four_months(months)
    together = threading.Barrier(len(four), timeout=60)

    def publish(staged: StagedMonth) -> str:
        together.wait()
        return anywhere.make().publish(staged).status

    with ThreadPoolExecutor(len(four)) as pool:
        assert list(pool.map(publish, four)) == ["published"] * 4
    assert_holds(anywhere, *four)


def test_four_months_from_four_processes(store: Harness, months: Months) -> None:
    four = _four_months(months)
    assert _publish_together(store, *([staged] for staged in four)) == [["published"]] * 4
    assert_holds(store, *four)


def test_the_same_month_from_two_processes(store: Harness, months: Months) -> None:
    staged = months.trips(JANUARY, 1000)
    first, second = sorted(_publish_together(store, [staged], [staged]))
    assert first == ["published"]
    assert second in (["published"], ["unchanged"])
    assert_holds(store, staged)


def _publish_together(store: Harness, *by_process: list[StagedMonth]) -> list[list[str]]:
    """The statuses, by process."""
    with contextlib.ExitStack() as running:
        processes = [
            running.enter_context(Apart(publish_when_told, store.place, staged)) for staged in by_process
        ]
        for process in processes:
            process.hear()
        for process in processes:
            process.tell("go")
        return [[receipt.status for receipt in process.hear()] for process in processes]


def test_a_reader_sees_the_old_month_or_the_new_one(warehouse: Harness, months: Months) -> None:
    small, large = months.trips(JANUARY, 1000), months.trips(JANUARY, 1500, first=5000)
    warehouse.make().publish(small)
    question = (
        f"SELECT (SELECT count(*) FROM {TABLE} WHERE {OF_JANUARY}), "
        f"(SELECT row_count FROM {LEDGER} WHERE dataset = 'yellow' AND {OF_JANUARY})"
    )
    with keep_reading(partial(asking, warehouse, question)) as readers:
        for staged in [large, small] * 5:
            warehouse.make().publish(staged)
    assert readers.seen().keys() == {(1000, 1000), (1500, 1500)}
    assert_holds(warehouse, small)
