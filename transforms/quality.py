"""What the quality report measures, as SQL aggregates derived from the dataset's declaration.

Everything counted here is unusual but well formed: such rows are loaded and reported.
"""

from __future__ import annotations

from collections.abc import Iterable

from transforms.dataset import FILE_MONTH, Dataset

_CONDITIONS = {
    "fare_amount": ("negative_fare", '"fare_amount" < 0'),
    "base_passenger_fare": ("negative_fare", '"base_passenger_fare" < 0'),
    "trip_distance": ("zero_distance", '"trip_distance" = 0'),
    "trip_miles": ("zero_distance", '"trip_miles" = 0'),
    "passenger_count": ("zero_passengers", '"passenger_count" = 0'),
}
"""Measure and condition by the column it needs."""


def odd_conditions(pickup: str, dropoff: str, columns: Iterable[str]) -> dict[str, str]:
    """Derive the conditions under which a trip is odd.

    Args:
        pickup: name of the column with the pick-up time.
        dropoff: name of the column with the drop-off time.
        columns: names of the other columns that there are; a condition that needs another one is left out.

    Returns:
        Conditions in DuckDB's SQL, by what is odd.
    """
    start, end, month = (f'"{column}"' for column in (pickup, dropoff, FILE_MONTH))
    return {
        "pickup_outside_month": f"{start} < {month} OR {start} >= {month} + INTERVAL 1 MONTH",
        "dropoff_before_pickup": f"{end} < {start}",
        **dict(_CONDITIONS[name] for name in columns if name in _CONDITIONS),
    }


def quality_measures(dataset: Dataset) -> dict[str, str]:
    """Derive the measures of a dataset.

    Args:
        dataset: whose staged files are measured.

    Returns:
        DuckDB aggregates over a staged file by measure, each a number of rows. A measure whose column
        the dataset lacks is left out, so that 0 always means "checked, and none found".
    """
    conditions = odd_conditions(dataset.pickup, dataset.dropoff, dataset.column)
    return {name: f"count(*) FILTER (WHERE {sql})" for name, sql in conditions.items()}
