"""What people put on the table holds for every month that comes in later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.destinations import assert_holds
from support.postgres_harness import destination

from flows.destinations import LEDGER, REJECTS
from flows.errors import DestinationBusy, DestinationRefused, SchemaDrift
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.destinations import Months
    from support.postgres import Database
    from support.postgres_harness import PostgresHarness

JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
TABLE = JANUARY.dataset.table
MONTH = f"{TABLE}_2021_01"


@pytest.fixture
def filled(postgres: Database, months: Months) -> Database:
    """January is loaded."""
    destination(postgres).publish(months.trips(JANUARY))
    return postgres


def replace_january(database: Database, months: Months) -> None:
    """Another January, and a February."""
    destination(database).publish(months.trips(JANUARY, 80, first=500))
    destination(database).publish(months.trips(FEBRUARY, 20))


def test_a_role_that_quotes_every_name(harness: PostgresHarness, filled: Database, months: Months) -> None:
    filled.execute(f"CREATE INDEX ON {TABLE} (fare_amount)")
    name = filled.parameters["dbname"]
    filled.execute(f"ALTER DATABASE {name} SET quote_all_identifiers = on")
    try:
        assert destination(filled).publish(months.trips(JANUARY)).status == "unchanged"
        replace_january(filled, months)
    finally:
        filled.execute(f"ALTER DATABASE {name} RESET quote_all_identifiers")
    assert_holds(harness, months.trips(JANUARY, 80, first=500), months.trips(FEBRUARY, 20))


@pytest.mark.parametrize(
    ("added", "query"),
    [
        ("note text DEFAULT 'mine'", "note = 'mine'"),
        ("note text NOT NULL DEFAULT 'mine'", "note = 'mine'"),
        ("loaded timestamptz NOT NULL DEFAULT now()", "loaded <= now()"),
        (
            "tip double precision GENERATED ALWAYS AS (fare_amount + 1) STORED",
            "tip IS NOT DISTINCT FROM fare_amount + 1",
        ),
    ],
    ids=["default", "not null", "volatile", "generated"],
)
def test_columns_that_the_table_fills_in(filled: Database, months: Months, added: str, query: str) -> None:
    filled.execute(f"ALTER TABLE {TABLE} ADD COLUMN {added}")
    replace_january(filled, months)
    assert filled.value(f"SELECT count(*) FROM {TABLE} WHERE {query}") == 100
    filled.execute(f"INSERT INTO {TABLE} (file_month) VALUES ('2021-01-01')")


@pytest.mark.parametrize("kind", ["ALWAYS", "BY DEFAULT"])
def test_an_identity_numbers_the_rows_of_all_months(postgres: Database, months: Months, kind: str) -> None:
    columns = ", ".join(f'"{name}" {type_}' for name, type_ in JANUARY.dataset.postgres_columns().items())
    postgres.execute(
        f"CREATE TABLE {TABLE} ({columns}, id bigint GENERATED {kind} AS IDENTITY) "
        "PARTITION BY LIST (file_month)"
    )
    destination(postgres).publish(months.trips(JANUARY, 40_000))
    replace_january(postgres, months)
    assert postgres.rows(f"SELECT count(*), count(DISTINCT id), max(id) FROM {TABLE}") == [(100, 100, 40_100)]
    postgres.execute(f"INSERT INTO {TABLE} (file_month) VALUES ('2021-01-01')")
    assert postgres.value(f"SELECT max(id) FROM {TABLE}") == 40_101


def test_a_default_is_not_put_in_place_of_the_files_nulls(filled: Database, months: Months) -> None:
    filled.execute(f"ALTER TABLE {TABLE} ALTER COLUMN airport_fee SET DEFAULT 9")
    destination(filled).publish(months.synthetic(FEBRUARY, 30))
    assert filled.value(f"SELECT count(airport_fee) FROM {TABLE}_2021_02") == 0


def test_constraints_hold_for_later_months(filled: Database, months: Months) -> None:
    filled.execute(
        f"ALTER TABLE {TABLE} ADD CONSTRAINT positive CHECK (fare_amount >= 0)",
        f"ALTER TABLE {TABLE} ADD CHECK (trip_distance < 1e9) NOT VALID",
        f"ALTER TABLE {TABLE} ALTER COLUMN tpep_pickup_datetime SET NOT NULL",
    )
    replace_january(filled, months)
    assert filled.value(f"SELECT count(*) FROM {TABLE}") == 100
    inherited = f"SELECT coninhcount FROM pg_constraint WHERE conrelid = '{MONTH}'::regclass AND conname = "
    assert filled.value(f"{inherited} 'positive'") == 1


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            "ADD CONSTRAINT cheap CHECK (fare_amount IS DISTINCT FROM {fare})",
            "check constraint .cheap.*23514",
        ),
        ("ADD part double precision GENERATED ALWAYS AS (1 / (fare_amount - {fare})) STORED", "22012"),
    ],
    ids=["check", "generated"],
)
def test_a_row_that_breaks_a_rule_is_said_with_its_number(
    harness: PostgresHarness, filled: Database, months: Months, rule: str, says: str
) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 60_000, first=500)
    fare_of_row_40_001 = (500 + 40_000) / 4
    filled.execute(f"ALTER TABLE {TABLE} {rule.format(fare=fare_of_row_40_001)}")
    with pytest.raises(DestinationRefused, match=rf"row 40001 of {new.path}: .*{says}") as refused:
        destination(filled).publish(new)
    assert "\n" not in refused.value.message
    assert filled.tables() == {TABLE, MONTH, LEDGER, REJECTS}
    assert filled.value(f"SELECT count(*) FROM {TABLE}") == old.rows


def test_a_null_where_the_table_takes_none_is_said_with_its_number(filled: Database, months: Months) -> None:
    filled.execute(f"DELETE FROM {TABLE}", f"ALTER TABLE {TABLE} ALTER COLUMN fare_amount SET NOT NULL")
    new = months.trips(JANUARY, 80, first=500)
    with pytest.raises(DestinationRefused, match=rf"row \d of {new.path}: null value in column .*23502"):
        destination(filled).publish(new)


def test_a_column_that_table_and_file_both_fill_is_refused(filled: Database, months: Months) -> None:
    filled.execute(
        f"ALTER TABLE {TABLE} DROP COLUMN fare_amount CASCADE",  # the views go with it
        f"ALTER TABLE {TABLE} ADD fare_amount double precision GENERATED ALWAYS AS (tip_amount * 2) STORED",
    )
    with pytest.raises(SchemaDrift, match=r"fare_amount .* is computed .*DROP EXPRESSION") as refused:
        replace_january(filled, months)
    assert "DROP TABLE" not in refused.value.message
    filled.execute(f"ALTER TABLE {TABLE} ALTER COLUMN fare_amount DROP EXPRESSION")
    replace_january(filled, months)


def test_a_column_that_comes_while_a_month_is_loaded(filled: Database, months: Months) -> None:
    """Its default was not there when the rows came in: the month is loaded again."""
    new, added = months.trips(JANUARY, 20_000, first=500), list[int]()

    def add(*_: object) -> None:
        if not added:
            added.append(1)
            filled.execute(f"ALTER TABLE {TABLE} ADD COLUMN note text DEFAULT 'mine'")

    with pytest.raises(DestinationBusy, match=r"got the column note while .* run the same command again"):
        destination(filled).publish(new, report=add)
    assert destination(filled).publish(new).status == "published"
    assert filled.value(f"SELECT count(*) FROM {TABLE} WHERE note = 'mine'") == new.rows


def test_no_message_advises_to_drop_a_table(filled: Database, months: Months) -> None:
    filled.execute("DROP VIEW taxi_trips CASCADE", f"ALTER TABLE {TABLE} ALTER COLUMN fare_amount TYPE text")
    with pytest.raises(SchemaDrift, match="Keep it under another name") as refused:
        replace_january(filled, months)
    assert "drop" not in refused.value.message.lower()


def test_triggers_of_the_table_do_not_fire_for_a_month(filled: Database, months: Months) -> None:
    """As docs/reference/postgres.md says: the rows go into a table of their own."""
    filled.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'fired'; END $$",
        f"CREATE TRIGGER refuse BEFORE INSERT ON {TABLE} FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    replace_january(filled, months)
    assert filled.value(f"SELECT count(*) FROM pg_trigger WHERE tgrelid = '{MONTH}'::regclass") == 1
