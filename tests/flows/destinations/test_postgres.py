"""What only Postgres has: partitions, locks, indexes, rights, names; and the real months."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.destinations import assert_holds
from support.postgres_harness import PostgresHarness
from support.trips import REAL_YELLOW, assert_equals_pandas, needs_real_trips, read_with_pandas, real_month

from flows.destinations import LEDGER, make_destination
from flows.destinations.postgres import Options, Postgres
from flows.destinations.postgres_connection import Address, connected
from flows.destinations.postgres_tables import check_target, lock_key
from flows.errors import DestinationBusy, DestinationRefused, SchemaDrift, UsageError
from flows.settings import Settings
from flows.sources import land, locate_source
from flows.staging import StagingOptions, stage
from transforms.dataset import FILE_MONTH
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from support.destinations import Months
    from support.postgres import Database

    from flows.staging import StagedMonth

JANUARY, FEBRUARY, MARCH, APRIL = (TripMonth("yellow", 2021, month) for month in (1, 2, 3, 4))
TABLE = JANUARY.dataset.table
MONTH = f"{TABLE}_2021_01"
COUNT = f"SELECT count(*) FROM {TABLE}"


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> PostgresHarness:
    return PostgresHarness(tmp_path / "data", request)


def destination(database: Database, **options: Any) -> Postgres:  # noqa: ANN401
    return Postgres(lambda: Address.of_url(database.url), Options(**options))


# Real trips


@needs_real_trips
def test_twelve_real_months_value_by_value(postgres: Database, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, postgres_url=postgres.url)
    target = make_destination("postgres", tmp_path, settings)
    template = str(REAL_YELLOW / "{color}_tripdata_{year}-{month:02}.csv.gz")
    total = 0
    for number in range(1, 13):
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
    seen, done = set(), threading.Event()

    def read() -> None:
        with postgres.connect() as connection, connection.cursor() as cursor:
            while not done.is_set():
                cursor.execute(COUNT)
                seen.update(cursor.fetchall())

    with ThreadPoolExecutor(3) as pool:
        reading = [pool.submit(read) for _ in range(3)]
        for staged in [large, small] * 10:
            destination(postgres).publish(staged)
        done.set()
        for reader in reading:
            reader.result()
    assert seen == {(1000,), (1500,)}


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
        with pytest.raises(DestinationBusy, match="waited too long for a lock"):
            destination(postgres, lock_timeout_seconds=0.3, swap_timeout_seconds=0.1).publish(new)
        reader.execute("COMMIT")
    assert postgres.tables() == {TABLE, MONTH, LEDGER}
    assert_holds(harness, old)


# At once


def test_the_same_month_waits_for_its_turn(postgres: Database, months: Months) -> None:
    staged, key = months.trips(JANUARY), lock_key(f"{MONTH}_loading")
    with postgres.connect() as connection, connection.cursor() as other:
        other.execute(f"SELECT pg_advisory_lock({key})")
        other.fetchall()
        with pytest.raises(DestinationBusy, match=f"another run has been loading {MONTH} for 0.1 s"):
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
            postgres.execute(f"DROP TABLE {TABLE}")


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
        "SELECT p.relname::text, i.indisunique, i.indisvalid, pg_get_indexdef(i.indexrelid) FROM pg_index i "
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
        built = [definition for *_, definition in postgres.rows(attached) if "_2021_01_lo" in definition]
        assert len(built) == 2, "ATTACH builds indexes with the table locked; they have to be there before"
    finally:
        postgres.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


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


# Tables of another shape


def _tutorials_table(database: Database) -> None:
    """What pandas' `to_sql` makes of the first rows."""
    database.execute(
        f'CREATE TABLE {TABLE} ("index" bigint, "VendorID" bigint, tpep_pickup_datetime timestamp, '
        "passenger_count double precision, store_and_fwd_flag text, airport_fee double precision)",
        f"INSERT INTO {TABLE} VALUES (1, 2, '2021-01-01', 1.0, 'N', NULL)",
    )


def test_the_tutorials_table_is_refused_with_the_two_ways_on(postgres: Database, months: Months) -> None:
    _tutorials_table(postgres)
    with pytest.raises(SchemaDrift) as refused:
        destination(postgres).publish(months.trips(JANUARY))
    message = refused.value.message
    assert "not partitioned by LIST (file_month)" in message
    assert "passenger_count is double precision, not bigint" in message
    assert "there is no column file_month" in message
    assert f'ALTER TABLE public."{TABLE}" RENAME TO "{TABLE}_old"' in message
    assert f'DROP TABLE public."{TABLE}"' in message
    assert "VendorID" not in message
    assert postgres.value(COUNT) == 1
    assert postgres.tables() == {TABLE}

    [rename] = re.findall(r"\((ALTER TABLE .*?)\)", message)
    postgres.execute(rename)
    assert destination(postgres).publish(months.trips(JANUARY)).status == "published"
    assert postgres.value(f"SELECT count(*) FROM {TABLE}_old") == 1


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (f"CREATE VIEW {TABLE} AS SELECT DATE '2021-01-01' AS file_month", "not partitioned"),
        (
            f"CREATE TABLE {TABLE} (file_month date) PARTITION BY RANGE (file_month)",
            r"not partitioned by LIST \(file_month\), but by RANGE \(file_month\)",
        ),
        (
            f"CREATE TABLE {TABLE} (file_month date, note int NOT NULL) PARTITION BY LIST (file_month)",
            "note takes no null",
        ),
        (
            f"CREATE TABLE {TABLE} (file_month date, extra numeric(8,2)) PARTITION BY LIST (file_month)",
            r"extra is numeric\(8,2\), not double precision",
        ),
        (
            f"CREATE TABLE {TABLE} (file_month date, fare_amount bigint) PARTITION BY LIST (file_month)",
            "fare_amount is bigint, not double precision",
        ),
    ],
    ids=["view", "by range", "not null", "numeric", "bigint"],
)
def test_another_shape_is_refused(postgres: Database, months: Months, made: str, says: str) -> None:
    postgres.execute(made)
    with pytest.raises(SchemaDrift, match=says):
        destination(postgres).publish(months.trips(JANUARY))
    assert destination(postgres).loaded(JANUARY) is None
    assert not postgres.rows(f"SELECT 1 FROM pg_class WHERE relname = '{LEDGER}'")


def test_a_table_with_the_columns_in_another_order_gets_the_right_values(
    harness: PostgresHarness, postgres: Database, months: Months
) -> None:
    columns = JANUARY.dataset.postgres_columns()
    turned = ", ".join(f'"{name}" {kind}' for name, kind in reversed(columns.items()))
    postgres.execute(f"CREATE TABLE {TABLE} ({turned}) PARTITION BY LIST ({FILE_MONTH})")
    staged = months.trips(JANUARY, new=["tip_jar"])
    destination(postgres).publish(staged)
    assert_holds(harness, staged)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (f"CREATE TABLE {MONTH} (kept int)", f"{MONTH} exists and is not FOR VALUES IN"),
        (
            f"CREATE TABLE mine PARTITION OF {TABLE} FOR VALUES IN ('2021-01-01', '2020-12-01')",
            "mine is FOR VALUES IN",
        ),
        (
            f"CREATE TABLE {MONTH} PARTITION OF {TABLE} FOR VALUES IN ('2020-12-01')",
            f"{MONTH} exists and is not FOR VALUES IN",
        ),
    ],
    ids=["plain table", "partition of two months", "partition of another month"],
)
def test_a_months_place_that_is_taken_is_left_alone(
    postgres: Database, months: Months, made: str, says: str
) -> None:
    destination(postgres).publish(months.trips(FEBRUARY))
    postgres.execute(made)
    before = postgres.tables()
    with pytest.raises(SchemaDrift, match=says):
        destination(postgres).publish(months.trips(JANUARY))
    assert postgres.tables() == before
    assert destination(postgres).loaded(JANUARY) is None


def test_a_view_on_a_months_own_table_is_not_dropped(
    harness: PostgresHarness, postgres: Database, months: Months
) -> None:
    old = months.trips(JANUARY)
    destination(postgres).publish(old)
    postgres.execute(f"CREATE VIEW mine AS SELECT * FROM {MONTH}")
    with pytest.raises(DestinationRefused, match=r"other objects depend on it.*view mine.*2BP01"):
        destination(postgres).publish(months.trips(JANUARY, 80, first=500))
    assert postgres.tables() == {TABLE, MONTH, LEDGER}
    assert_holds(harness, old)


def test_a_column_name_that_postgres_would_cut_is_refused(postgres: Database, months: Months) -> None:
    with pytest.raises(SchemaDrift, match="more than 63 bytes"):
        destination(postgres).publish(months.trips(JANUARY, new=["ü" * 32]))
    assert postgres.tables() == set()


# The guard before the COPY


def _rewritten(staged: StagedMonth, column: str, values: pa.Array) -> StagedMonth:
    """The staged month with another content of one column, as no staging would write it."""
    table = pq.read_table(staged.path)
    path = staged.path.with_name(f"{column}.parquet")
    pq.write_table(table.set_column(table.column_names.index(column), column, values), path)
    return replace(staged, path=path)


def test_whole_numbers_do_not_get_into_a_double_column(
    harness: PostgresHarness, postgres: Database, months: Months
) -> None:
    old = months.trips(JANUARY)
    destination(postgres).publish(old)
    wrong = _rewritten(months.trips(JANUARY, 80), "fare_amount", pa.array(range(80), pa.int64()))
    says = "fare_amount is double precision, in the file bigint"
    with pytest.raises(SchemaDrift, match=says):
        destination(postgres).publish(wrong, force=True)
    assert postgres.tables() == {TABLE, MONTH, LEDGER}
    assert_holds(harness, old)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (pa.schema([("a", pa.int64()), ("b", pa.string())]), None),
        (pa.schema([("b", pa.string()), ("a", pa.int64())]), "the table's order is a, b; the file's b, a"),
        (pa.schema([("a", pa.int64())]), "b is text, in the file not there"),
        (
            pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.string())]),
            "c is not there, in the file text",
        ),
        (pa.schema([("a", pa.int32()), ("b", pa.string())]), "a is bigint, in the file int32"),
        (pa.schema([("a", pa.int64()), ("b", pa.string()), ("b", pa.string())]), "the file's a, b, b"),
    ],
    ids=["same", "order", "lacks one", "one more", "another type", "one twice"],
)
def test_the_guard(postgres: Database, schema: pa.Schema, says: str | None) -> None:
    postgres.execute("CREATE TABLE target (a bigint, b text)")
    with connected(Address.of_url(postgres.url)) as session, session.transaction():
        if says is None:
            check_target(session, "target", schema)
            return
        with pytest.raises(SchemaDrift, match=says):
            check_target(session, "target", schema)


def test_a_nul_in_a_text_is_refused_clearly(
    harness: PostgresHarness, postgres: Database, months: Months
) -> None:
    old = months.trips(JANUARY)
    destination(postgres).publish(old)
    texts = pa.array([*["N"] * 79, "a\0b"])
    wrong = _rewritten(months.trips(JANUARY, 80), "store_and_fwd_flag", texts)
    with pytest.raises(DestinationRefused, match=r"cannot store the character \\x00 in text") as refused:
        destination(postgres).publish(wrong, force=True)
    assert "\n" not in str(refused.value)
    assert postgres.tables() == {TABLE, MONTH, LEDGER}
    assert_holds(harness, old)


# Names of tables


@pytest.mark.parametrize(
    "table",
    [
        "select",
        f'x"; drop table {LEDGER}; --',
        "it's",
        "a.b",
        "%s {x} $1",
        "größe 😀",
        "UPPER",
        "x" * 47,
        " ",
    ],
)
def test_any_name_a_user_may_choose(postgres: Database, months: Months, table: str) -> None:
    quoted = '"' + table.replace('"', '""') + '"'
    target = destination(postgres, table=table, indexes="brin")
    target.publish(months.trips(JANUARY))
    target.publish(months.trips(JANUARY, 80, first=500, new=["tip_jar"]))
    assert target.publish(months.trips(FEBRUARY)).status == "published"
    assert postgres.value(f"SELECT count(*) FROM {quoted}") == 130
    assert postgres.tables() == {LEDGER, table, f"{table}_2021_01", f"{table}_2021_02"}
    load = target.loaded(JANUARY)
    assert load is not None
    assert (load.dataset, load.row_count) == ("yellow", 80)


def test_tables_of_several_names_have_ledger_rows_of_their_own(postgres: Database, months: Months) -> None:
    mine, usual = destination(postgres, table="mine"), destination(postgres)
    mine.publish(months.trips(JANUARY))
    assert usual.loaded(JANUARY) is None
    usual.publish(months.trips(JANUARY, 80, first=500))
    assert mine.publish(months.trips(JANUARY)).status == "unchanged"
    keys = postgres.rows(f"SELECT dataset, row_count FROM {LEDGER} ORDER BY row_count")
    assert keys == [("yellow:mine", 50), ("yellow", 80)]


@pytest.mark.parametrize("table", ["", "x" * 48, "ü" * 24, "a\0b", LEDGER])
def test_a_name_that_postgres_cannot_have(postgres: Database, months: Months, table: str) -> None:
    with pytest.raises(UsageError, match="no table can be called"):
        Postgres(lambda: Address.of_url(postgres.url), Options(table=table)).publish(months.trips(JANUARY))
    assert postgres.tables() == set()
