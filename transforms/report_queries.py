"""What the report asks a warehouse, in DuckDB's SQL; `transforms.sql` renders it.

Each query aggregates in the warehouse, and what comes back grows with the months and not with the trips: the
trips of a month are some thousand groups, however many they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from transforms.datasets import DATASETS
from transforms.views import whole_parts

LAST_MILE = 15
"""Trips of this many miles and more are one group."""

LAST_TIP_PERCENT, TIP_STEP_PERCENT = 40, 5
"""Tips are grouped in steps of five per cent of the fare; the last group has no end."""

CREDIT_CARD = 1
"""The only payment type whose tips are recorded."""

RELATIONS = ("taxi_loads", "taxi_rejects", "taxi_trips", "taxi_monthly_zones", "taxi_odd_trips")
"""The tables and views that the queries read."""


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """A query and the columns of its answer.

    Attributes:
        schema: type by name, in the order of the query's.
        sql: in DuckDB's dialect; the names of tables stand without a schema.
    """

    schema: Mapping[str, type[pl.DataType]]
    sql: str


def report_queries() -> dict[str, ReportQuery]:
    """Every query of the report, by the name of the figures that it gives."""
    datasets = ", ".join(f"'{name}'" for name in DATASETS)
    month = {"dataset": pl.String, "file_month": pl.Date}
    return {
        "loads": ReportQuery(
            {**month, "row_count": pl.Int64, "rejected_rows": pl.Int64, "warnings": pl.String},
            f"""
            SELECT dataset, file_month, row_count, rejected_rows, warnings
            FROM taxi_loads WHERE dataset IN ({datasets})
            """,
        ),
        "hours": ReportQuery(
            {"dataset": pl.String, "day": pl.Date, "hour": pl.Int64, "trips": pl.Int64, "cents": pl.Int64},
            f"""
            SELECT dataset, day, hour, count(*) AS trips, CAST(sum(cents) AS BIGINT) AS cents
            FROM (
                SELECT dataset, CAST(pickup_datetime AS DATE) AS day,
                       CAST(extract(hour FROM pickup_datetime) AS BIGINT) AS hour,
                       {whole_parts("total_amount", 100)} AS cents
                FROM taxi_trips
            ) AS trips GROUP BY dataset, day, hour
            """,
        ),
        "kinds": ReportQuery(
            {
                **month,
                "payment_type": pl.Int64,
                "miles": pl.Int64,
                "tip_percent": pl.Int64,
                "trips": pl.Int64,
                "fare_cents": pl.Int64,
                "tip_cents": pl.Int64,
            },
            _kinds(),
        ),
        "zones": ReportQuery(
            {
                "dataset": pl.String,
                "location_id": pl.Int64,
                "borough": pl.String,
                "zone": pl.String,
                "trips": pl.Int64,
            },
            """
            SELECT dataset, pickup_location_id, pickup_borough, pickup_zone,
                   CAST(sum(trips) AS BIGINT) AS trips
            FROM taxi_monthly_zones GROUP BY dataset, pickup_location_id, pickup_borough, pickup_zone
            """,
        ),
        "odd": ReportQuery(
            {**month, "reasons": pl.String, "trips": pl.Int64},
            """
            SELECT dataset, file_month, reasons, count(*) AS trips
            FROM taxi_odd_trips GROUP BY dataset, file_month, reasons
            """,
        ),
        "rejects": ReportQuery(
            {**month, "reason": pl.String, "lines": pl.Int64},
            f"""
            SELECT dataset, file_month, reason, count(*) AS lines
            FROM taxi_rejects WHERE dataset IN ({datasets}) GROUP BY dataset, file_month, reason
            """,
        ),
    }


def _kinds() -> str:
    """Trips by payment, length and tip: three pictures in one pass over the trips.

    The tip is compared with the fare in whole cents, so that 20 % is 20 % in every warehouse.
    """
    has_tip = f"payment_type = {CREDIT_CARD} AND fare_cents > 0 AND tip_cents >= 0"
    steps = LAST_TIP_PERCENT // TIP_STEP_PERCENT
    ratio = f"floor(CAST(tip_cents AS DOUBLE) * {100 // TIP_STEP_PERCENT} / fare_cents)"
    return f"""
        SELECT dataset, file_month, payment_type, miles,
               CASE WHEN {has_tip} THEN CAST(least({ratio}, {steps}) AS BIGINT) * {TIP_STEP_PERCENT} END
                   AS tip_percent,
               count(*) AS trips,
               CAST(sum(CASE WHEN {has_tip} THEN fare_cents END) AS BIGINT) AS fare_cents,
               CAST(sum(CASE WHEN {has_tip} THEN tip_cents END) AS BIGINT) AS tip_cents
        FROM (
            SELECT dataset, file_month, payment_type,
                   CASE WHEN trip_distance >= 0 THEN CAST(floor(least(trip_distance, {LAST_MILE})) AS BIGINT)
                   END AS miles,
                   {whole_parts("fare_amount", 100)} AS fare_cents,
                   {whole_parts("tip_amount", 100)} AS tip_cents
            FROM taxi_trips
        ) AS trips
        GROUP BY 1, 2, 3, 4, 5
        """
