"""What only Postgres has: partitions, locks, indexes, rights, names; and the real months."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support.destinations import assert_holds, keep_reading
from support.postgres_harness import destination
from support.trips import (
    REAL_MONTHS,
    REAL_YELLOW,
    assert_equals_pandas,
    needs_real_trips,
    read_with_pandas,
    real_month,
)

from flows.destinations import LEDGER, REJECTS, make_destination
from flows.destinations.postgres.tables import LONGEST_NAME_BYTES, lock_key
from flows.errors import LockTimeout
from flows.settings import Settings
from flows.sources import land, locate_source
from flows.staging import StagingOptions, stage
from transforms.dataset import FILE_MONTH
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from support.destinations import Months
    from support.postgres import Database
    from support.postgres_harness import PostgresHarness

JANUARY, FEBRUARY, MARCH, APRIL = (TripMonth("yellow", 2021, month) for month in (1, 2, 3, 4))
TABLE = JANUARY.dataset.table
MONTH = f"{TABLE}_2021_01"
COUNT = f"SELECT count(*) FROM {TABLE}"


# Real trips


@needs_real_trips
def test_real_months_value_by_value(postgres: Database, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, postgres_url=postgres.url)
    target = make_destination("postgres", tmp_path, settings)
    template = str(REAL_YELLOW / "{color}_tripdata_{year}-{month:02}.csv.gz")
    total = 0
    for number in REAL_MONTHS:
        month = TripMonth("yellow", 2019, number)
        landed = land(locate_source(template, month, settings), tmp_path, settings)
        receipt = target.publish(stage(landed, month, tmp_path, StagingOptions()))

        expected = read_with_pandas(
            real_month(number), timestamps=["tpep_pickup_datetime", "tpep_dropoff_datetime"]
        )
        loaded = postgres.table(f"SELECT * FROM {TABLE}_2019_{number:02}").to_pandas()
        assert_equals_pandas(loaded, expected)
        assert {str(day)[:10] for day in loaded[FILE_MONTH]} == {f"2019-{number:02}-01"}
        assert receipt.rows == len(expected)
        total += len(expected)
    assert postgres.value(COUNT) == total
    assert postgres.value(f"SELECT sum(row_count)::bigint FROM {LEDGER}") == total


# Readers


def test_readers_by_copy_see_the_old_count_or_the_new_one(postgres: Database, months: Months) -> None:
    """Such a reader looks at the time before it waits for the lock: the rows have to be there by then."""
    small, large = months.trips(JANUARY, 1000), months.trips(JANUARY, 1500, first=5000)
    destination(postgres).publish(small)

    @contextlib.contextmanager
    def counting() -> Generator[Callable[[], object]]:
        with postgres.connect() as connection, connection.cursor() as cursor:
            yield lambda: cursor.execute(COUNT).fetchone()

    with keep_reading(counting, 3) as readers:
        for staged in [large, small] * 10:
            destination(postgres).publish(staged)
    assert readers.seen().keys() == {(1000,), (1500,)}


def test_the_table_is_free_while_a_month_is_loaded(postgres: Database, months: Months) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 20_000, first=500)
    destination(postgres).publish(old)
    locks = (
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name = "
        f"'taxi-etl' AND l.relation IN ('{TABLE}'::regclass, '{MONTH}'::regclass, '{LEDGER}'::regclass)"
    )
    seen = []

    def look(done: int, _: int | None) -> None:
        if done < new.rows:
            seen.append((postgres.value(COUNT), postgres.value(locks)))

    assert destination(postgres).publish(new, report=look).rows == new.rows
    assert seen == [(old.rows, 0)]


def test_a_new_month_does_not_wait_for_readers(postgres: Database, months: Months) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    with postgres.connect() as connection, connection.cursor() as reader:
        reader.execute("BEGIN")
        reader.execute(COUNT)
        reader.fetchall()
        destination(postgres, lock_timeout_seconds=0).publish(months.trips(FEBRUARY))
        reader.execute("COMMIT")
    assert postgres.value(COUNT) == 100


def test_a_long_query_holds_up_the_swap_and_not_the_other_readers(postgres: Database, months: Months) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    destination(postgres).publish(old)
    with ThreadPoolExecutor(1) as pool, postgres.connect() as connection, connection.cursor() as reader:
        reader.execute("BEGIN")
        reader.execute(COUNT)
        assert reader.fetchall() == [(old.rows,)]
        publishing = pool.submit(destination(postgres, swap_timeout_seconds=0.1).publish, new)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        for _ in range(3):  # it comes again
            while not postgres.value(waiting):
                assert not publishing.done()
            assert postgres.value(COUNT) == old.rows, "a reader that came later waits a tenth of a second"
        reader.execute("COMMIT")
        assert publishing.result().status == "published"
    assert postgres.value(COUNT) == new.rows


def test_a_swap_that_finds_no_gap_gives_up_and_leaves_nothing(
    harness: PostgresHarness, postgres: Database, months: Months
) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    destination(postgres).publish(old)
    with postgres.connect() as connection, connection.cursor() as reader:
        reader.execute("BEGIN")
        reader.execute(COUNT)
        reader.fetchall()
        says = rf"held by PID {connection.info.backend_pid} \(user .*idle in transaction since \d"
        with pytest.raises(LockTimeout, match=says):
            destination(postgres, lock_timeout_seconds=0.3, swap_timeout_seconds=0.1).publish(new)
        reader.execute("COMMIT")
    assert postgres.tables() == {TABLE, MONTH, LEDGER, REJECTS}
    assert_holds(harness, old)


# At once


def test_the_same_month_waits_for_its_turn(postgres: Database, months: Months) -> None:
    staged, key = months.trips(JANUARY), lock_key(f"{MONTH}_loading")
    with postgres.connect() as connection, connection.cursor() as other:
        other.execute(f"SELECT pg_advisory_lock({key})")
        other.fetchall()
        says = rf"waited 0.1 s for a lock of {MONTH} .* PID {connection.info.backend_pid} \(.*taxi-etl, idle"
        with pytest.raises(LockTimeout, match=says):
            destination(postgres, lock_timeout_seconds=0.1).publish(staged)
        assert destination(postgres, lock_timeout_seconds=0.1).publish(months.trips(FEBRUARY)).rows == 50
        other.execute(f"SELECT pg_advisory_unlock({key})")
        other.fetchall()
    assert destination(postgres).publish(staged).status == "published"


def test_months_that_bring_different_columns_at_once(
    harness: PostgresHarness, postgres: Database, months: Months
) -> None:
    staged = [
        months.trips(month, new=[name])
        for month, name in zip((JANUARY, FEBRUARY, MARCH, APRIL), ("a", "b", "c", "d"), strict=True)
    ]
    for round_ in range(3):
        with ThreadPoolExecutor(4) as pool:
            for receipt in pool.map(destination(postgres).publish, staged):
                assert receipt.status == "published"
        assert_holds(harness, *staged)
        if round_ < 2:
            postgres.execute(f"DROP TABLE {TABLE} CASCADE")


def test_four_months_replaced_at_once(harness: PostgresHarness, postgres: Database, months: Months) -> None:
    four = (JANUARY, FEBRUARY, MARCH, APRIL)
    for first in range(0, 5000, 1000):
        staged = [months.trips(month, 1000, first=first + at) for at, month in enumerate(four)]
        with ThreadPoolExecutor(4) as pool:
            assert {r.status for r in pool.map(destination(postgres).publish, staged)} == {"published"}
        assert_holds(harness, *staged)


# What people put on the table


def test_rights_views_and_indexes_survive_a_replacement(postgres: Database, months: Months) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    role = postgres.value("SELECT current_database()") + "_reader"
    postgres.execute(
        f"CREATE ROLE {role}",
        f"GRANT SELECT ON {TABLE} TO {role}",
        f'CREATE VIEW busy AS SELECT "PULocationID", count(*) AS trips FROM {TABLE} GROUP BY 1',
        f'CREATE INDEX "odd ""USING"" name" ON {TABLE} (lower(store_and_fwd_flag), "PULocationID" DESC) '
        "WHERE fare_amount > 0",
        f"CREATE UNIQUE INDEX ON {TABLE} ({FILE_MONTH}, tpep_pickup_datetime)",
        f"ALTER TABLE {TABLE} ADD UNIQUE ({FILE_MONTH}, trip_distance, tpep_pickup_datetime)",
    )
    attached = (
        "SELECT p.relname::text, i.indisunique, i.indisvalid, c.relname::text, c.oid::bigint "
        "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "JOIN pg_inherits h ON h.inhrelid = i.indexrelid JOIN pg_class p ON p.oid = h.inhparent "
        f"WHERE i.indrelid = '{MONTH}'::regclass ORDER BY 1"
    )
    before = postgres.rows(attached)
    assert len(before) == 3
    try:
        for first in (1000, 2000):
            destination(postgres).publish(months.trips(JANUARY, 80, first=first))
            assert [row[:3] for row in postgres.rows(attached)] == [row[:3] for row in before]
            assert postgres.value(f"SELECT has_table_privilege('{role}', '{TABLE}', 'SELECT')")
            assert postgres.value("SELECT sum(trips)::bigint FROM busy") == 80
            names = {name for *_, name, _ in postgres.rows(attached)}
            assert {f'{MONTH}_odd "USING" name', f"{MONTH}_{FILE_MONTH}_tpep_pickup_datetime_idx"} < names
            assert not any("_loading" in name for name in names)
        numbers = {name: oid for *_, name, oid in postgres.rows(attached)}
        by_attach = numbers.pop(next(name for name in numbers if name.endswith("_key")))
        assert max(numbers.values()) < by_attach, "ATTACH locks the table; they have to be there before"
    finally:
        postgres.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_indexes_whose_new_names_would_be_cut_keep_theirs(postgres: Database, months: Months) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    names = [f"{'long' * 12}_{number}" for number in (1, 2)]
    postgres.execute(*(f"CREATE INDEX {name} ON {TABLE} (fare_amount)" for name in names))
    for first in (1000, 2000):
        new = months.trips(JANUARY, 80, first=first)
        assert destination(postgres).publish(new).status == "published"
    indexes = postgres.rows(f"SELECT indexname::text FROM pg_indexes WHERE tablename = '{MONTH}'")
    assert len(indexes) == 2
    assert (f"{MONTH}_{names[0]}"[:LONGEST_NAME_BYTES],) not in indexes


@pytest.mark.parametrize("method", ["brin", "btree"])
def test_an_index_on_the_pickup_time(postgres: Database, months: Months, tmp_path: Path, method: str) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    settings = Settings(_env_file=None, postgres_url=postgres.url, postgres_indexes=method)
    target = make_destination("postgres", tmp_path, settings)
    for staged in (months.trips(FEBRUARY), months.trips(JANUARY, 80, first=500), months.trips(MARCH)):
        target.publish(staged)
    indexed = postgres.rows(
        "SELECT tablename::text, indexdef FROM pg_indexes "
        f"WHERE schemaname = 'public' AND tablename LIKE '{TABLE}%' ORDER BY 1"
    )
    assert [table for table, _ in indexed] == [TABLE, *(f"{TABLE}_2021_{month:02}" for month in (1, 2, 3))]
    assert all(f"USING {method} (tpep_pickup_datetime)" in definition for _, definition in indexed)


def test_no_index_unless_asked_for(postgres: Database, months: Months) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    assert not postgres.rows(f"SELECT 1 FROM pg_indexes WHERE tablename LIKE '{TABLE}%'")
