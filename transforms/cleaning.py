"""From a file's columns to a dataset's: names, types, missing columns, and the named row transforms.

Everything here is lazy and pure. What cannot be converted raises when the frame is collected; which
lines those are is the business of the careful path (`flows.staging.csv_repair`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import polars as pl

from transforms.dataset import FILE_MONTH, TIMESTAMP_FORMAT, ColumnType

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

    from transforms.dataset import Column, Dataset, HeaderMatch

WHOLE_NUMBER_TAIL = r"\.0*$"
TIMESTAMP_BYTES = len("2021-01-31 23:59:59")


def csv_schema(
    dataset: Dataset, match: HeaderMatch, *, integers_as_text: bool = False
) -> dict[str, pl.DataType]:
    """The types in which Polars is to read a CSV file, in the file's own column order.

    Timestamps are read as text: converting them afterwards with an explicit format takes a third of
    the time the CSV reader needs to infer them.

    Args:
        dataset: what the file holds.
        match: its header, already matched.
        integers_as_text: read whole numbers as text too, for files that write them as `1.0`.
    """
    as_text = {ColumnType.TIMESTAMP, *([ColumnType.INTEGER] if integers_as_text else [])}
    kinds = {name: dataset.declaration(name).type for name in match.columns}
    return {name: pl.String() if kind in as_text else kind.polars for name, kind in kinds.items()}


def parse_text(
    frame: pl.LazyFrame, dataset: Dataset, match: HeaderMatch, *, fractional_seconds: bool = False
) -> pl.LazyFrame:
    """Convert every column that was read as text but is declared as something else.

    Args:
        frame: as read with `csv_schema`.
        dataset: what the file holds.
        match: its header.
        fractional_seconds: accept digits behind the seconds (slower; the releases have none).

    Raises:
        polars.exceptions.PolarsError: on collection, when a value does not convert exactly.
    """
    read = frame.collect_schema()
    format_ = TIMESTAMP_FORMAT + ("%.f" if fractional_seconds else "")
    expressions: list[pl.Expr] = []
    for name in match.columns:
        column = dataset.declaration(name)
        kind = column.type
        if read[name] != pl.String() or kind is ColumnType.TEXT:
            continue
        if kind is ColumnType.TIMESTAMP:
            text = pl.col(name) if fractional_seconds else _of_full_length(name)
            # Without the cache: trips rarely share a second, and looking them up takes longer.
            expressions.append(text.str.to_datetime(format_, time_unit="us", strict=True, cache=False))
        else:
            text = decoded(pl.col(name), column).str.replace(WHOLE_NUMBER_TAIL, "")
            expressions.append(text.cast(kind.polars, strict=True))
    return frame.with_columns(expressions)


def decoded(text: pl.Expr, column: Column) -> pl.Expr:
    """Put the numbers of a column's codes for the texts that older files have; other texts stay."""
    if not column.codes:
        return text
    numbers = {word: str(number) for word, number in column.codes}
    return text.str.strip_chars().str.to_lowercase().replace(numbers)


def _of_full_length(name: str) -> pl.Expr:
    """Make a timestamp of another length unreadable: Polars would take 19-01-31 for the year 19."""
    text = pl.col(name)
    return pl.when(text.str.len_bytes() != TIMESTAMP_BYTES).then(pl.lit("")).otherwise(text).alias(name)


def conform(frame: pl.LazyFrame, dataset: Dataset, match: HeaderMatch, file_month: dt.date) -> pl.LazyFrame:
    """Give the frame exactly the staged columns, in order, in their types, with the file's month.

    Declared columns that the file lacks become null; undeclared ones follow as text.
    """
    types = dataset.types(match.new)
    have = set(match.columns)
    columns = [
        pl.col(name).cast(kind.polars)
        if name in have
        else pl.lit(file_month if name == FILE_MONTH else None, dtype=kind.polars).alias(name)
        for name, kind in types.items()
    ]
    return frame.select(columns)


class RowTransform(Protocol):
    """A named, optional change to the rows: lazy frame in, lazy frame out."""

    def __call__(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return the changed frame."""
        ...


def drop_zero_passengers(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Drop trips whose passenger_count is 0, keep those where it is null.

    The tutorial's Postgres flow: `df[df["passenger_count"] != 0]`, which keeps NaN.
    """
    return frame.filter(pl.col("passenger_count").ne_missing(0))


def fill_missing_passengers(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Set a null passenger_count to 0, as the tutorial's BigQuery flow does with `fillna(0)`."""
    return frame.with_columns(pl.col("passenger_count").fill_null(0))


ROW_TRANSFORMS: Mapping[str, RowTransform] = {
    "drop-zero-passengers": drop_zero_passengers,
    "fill-missing-passengers": fill_missing_passengers,
}


def apply_row_transforms(frame: pl.LazyFrame, names: Iterable[str]) -> pl.LazyFrame:
    """Apply the named transforms in the given order.

    Raises:
        KeyError: for a name that is not in `ROW_TRANSFORMS`.
    """
    for name in names:
        frame = ROW_TRANSFORMS[name](frame)
    return frame
