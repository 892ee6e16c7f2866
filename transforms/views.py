"""The views over the trip tables, declared once in DuckDB's SQL; `transforms.sql` renders them.

Sums are taken over whole cents and thousandths of a mile, so that they come out the same in every warehouse
and in every run, whatever the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from transforms.column import DATE, FLOAT, INTEGER, TEXT, TIMESTAMP, Column, ColumnType
from transforms.dataset import FILE_MONTH, FILE_MONTH_COLUMN, Dataset
from transforms.datasets import DATASETS
from transforms.quality import odd_conditions

HUGE = 1_000_000_000
"""An amount or a distance beyond it is no measure of a trip; the sums leave it out, and cannot overflow."""


@dataclass(frozen=True, slots=True)
class View:
    """A view.

    Attributes:
        name: the same in every warehouse.
        description: a phrase in sentence case.
        columns: in the order of the query's.
        needs: names of the views and dimension tables that it reads.
        query: in DuckDB's SQL; the names of tables stand without a schema.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    needs: tuple[str, ...]
    query: str


_TRIP_COLUMNS = (
    Column("dataset", TEXT, "yellow, green, fhv or fhvhv"),
    FILE_MONTH_COLUMN,
    Column("pickup_datetime", TIMESTAMP, "Start of the trip, New York time"),
    Column("dropoff_datetime", TIMESTAMP, "End of the trip, New York time"),
    Column("duration_seconds", INTEGER, "Time from pick-up to drop-off", unit="second"),
    Column("pickup_location_id", INTEGER, "Taxi zone of the pick-up"),
    Column("dropoff_location_id", INTEGER, "Taxi zone of the drop-off"),
    Column("passenger_count", INTEGER, "Passengers, taxis only", unit="count"),
    Column("trip_distance", FLOAT, "Distance of the trip", unit="mile"),
    Column("vendor_id", INTEGER, "Provider of the record, taxis only"),
    Column("hvfhs_license_num", TEXT, "Company, high-volume for-hire trips only"),
    Column("rate_code_id", INTEGER, "Final rate, taxis only"),
    Column("payment_type", INTEGER, "Way of payment, taxis only"),
    Column("fare_amount", FLOAT, "Fare before tolls and tips", unit="USD"),
    Column("extra", FLOAT, "Rush hour and overnight surcharges", unit="USD"),
    Column("mta_tax", FLOAT, "MTA tax", unit="USD"),
    Column("improvement_surcharge", FLOAT, "Improvement surcharge", unit="USD"),
    Column("congestion_surcharge", FLOAT, "State congestion surcharge", unit="USD"),
    Column("cbd_congestion_fee", FLOAT, "MTA congestion zone fee", unit="USD"),
    Column("airport_fee", FLOAT, "Airport fee", unit="USD"),
    Column("black_car_fund", FLOAT, "Contribution to the Black Car Fund", unit="USD"),
    Column("sales_tax", FLOAT, "Sales tax", unit="USD"),
    Column("tolls_amount", FLOAT, "Tolls", unit="USD"),
    Column("tip_amount", FLOAT, "Tip, of taxis without cash tips", unit="USD"),
    Column(
        "total_amount", FLOAT, "What the passenger paid; of high-volume trips the sum of parts", unit="USD"
    ),
)

_SOURCES = {
    "pickup_location_id": "PULocationID",
    "dropoff_location_id": "DOLocationID",
    "vendor_id": "VendorID",
    "rate_code_id": "RatecodeID",
}
"""The column of a dataset that a column of `taxi_trips` comes from, where the names differ."""

_SOURCES_OF = {
    "fhvhv": {
        "trip_distance": "trip_miles",
        "fare_amount": "base_passenger_fare",
        "black_car_fund": "bcf",
        "tolls_amount": "tolls",
        "tip_amount": "tips",
    }
}

_FHVHV_PARTS = (
    "tolls",
    "bcf",
    "sales_tax",
    "congestion_surcharge",
    "airport_fee",
    "cbd_congestion_fee",
    "tips",
)
"""What high-volume trips cost besides the fare; their files have no total."""

_TYPE_NAMES = {ColumnType.TEXT: "TEXT"}  # VARCHAR, DuckDB's name for it, is another type in Postgres


def taxi_views(tables: Mapping[str, Iterable[str]]) -> tuple[View, ...]:
    """Declare every view over the trip tables that there are.

    Args:
        tables: for each dataset whose table exists, the columns that it has.

    Returns:
        The views, each one after those that it needs.
    """
    trips = " UNION ALL ".join(
        _trips_of(DATASETS[name], {*tables[name]}) for name in DATASETS if name in tables
    )
    return (
        View("taxi_trips", "Trips of all datasets in one shape", _TRIP_COLUMNS, (), trips),
        _named(),
        _daily(),
        _monthly_zones(),
        _odd_trips(),
    )


def _trips_of(dataset: Dataset, columns: set[str]) -> str:
    values = [f"{_value(dataset, column, columns)} AS {column.name}" for column in _TRIP_COLUMNS]
    return f"SELECT {', '.join(values)} FROM {dataset.table}"


def _value(dataset: Dataset, column: Column, columns: set[str]) -> str:
    """The value of a column of `taxi_trips` in a row of a dataset; null if the table cannot have it."""
    source = {
        **_SOURCES,
        "pickup_datetime": dataset.pickup,
        "dropoff_datetime": dataset.dropoff,
        **_SOURCES_OF.get(dataset.name, {}),
    }.get(column.name, column.name)
    if column.name == "dataset":
        return f"CAST('{dataset.name}' AS TEXT)"
    if column.name == "duration_seconds" and dataset.dropoff in columns:
        return f'date_diff(\'second\', "{dataset.pickup}", "{dataset.dropoff}")'
    if column.name == "total_amount" and "base_passenger_fare" in columns:
        parts = [f'coalesce("{name}", 0)' for name in _FHVHV_PARTS if name in columns]
        total = f"({' + '.join(['base_passenger_fare', *parts])})"
        return f"CASE WHEN abs{total} < {HUGE} THEN floor({total} * 100 + 0.5) / 100 END"
    return f'"{source}"' if source in columns else f"CAST(NULL AS {_type_name(column)})"


def _type_name(column: Column) -> str:
    return _TYPE_NAMES.get(column.type, column.type.duckdb)


def _named() -> View:
    """The trips, joined to the words for their zones and codes."""
    joins = (
        ("pickup", "taxi_zones", "location_id", "pickup_location_id"),
        ("dropoff", "taxi_zones", "location_id", "dropoff_location_id"),
        ("vendors", "taxi_vendors", "vendor_id", "vendor_id"),
        ("companies", "taxi_hvfhs_licenses", "hvfhs_license_num", "hvfhs_license_num"),
        ("rates", "taxi_rate_codes", "rate_code_id", "rate_code_id"),
        ("payments", "taxi_payment_types", "payment_type", "payment_type"),
    )
    words = {
        "pickup_borough": ("pickup.borough", "Borough of the pick-up"),
        "pickup_zone": ("pickup.zone", "Name of the pick-up's zone"),
        "pickup_service_zone": ("pickup.service_zone", "Service zone of the pick-up"),
        "dropoff_borough": ("dropoff.borough", "Borough of the drop-off"),
        "dropoff_zone": ("dropoff.zone", "Name of the drop-off's zone"),
        "dropoff_service_zone": ("dropoff.service_zone", "Service zone of the drop-off"),
        "vendor": ("vendors.vendor", "Provider of the record"),
        "company": ("companies.company", "Company of a high-volume for-hire trip"),
        "rate": ("rates.rate", "Final rate"),
        "payment": ("payments.payment", "Way of payment"),
    }
    selected = [f"trips.{column.name}" for column in _TRIP_COLUMNS]
    selected += [f"{value} AS {name}" for name, (value, _) in words.items()]
    joined = [
        f"LEFT JOIN {table} AS {alias} ON {alias}.{key} = trips.{code}" for alias, table, key, code in joins
    ]
    return View(
        "taxi_trips_named",
        "Trips with zones, boroughs, and words for codes",
        (*_TRIP_COLUMNS, *(Column(name, TEXT, description) for name, (_, description) in words.items())),
        ("taxi_trips", *dict.fromkeys(table for _, table, _, _ in joins)),
        f"SELECT {', '.join(selected)} FROM taxi_trips AS trips {' '.join(joined)}",
    )


def _daily() -> View:
    day = "CAST(pickup_datetime AS DATE)"
    return View(
        "taxi_daily",
        "Trips by dataset and day of the pick-up",
        (
            Column("dataset", TEXT, "yellow, green, fhv or fhvhv"),
            Column("pickup_date", DATE, "Day of the pick-up, New York time"),
            Column("trips", INTEGER, "Trips", unit="count"),
            Column("revenue", FLOAT, "Sum of total_amount", unit="USD"),
            Column("mean_distance", FLOAT, "Mean of trip_distance", unit="mile"),
            Column("mean_duration_seconds", FLOAT, "Mean of duration_seconds", unit="second"),
        ),
        ("taxi_trips",),
        f"""
        SELECT dataset, {day} AS pickup_date, count(*) AS trips, {_sum("total_amount", 100)} AS revenue,
               {_mean("trip_distance", 1000)} AS mean_distance,
               CAST(sum(duration_seconds) AS DOUBLE) / nullif(count(duration_seconds), 0)
                   AS mean_duration_seconds
        FROM taxi_trips GROUP BY dataset, {day}
        """,
    )


def _monthly_zones() -> View:
    return View(
        "taxi_monthly_zones",
        "Trips by dataset, month of the file and zone of the pick-up",
        (
            Column("dataset", TEXT, "yellow, green, fhv or fhvhv"),
            FILE_MONTH_COLUMN,
            Column("pickup_location_id", INTEGER, "Taxi zone of the pick-up"),
            Column("pickup_borough", TEXT, "Borough of the pick-up"),
            Column("pickup_zone", TEXT, "Name of the pick-up's zone"),
            Column("trips", INTEGER, "Trips", unit="count"),
            Column("revenue", FLOAT, "Sum of total_amount", unit="USD"),
        ),
        ("taxi_trips", "taxi_zones"),
        f"""
        SELECT sums.dataset, sums.{FILE_MONTH}, sums.pickup_location_id, zones.borough AS pickup_borough,
               zones.zone AS pickup_zone, sums.trips, sums.revenue
        FROM (
            SELECT dataset, {FILE_MONTH}, pickup_location_id, count(*) AS trips,
                   {_sum("total_amount", 100)} AS revenue
            FROM taxi_trips GROUP BY dataset, {FILE_MONTH}, pickup_location_id
        ) AS sums
        LEFT JOIN taxi_zones AS zones ON zones.location_id = sums.pickup_location_id
        """,
    )


def _odd_trips() -> View:
    names = [column.name for column in _TRIP_COLUMNS]
    conditions = odd_conditions("pickup_datetime", "dropoff_datetime", names)
    reasons = " || ".join(f"CASE WHEN {sql} THEN ', {name}' ELSE '' END" for name, sql in conditions.items())
    legal = ", ".join(conditions)
    return View(
        "taxi_odd_trips",
        "Trips that are odd, each with the reasons",
        (*_TRIP_COLUMNS, Column("reasons", TEXT, f"Why the trip is odd, joined by commas: {legal}")),
        ("taxi_trips",),
        f"""
        SELECT {", ".join(names)}, substring(reasons, 3) AS reasons
        FROM (SELECT *, {reasons} AS reasons FROM taxi_trips) AS trips
        WHERE reasons <> ''
        """,
    )


def whole_parts(column: str, parts: int) -> str:
    """SQL for a value in whole parts of its unit, null if it is beyond `HUGE`.

    Args:
        column: its name.
        parts: of a unit, such as 100 cents.
    """
    return f"CASE WHEN abs({column}) < {HUGE} THEN CAST(floor({column} * {parts} + 0.5) AS BIGINT) END"


def _sum(column: str, parts: int) -> str:
    """The sum of a column, rounded in each row to a part of its unit."""
    return f"CAST(sum({whole_parts(column, parts)}) AS DOUBLE) / {parts}"


def _mean(column: str, parts: int) -> str:
    whole = whole_parts(column, parts)
    return f"CAST(sum({whole}) AS DOUBLE) / nullif(count({whole}), 0) / {parts}"
