"""What only the views in the local warehouse can get wrong: comments, other spellings, ATTACH."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
from support.destinations import DuckDBHarness, Months, declared_comments

from transforms.dataset import FILE_MONTH
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
TABLE = JANUARY.dataset.table


def test_columns_say_what_they_mean(tmp_path: Path, request: pytest.FixtureRequest, months: Months) -> None:
    harness = DuckDBHarness(tmp_path / "data", request)
    harness.make().publish(months.trips(JANUARY))
    harness.execute(f"COMMENT ON COLUMN {TABLE}.extra IS 'mine'")
    harness.execute(f"COMMENT ON COLUMN {TABLE}.mta_tax IS NULL")
    harness.make().publish(months.trips(FEBRUARY, new=["tip_jar"]))
    with harness.reader() as query:
        found = dict(query("SELECT table_name || '.' || column_name, comment FROM duckdb_columns()"))
        comments = dict(query("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"))
    assert found[f"{TABLE}.trip_distance"] == "Distance by the taximeter (mile)"
    assert found[f"{TABLE}.mta_tax"] == "MTA tax (USD)"
    assert found["taxi_trips.duration_seconds"] == "Time from pick-up to drop-off (second)"
    expected = declared_comments(JANUARY.dataset) | {f"{TABLE}.extra": "mine", f"{TABLE}.tip_jar": None}
    assert {name: found.get(name) for name in expected} == expected
    assert comments["taxi_daily"].startswith("Trips by dataset and day of the pick-up; made by taxi-etl, ")


def test_a_table_spelled_otherwise_is_in_the_views(
    tmp_path: Path, request: pytest.FixtureRequest, months: Months
) -> None:
    harness = DuckDBHarness(tmp_path / "data", request)
    types = JANUARY.dataset.types().items()
    harness.create_table(TABLE.upper(), {n if n == FILE_MONTH else n.upper(): kind for n, kind in types})
    harness.make().publish(months.trips(JANUARY))
    with harness.reader() as query:
        found = query("SELECT pickup_location_id FROM taxi_trips ORDER BY ALL")
        assert found == query(f"SELECT PULocationID FROM {TABLE} ORDER BY ALL")
    assert len({*found}) > 1


def test_views_can_be_read_from_another_database(
    tmp_path: Path, request: pytest.FixtureRequest, months: Months
) -> None:
    harness = DuckDBHarness(tmp_path / "data", request)
    harness.make().publish(months.trips(JANUARY))
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{harness.path}' AS trips (READ_ONLY)")
        assert connection.execute("SELECT count(*) FROM trips.taxi_trips_named").fetchall() == [(50,)]
