"""The views and the dimension tables, in every warehouse."""

from __future__ import annotations

import csv
import datetime as dt
import logging
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from support.destinations import (
    HARNESSES,
    Apart,
    DuckDBHarness,
    Harness,
    Months,
    answers,
    asking,
    die_before_the_views,
    keep_reading,
    rows_of,
)
from support.torture import TORTURE, note, share
from support.trips import SHARED, needs_real_trips, real_month

import transforms.sql
from flows.destinations.views import warn_once
from flows.settings import Settings
from flows.sources import SourceFile, land
from flows.staging import StagingOptions, stage
from transforms.dataset import FILE_MONTH
from transforms.datasets import DATASETS
from transforms.dimensions import dimensions
from transforms.quality import quality_measures
from transforms.trip_month import TripMonth
from transforms.views import taxi_views

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flows.staging import StagedMonth

JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
GREEN = TripMonth("green", 2021, 1)
NEW_YEAR = dt.datetime(2021, 1, 1)  # noqa: DTZ001 - New York time, no zone
PARTS = ("tolls", "bcf", "sales_tax", "airport_fee", "congestion_surcharge", "tips", "cbd_congestion_fee")
VIEWS = [view.name for view in taxi_views({})]
DECLARED = {item.name: item for item in (*dimensions(), *taxi_views({}))}


@pytest.fixture(autouse=True)
def _warnings_are_given_anew(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    warn_once.cache_clear()


@pytest.fixture
def other(tmp_path: Path, request: pytest.FixtureRequest) -> DuckDBHarness:
    """Another warehouse, to compare with."""
    return DuckDBHarness(tmp_path / "other", request)


def contents(harness: Harness) -> dict[str, list[str]]:
    """Every row of every view and dimension table, value by value."""
    names = {name: [column.name for column in item.columns] for name, item in DECLARED.items()}
    return {name: rows_of(harness.read(name), columns) for name, columns in names.items()}


def publish(harness: Harness, *months: StagedMonth) -> None:
    for staged in months:
        harness.make().publish(staged)


def views_of(harness: Harness) -> set[str]:
    """The views that can be read."""
    found = set[str]()
    with harness.reader() as query:
        for name in VIEWS:
            try:
                query(f"SELECT * FROM {name} LIMIT 0")
            except Exception:  # noqa: BLE001 - as each driver says that there is none
                continue
            found.add(name)
    return found


# Values


def _assert_equal(found: dict[str, list[str]], expected: dict[str, list[str]]) -> None:
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        assert rows, f"{name} is empty, which shows nothing"
        assert found[name] == rows, name


@pytest.mark.parametrize("name", [n for n, h in HARNESSES.items() if h.has_tables and n != "duckdb"])
def test_views_have_the_same_values_everywhere(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, other: DuckDBHarness, months: Months
) -> None:
    warehouse = HARNESSES[name](tmp_path / "data", request)
    staged = [months.synthetic(TripMonth(color, 2021, 1), 500) for color in DATASETS]
    staged += [months.trips(TripMonth(color, 2021, 2)) for color in DATASETS]
    publish(warehouse, *staged)
    publish(other, *staged)
    _assert_equal(contents(warehouse), contents(other))
    assert answers(warehouse.make()) == answers(other.make())


@needs_real_trips
@pytest.mark.timeout(3600 if TORTURE else 300)
@pytest.mark.parametrize("name", [n for n, h in HARNESSES.items() if h.has_tables and n != "duckdb"])
def test_views_of_real_months_have_the_same_values(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, other: DuckDBHarness, months: Months
) -> None:
    """`make torture` takes all twelve of them, beside synthetic months of every dataset."""
    warehouse = HARNESSES[name](tmp_path / "data", request)
    staged = _real_months(tmp_path)
    if TORTURE:
        staged += [months.synthetic(TripMonth(color, 2021, 1), 10_000) for color in DATASETS]
    publish(warehouse, *staged)
    publish(other, *staged)
    found = contents(warehouse)
    _assert_equal(found, contents(other))
    assert answers(warehouse.make()) == answers(other.make())
    rows = sum(len(found[view]) for view in VIEWS)
    note(f"views, {name} against duckdb", {"months": len(staged), "rows equal": rows})


@needs_real_trips
def test_codes_of_real_trips_have_words_if_the_tlc_has_any(tmp_path: Path, other: DuckDBHarness) -> None:
    publish(other, *_real_months(tmp_path))
    codes = {
        "pickup_location_id": "pickup_zone",
        "dropoff_location_id": "dropoff_zone",
        "vendor_id": "vendor",
        "rate_code_id": "rate",
        "payment_type": "payment",
    }
    unexplained = {}
    with other.reader() as query:
        for code, word in codes.items():
            assert query(f"SELECT count(*) > 0 FROM taxi_trips_named WHERE {word} IS NOT NULL") == [(True,)]
            found = query(f"SELECT DISTINCT {code} FROM taxi_trips_named WHERE {word} IS NULL")
            unexplained[code] = {value for (value,) in found} - {None}
    assert {code: values for code, values in unexplained.items() if values} == {"vendor_id": {4}}


def _real_months(directory: Path) -> list[StagedMonth]:
    numbers = range(1, share(12) + 1) if TORTURE else (1, 7)
    return [_real(TripMonth("yellow", 2019, number), directory) for number in numbers]


def _real(month: TripMonth, directory: Path) -> StagedMonth:
    source = directory / f"{month.stem}.csv.gz"
    source.write_bytes(real_month(month.month))
    landed = land(SourceFile(source.as_uri(), source.name), directory / "raw", Settings(_env_file=None))
    return stage(landed, month, directory, StagingOptions())


def test_the_declared_types_are_those_in_the_warehouse(warehouse: Harness, months: Months) -> None:
    publish(warehouse, months.synthetic(JANUARY, 500))
    for name, item in DECLARED.items():
        found = warehouse.read(name)
        assert {c.name: c.type.arrow for c in item.columns} == dict(
            zip(found.schema.names, found.schema.types, strict=True)
        ), name


def test_trips_have_the_values_of_their_tables(other: DuckDBHarness, months: Months) -> None:
    """By hand for a row of each dataset, so that the declaration is not compared with itself."""
    publish(other, *(months.trips(TripMonth(color, 2021, 1), 1) for color in DATASETS))
    expected = {}
    with other.reader() as query:
        for color, (distance, fare, total) in {
            "yellow": ("trip_distance", "fare_amount", "total_amount"),
            "green": ("trip_distance", "fare_amount", "total_amount"),
            "fhv": ("NULL", "NULL", "NULL"),
            "fhvhv": (
                "trip_miles",
                "base_passenger_fare",
                " + ".join(["base_passenger_fare", *(f"coalesce({part}, 0)" for part in PARTS)]),
            ),
        }.items():
            dataset = DATASETS[color]
            [row] = query(
                f"SELECT {dataset.pickup}, {dataset.dropoff} - {dataset.pickup}, PULocationID, {distance}, "
                f"{fare}, {total} FROM {dataset.table}"
            )
            expected[color] = row
        found = query(
            "SELECT dataset, pickup_datetime, to_seconds(duration_seconds), pickup_location_id, "
            "trip_distance, fare_amount, total_amount FROM taxi_trips"
        )
    assert {color: tuple(values) for color, *values in found} == expected


def test_odd_trips_are_those_that_the_quality_report_counts(other: DuckDBHarness, months: Months) -> None:
    for color, dataset in DATASETS.items():
        staged = months.synthetic(TripMonth(color, 2021, 1), 2000)
        publish(other, staged)
        with other.reader() as query:
            measures = quality_measures(dataset)
            [counts] = query(f"SELECT {', '.join(measures.values())} FROM {dataset.table}")
            reasons = query(f"SELECT reasons FROM taxi_odd_trips WHERE dataset = '{color}'")
        found = Counter(reason for (row,) in reasons for reason in row.split(", "))
        assert found == {name: n for name, n in zip(measures, counts, strict=True) if n}
        assert found["pickup_outside_month"] > 0


def test_words_stand_for_codes(other: DuckDBHarness, months: Months) -> None:
    values = {
        "tpep_pickup_datetime": [NEW_YEAR] * 2,
        "PULocationID": [132, 999],
        "DOLocationID": [1, None],
        "VendorID": [2, 77],
        "RatecodeID": [2, None],
        "payment_type": [1, 42],
    }
    publish(other, months.of(JANUARY, values))
    with other.reader() as query:
        rows = query(
            "SELECT pickup_borough, pickup_zone, pickup_service_zone, dropoff_borough, vendor, rate, payment "
            "FROM taxi_trips_named ORDER BY pickup_location_id"
        )
    card = ("Queens", "JFK Airport", "Airports", "EWR", "Curb Mobility", "JFK", "Credit card")
    assert rows == [card, (None,) * 7]


def test_a_sum_survives_amounts_that_no_trip_has(warehouse: Harness, months: Months) -> None:
    values = {
        "tpep_pickup_datetime": [NEW_YEAR] * 4,
        "total_amount": [1e308, -1e308, 0.1, 0.2],
        "trip_distance": [1e308, None, 0.001, 0.002],
    }
    publish(warehouse, months.of(JANUARY, values))
    found = warehouse.read("taxi_daily").to_pylist()
    assert [(row["trips"], row["revenue"], row["mean_distance"]) for row in found] == [(4, 0.3, 0.0015)]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the TLC's own file of zones is not here")
def test_the_zones_are_the_tlcs() -> None:
    with (SHARED / "taxi_zone_lookup.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    [zones] = [dimension for dimension in dimensions() if dimension.name == "taxi_zones"]
    assert [(str(number), *names) for number, *names in zones.rows] == [tuple(row) for row in rows]
    assert len(rows) == 265


# When they are made


def _is_not_to_be_rendered(query: str, *_: object) -> str:
    raise AssertionError(f"nothing has changed, but this is rendered: {query}")


def test_views_that_are_as_they_should_be_are_not_rendered(
    warehouse: Harness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(warehouse, months.trips(JANUARY))
    with monkeypatch.context() as patch:
        patch.setattr(transforms.sql, "render", _is_not_to_be_rendered)
        publish(warehouse, months.trips(FEBRUARY), months.trips(FEBRUARY, new=["tip_jar"]))
    assert warehouse.read("taxi_trips").num_rows == 100


def test_a_view_that_is_gone_is_made_again_even_if_the_month_is_unchanged(
    warehouse: Harness, months: Months
) -> None:
    publish(warehouse, months.trips(JANUARY))
    warehouse.execute("DROP VIEW taxi_daily")
    assert warehouse.make().publish(months.trips(JANUARY)).status == "unchanged"
    assert views_of(warehouse) == {*VIEWS}


def test_views_cover_a_dataset_from_its_first_month_on(warehouse: Harness, months: Months) -> None:
    for staged in (months.trips(JANUARY), months.trips(GREEN)):
        publish(warehouse, staged)
        found = warehouse.read("taxi_trips")["dataset"].to_pylist()
        assert found.count(staged.month.color) == staged.rows
    assert len(found) == 100


def test_views_are_renewed_when_a_table_has_another_column(warehouse: Harness, months: Months) -> None:
    types = {name: kind for name, kind in GREEN.dataset.types().items() if name != "cbd_congestion_fee"}
    warehouse.create_table(GREEN.dataset.table, types)
    name = warehouse.make().name
    moment = "DATETIME" if name == "bigquery" else "TIMESTAMP"
    warehouse.execute(
        f"INSERT INTO green_taxi_trips (lpep_pickup_datetime, {FILE_MONTH}) "
        f"VALUES (CAST('2021-01-01 10:00:00' AS {moment}), DATE '2021-01-01')"
    )
    publish(warehouse, months.trips(JANUARY))
    question = "SELECT cbd_congestion_fee FROM taxi_trips WHERE dataset = 'green'"
    with warehouse.reader() as query:
        assert query(question) == [(None,)]
    kind = getattr(GREEN.dataset.column["cbd_congestion_fee"].type, name)
    warehouse.execute(f"ALTER TABLE green_taxi_trips ADD COLUMN cbd_congestion_fee {kind}")
    warehouse.execute("UPDATE green_taxi_trips SET cbd_congestion_fee = 0.75 WHERE true")
    publish(warehouse, months.trips(FEBRUARY))
    with warehouse.reader() as query:
        assert query(question) == [(0.75,)]


def test_without_views_none_are_made(warehouse: Harness, months: Months) -> None:
    place = replace(warehouse.place, settings=warehouse.place.settings | {"views": False})
    place.make().publish(months.trips(JANUARY))
    assert views_of(warehouse) == set()
    with pytest.raises(Exception, match="taxi_zones"):
        warehouse.read("taxi_zones")


# Whose they are


def test_what_somebody_else_calls_so_is_left_alone_and_named_once(
    warehouse: Harness, months: Months, caplog: pytest.LogCaptureFixture
) -> None:
    columns = {"zone": DECLARED["taxi_zones"].columns[1].type}
    warehouse.create_table("taxi_zones", columns)
    publish(warehouse, months.trips(JANUARY), months.trips(FEBRUARY))
    assert warehouse.read("taxi_zones").num_rows == 0
    assert views_of(warehouse) == {"taxi_trips", "taxi_daily", "taxi_odd_trips"}
    [record] = [record for record in caplog.records if "left alone" in record.message]
    assert "taxi_zones" in record.message
    assert "without taxi_trips_named and taxi_monthly_zones" in record.message
    assert "TAXI_VIEWS=false" in record.message
    assert "\n" not in record.message


# What cannot be made


def test_a_view_that_cannot_be_made_stops_no_month(
    warehouse: Harness, months: Months, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nonsense(query: str, dialect: str, schema: Sequence[str] = ()) -> str:
        return "SELECT nonsense" if "reasons" in query else rendered(query, dialect, schema)

    rendered = transforms.sql.render
    with monkeypatch.context() as patch:
        patch.setattr(transforms.sql, "render", nonsense)
        for month in (JANUARY, FEBRUARY):
            assert warehouse.make().publish(months.trips(month)).status == "published"
            assert warehouse.make().loaded(month)
    [record] = [record for record in caplog.records if "could not be made" in record.message]
    assert "\n" not in record.message
    assert views_of(warehouse) in (set(), {*VIEWS} - {"taxi_odd_trips"}), "all or none, or each one whole"
    publish(warehouse, months.trips(FEBRUARY))
    assert views_of(warehouse) == {*VIEWS}


def test_a_run_that_is_killed_before_the_views_leaves_them_to_the_next(
    warehouse: Harness, months: Months
) -> None:
    staged = months.trips(JANUARY)
    with Apart(die_before_the_views, warehouse.place, staged) as process:
        assert process.wait() == -signal.SIGKILL
    warehouse.settle()
    assert warehouse.make().loaded(JANUARY)
    assert views_of(warehouse) == set()
    assert warehouse.make().publish(staged).status == "unchanged"
    assert views_of(warehouse) == {*VIEWS}


# At once


def test_datasets_that_are_published_at_once_are_all_in_the_views(
    warehouse: Harness, months: Months, caplog: pytest.LogCaptureFixture
) -> None:
    staged = [months.trips(TripMonth(color, 2021, 1)) for color in DATASETS]
    with ThreadPoolExecutor(len(staged)) as pool:
        list(pool.map(lambda one: publish(warehouse, one), staged))
    assert Counter(warehouse.read("taxi_trips")["dataset"].to_pylist()) == dict.fromkeys(DATASETS, 50)
    assert not caplog.records


def test_a_query_of_trips_sees_the_old_month_or_the_new_one(warehouse: Harness, months: Months) -> None:
    small, large = months.trips(JANUARY, 1000), months.trips(JANUARY, 1500, first=5000)
    publish(warehouse, months.trips(GREEN), small)
    question = (
        "SELECT count(*), (SELECT row_count FROM taxi_loads WHERE dataset = 'yellow') FROM taxi_trips "
        "WHERE dataset = 'yellow'"
    )
    with keep_reading(partial(asking, warehouse, question)) as readers:
        publish(warehouse, *[large, small] * 5)
    assert readers.seen().keys() == {(1000, 1000), (1500, 1500)}
