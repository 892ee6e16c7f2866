"""What the quality report measures, as SQL aggregates derived from the dataset's declaration.

The expressions run over a month's staged file. Everything counted here is odd but well formed: such
rows are loaded, and said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from transforms.dataset import Dataset

DISTANCES = ("trip_distance", "trip_miles")
FARES = ("fare_amount", "base_passenger_fare")
PASSENGERS = "passenger_count"


def quality_measures(dataset: Dataset) -> dict[str, str]:
    """Name of each measure and the DuckDB aggregate that counts the rows it speaks of.

    A measure whose column the dataset does not have is left out, so that 0 always means "looked, and
    found none".
    """
    pickup, dropoff, month = (f'"{c}"' for c in (dataset.pickup, dataset.dropoff, FILE_MONTH))
    conditions = {
        "pickup_outside_month": (f"{pickup} < {month} OR {pickup} >= {month} + INTERVAL 1 MONTH"),
        "dropoff_before_pickup": f"{dropoff} < {pickup}",
    }
    for name in dataset.column:
        if name in FARES:
            conditions["negative_fare"] = f'"{name}" < 0'
        if name in DISTANCES:
            conditions["zero_distance"] = f'"{name}" = 0'
        if name == PASSENGERS:
            conditions["zero_passengers"] = f'"{name}" = 0'
    return {name: f"count(*) FILTER (WHERE {sql})" for name, sql in conditions.items()}
