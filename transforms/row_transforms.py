"""Named, optional changes to the rows, as the tutorial makes them.

Polars is imported late: their names are legal values of an option, and `--help` needs no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import polars as pl

RowTransform: TypeAlias = "Callable[[pl.LazyFrame], pl.LazyFrame]"
"""A named, optional change to the rows; the columns stay."""


def _drop_zero_passengers(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Keep null, as `df[df["passenger_count"] != 0]` in the tutorial's Postgres flow keeps NaN."""
    import polars as pl

    return frame.filter(pl.col("passenger_count").ne_missing(0))


def _fill_missing_passengers(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Set null to 0, as the tutorial's BigQuery flow does with `fillna(0)`."""
    import polars as pl

    return frame.with_columns(pl.col("passenger_count").fill_null(0))


ROW_TRANSFORMS: Mapping[str, RowTransform] = {
    "drop-zero-passengers": _drop_zero_passengers,
    "fill-missing-passengers": _fill_missing_passengers,
}
"""The row transforms by name; they need the integer column `passenger_count`."""


def apply_row_transforms(frame: pl.LazyFrame, names: Iterable[str]) -> pl.LazyFrame:
    """Apply named transforms in the given order.

    Args:
        frame: trips.
        names: keys of `ROW_TRANSFORMS`.

    Returns:
        The changed trips, with the same columns.

    Raises:
        KeyError: a name is not in `ROW_TRANSFORMS`.
    """
    for name in names:
        frame = ROW_TRANSFORMS[name](frame)
    return frame
