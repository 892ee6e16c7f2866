"""What only the views in Postgres can get wrong: owners, locks, dependents, and what a view is bound to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from support.destinations import declared_comments
from support.postgres_harness import destination

from flows.destinations.views import warn_once
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.destinations import Months
    from support.postgres import Database

JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
GREEN = TripMonth("green", 2021, 1)
TABLE = JANUARY.dataset.table


@pytest.fixture(autouse=True)
def _warnings_are_given_anew(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    warn_once.cache_clear()


def test_a_table_under_a_kept_name_is_not_read_any_more(postgres: Database, months: Months) -> None:
    """A view is bound to the table and not to its name; the message about another shape advises to rename."""
    destination(postgres).publish(months.trips(JANUARY))
    postgres.execute(f"ALTER TABLE {TABLE} RENAME TO {TABLE}_old", f"DROP TABLE {TABLE}_2021_01")
    destination(postgres).publish(months.trips(JANUARY, 80, first=500))
    assert postgres.value("SELECT count(*) FROM taxi_trips") == 80


def test_views_of_other_people_on_ours_stay(
    postgres: Database, months: Months, caplog: pytest.LogCaptureFixture
) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    postgres.execute(
        "CREATE VIEW mine AS SELECT dataset, count(*) AS n FROM taxi_trips GROUP BY dataset",
        "GRANT SELECT ON taxi_trips TO PUBLIC",
    )
    destination(postgres).publish(months.trips(GREEN))
    assert sorted(postgres.rows("SELECT * FROM mine")) == [("green", 50), ("yellow", 50)]
    assert postgres.value("SELECT relacl::text FROM pg_class WHERE relname = 'taxi_trips'").startswith("{")
    assert not caplog.records


def test_views_of_another_owner_stop_no_month(
    postgres: Database, months: Months, caplog: pytest.LogCaptureFixture
) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    user = postgres.parameters.get("user") or postgres.value("SELECT current_user")
    postgres.execute("CREATE ROLE taxi_loader LOGIN PASSWORD 'x'")
    try:
        postgres.execute(
            "GRANT ALL ON SCHEMA public TO taxi_loader",
            *(
                f"ALTER TABLE {name} OWNER TO taxi_loader"
                for name in (TABLE, f"{TABLE}_2021_01", "taxi_loads", "taxi_rejects")
            ),
        )
        loader = destination(postgres.other(user="taxi_loader", password="x"))
        for month in (GREEN, FEBRUARY):
            assert loader.publish(months.trips(month)).status == "published"
        [record] = caplog.records
        assert "permission denied for table taxi_zones" in record.message
        assert "the months are loaded all the same" in record.message
        assert "\n" not in record.message
        assert postgres.value("SELECT count(*) FROM taxi_trips WHERE dataset = 'yellow'") == 100
    finally:
        postgres.execute(f'REASSIGN OWNED BY taxi_loader TO "{user}"', "DROP OWNED BY taxi_loader")
        postgres.execute("DROP ROLE taxi_loader")


def test_a_reader_of_a_view_holds_up_no_month(
    postgres: Database, months: Months, caplog: pytest.LogCaptureFixture
) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    with postgres.connect() as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM taxi_trips")
        loading = destination(postgres, swap_timeout_seconds=0.05)
        assert loading.publish(months.trips(GREEN)).status == "published"
        [record] = caplog.records
        assert "waited too long for a lock" in record.message
        reader.execute("ROLLBACK")
    loading.publish(months.trips(GREEN))
    assert postgres.value("SELECT count(*) FROM taxi_trips") == 100


def test_views_are_in_the_schema_of_the_tables(postgres: Database, months: Months) -> None:
    postgres.execute("CREATE TABLE taxi_zones (mine text)")
    destination(postgres, schema="Taxi data").publish(months.trips(JANUARY))
    assert postgres.value('SELECT count(*) FROM "Taxi data".taxi_trips_named') == 50


def test_columns_say_what_they_mean(postgres: Database, months: Months) -> None:
    destination(postgres, views=False).publish(months.trips(JANUARY))
    postgres.execute(
        f"COMMENT ON COLUMN {TABLE}.extra IS 'mine'", f"COMMENT ON COLUMN {TABLE}.mta_tax IS NULL"
    )
    destination(postgres).publish(months.trips(FEBRUARY, new=["tip_jar"]))
    found = dict(
        postgres.rows(
            "SELECT c.relname || '.' || a.attname, col_description(c.oid, a.attnum) "
            "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
            "WHERE c.relnamespace = 'public'::regnamespace"
        )
    )
    assert found[f"{TABLE}.trip_distance"] == "Distance by the taximeter (mile)"
    assert found[f"{TABLE}.mta_tax"] == "MTA tax (USD)"
    assert found["taxi_trips.duration_seconds"] == "Time from pick-up to drop-off (second)"
    assert found["taxi_zones.borough"] == "Borough, EWR for Newark Airport, or Unknown"
    expected = declared_comments(JANUARY.dataset) | {f"{TABLE}.extra": "mine", f"{TABLE}.tip_jar": None}
    assert {name: found.get(name) for name in expected} == expected
