"""Tables that are not what they should be, the guard before the COPY, and names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.destinations import assert_holds
from support.postgres_harness import destination

from flows.destinations import LEDGER, REJECTS
from flows.destinations.postgres.address import PostgresAddress
from flows.destinations.postgres.connection import connected
from flows.destinations.postgres.loading_table import check_target
from flows.errors import DestinationRefused, SchemaDrift, UsageError
from transforms.dataset import FILE_MONTH
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.destinations import Months
    from support.postgres import Database
    from support.postgres_harness import PostgresHarness

    from flows.staging import StagedMonth

JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
TABLE = JANUARY.dataset.table
MONTH = f"{TABLE}_2021_01"
COUNT = f"SELECT count(*) FROM {TABLE}"


# Tables of another shape


def _tutorials_table(database: Database) -> None:
    """What pandas' `to_sql` makes of the first rows."""
    database.execute(
        f'CREATE TABLE {TABLE} ("index" bigint, "VendorID" bigint, tpep_pickup_datetime timestamp, '
        "passenger_count double precision, store_and_fwd_flag text, airport_fee double precision)",
        f"INSERT INTO {TABLE} VALUES (1, 2, '2021-01-01', 1.0, 'N', NULL)",
    )


def test_the_tutorials_table_is_refused_with_the_way_on(postgres: Database, months: Months) -> None:
    _tutorials_table(postgres)
    with pytest.raises(SchemaDrift) as refused:
        destination(postgres).publish(months.trips(JANUARY))
    message = refused.value.message
    assert "not partitioned by LIST (file_month)" in message
    assert "passenger_count is double precision, not bigint" in message
    assert "there is no column file_month" in message
    assert f'ALTER TABLE "public"."{TABLE}" RENAME TO "{TABLE}_old"' in message
    assert "DROP TABLE" not in message
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
            r"note of .* takes no null.*ALTER COLUMN \"note\" SET DEFAULT",
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
    assert postgres.tables() == {TABLE, MONTH, LEDGER, REJECTS}
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
    assert postgres.tables() == {TABLE, MONTH, LEDGER, REJECTS}
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
    with connected(PostgresAddress.of_url(postgres.url)) as session, session.transaction():
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
    assert postgres.tables() == {TABLE, MONTH, LEDGER, REJECTS}
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
    assert postgres.tables() == {LEDGER, REJECTS, table, f"{table}_2021_01", f"{table}_2021_02"}
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
        destination(postgres, table=table).publish(months.trips(JANUARY))
    assert postgres.tables() == set()
