"""The quality measures count what pandas counts."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from transforms.dataset import FILE_MONTH, Dataset
from transforms.datasets import DATASETS, FHV, FHVHV, GREEN, YELLOW
from transforms.quality import quality_measures

if TYPE_CHECKING:
    import pandas as pd

MONTH = dt.date(2019, 12, 1)
ROWS = 4_000
ALWAYS = {"pickup_outside_month", "dropoff_before_pickup"}
TRIPS = {"negative_fare", "zero_distance"}


def some_trips(dataset: Dataset) -> pa.Table:
    """Random values around every boundary, a tenth of them null."""
    random = np.random.default_rng(7)
    around = np.datetime64("2019-11-30T23:59:58")
    month = np.timedelta64(31 * 86_400, "s")

    def column(field: pa.Field) -> pa.Array:
        null = random.random(ROWS) < 0.1
        if field.name == FILE_MONTH:
            return pa.array([MONTH] * ROWS)
        if pa.types.is_timestamp(field.type):
            seconds = random.integers(0, 5, ROWS).astype("timedelta64[s]")
            timestamps = around + seconds + random.integers(0, 2, ROWS) * month
            return pa.array(timestamps.astype("datetime64[us]"), mask=null)
        if pa.types.is_string(field.type):
            return pa.array(["Y"] * ROWS)
        return pa.array(random.integers(-1, 3, ROWS), mask=null).cast(field.type)

    schema = dataset.arrow_schema()
    return pa.Table.from_arrays([column(field) for field in schema], schema=schema)


def pandas_counts(trips: pd.DataFrame, dataset: Dataset) -> dict[str, int]:
    pickup, dropoff = trips[dataset.pickup], trips[dataset.dropoff]
    inside = pickup.dt.strftime("%Y-%m") == f"{MONTH:%Y-%m}"
    counts = {
        "pickup_outside_month": (pickup.notna() & ~inside).sum(),
        "dropoff_before_pickup": (dropoff < pickup).sum(),
    }
    for name in ("fare_amount", "base_passenger_fare"):
        if name in trips:
            counts["negative_fare"] = (trips[name] < 0).sum()
    for name in ("trip_distance", "trip_miles"):
        if name in trips:
            counts["zero_distance"] = (trips[name] == 0).sum()
    if "passenger_count" in trips:
        counts["zero_passengers"] = (trips["passenger_count"] == 0).sum()
    return counts


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))
def test_duckdb_counts_what_pandas_counts(dataset: Dataset) -> None:
    trips = some_trips(dataset)
    measures = quality_measures(dataset)
    with duckdb.connect() as connection:
        connection.register("trips", trips)
        counted = connection.execute(f"SELECT {', '.join(measures.values())} FROM trips").fetchone()
    expected = pandas_counts(trips.to_pandas(), dataset)
    assert dict(zip(measures, counted, strict=True)) == expected
    assert all(0 < count < ROWS for count in expected.values()), "the trips have something of everything"


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        (YELLOW, ALWAYS | TRIPS | {"zero_passengers"}),
        (GREEN, ALWAYS | TRIPS | {"zero_passengers"}),
        (FHVHV, ALWAYS | TRIPS),
        (FHV, ALWAYS),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_a_dataset_cannot_have_is_not_measured(dataset: Dataset, names: set[str]) -> None:
    assert set(quality_measures(dataset)) == names
