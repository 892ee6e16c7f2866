"""What the quality report measures, as SQL aggregates derived from the dataset's declaration.

Everything counted here is unusual but well formed: such rows are loaded and reported.
"""

from __future__ import annotations

from transforms.dataset import FILE_MONTH, Dataset

_CONDITIONS = {
    "fare_amount": ("negative_fare", '"fare_amount" < 0'),
    "base_passenger_fare": ("negative_fare", '"base_passenger_fare" < 0'),
    "trip_distance": ("zero_distance", '"trip_distance" = 0'),
    "trip_miles": ("zero_distance", '"trip_miles" = 0'),
    "passenger_count": ("zero_passengers", '"passenger_count" = 0'),
}
"""Measure and condition by the column it needs."""


def quality_measures(dataset: Dataset) -> dict[str, str]:
    """Derive the measures of a dataset.

    Args:
        dataset: whose staged files are measured.

    Returns:
        DuckDB aggregates over a staged file by measure, each a number of rows. A measure whose column
        the dataset lacks is left out, so that 0 always means "checked, and none found".
    """
    pickup, dropoff, month = (f'"{c}"' for c in (dataset.pickup, dataset.dropoff, FILE_MONTH))
    conditions = {
        "pickup_outside_month": f"{pickup} < {month} OR {pickup} >= {month} + INTERVAL 1 MONTH",
        "dropoff_before_pickup": f"{dropoff} < {pickup}",
        **dict(_CONDITIONS[name] for name in dataset.column if name in _CONDITIONS),
    }
    return {name: f"count(*) FILTER (WHERE {sql})" for name, sql in conditions.items()}
