"""From a file's columns to a dataset's: names, types, missing columns, and the named row transforms.

Everything here is lazy and pure. What cannot be converted raises when the frame is collected; which
lines those are is the business of the careful path (`flows.csv_repair`).
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
    kinds = {name: dataset.column[name].type for name in match.columns if name in dataset.column}
    return {
        name: pl.String()
        if (kind := kinds.get(name, ColumnType.TEXT)) in as_text
        else kind.polars
        for name in match.columns
    }


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
        kind = dataset.column[name].type if name in dataset.column else ColumnType.TEXT
        if read[name] != pl.String() or kind is ColumnType.TEXT:
            continue
        if kind is ColumnType.TIMESTAMP:
            expressions.append(pl.col(name).str.to_datetime(format_, time_unit="us", strict=True))
        else:
            expressions.append(
                pl.col(name).str.replace(WHOLE_NUMBER_TAIL, "").cast(kind.polars, strict=True)
            )
    return frame.with_columns(expressions)


def misfits(read: pl.Schema, dataset: Dataset) -> pl.Expr:
    """Whether a row of a Parquet file has a value that does not convert without loss.

    True where a required value is null, or where a value changes or vanishes when cast to the
    declared type (a fraction in an integer column, text that is no number, an infinite fare).
    """
    reasons = (_misfit(column, read) for column in dataset.columns)
    return pl.any_horizontal(
        pl.lit(value=False), *(reason for reason in reasons if reason is not None)
    )


def misfit_reason(read: pl.Schema, dataset: Dataset) -> pl.Expr:
    """Which columns make a row a misfit, as text for the rejects file."""
    texts = [
        pl.when(reason).then(pl.lit(f"{column.name}: not a {column.type.label} value"))
        for column in dataset.columns
        if (reason := _misfit(column, read)) is not None
    ]
    return pl.concat_str(pl.lit(""), *texts, separator="; ", ignore_nulls=True).str.strip_prefix("; ")


def _misfit(column: Column, read: pl.Schema) -> pl.Expr | None:
    """None when the file's type makes a misfit impossible, so that nothing is computed for it."""
    if column.name not in read:
        return None
    value, dtype, kind = pl.col(column.name), read[column.name], column.type
    checks = [value.is_null()] if column.required else []
    if dtype != pl.Null() and not _always_fits(dtype, kind):
        cast = value.cast(kind.polars, strict=False)
        checks.append(value.is_not_null() & cast.is_null())
        if dtype.is_float():
            checks.append(value != cast.cast(dtype))
    if kind is ColumnType.FLOAT and (dtype.is_float() or dtype == pl.String()):
        checks.append(~value.cast(pl.Float64(), strict=False).is_finite())
    if kind is ColumnType.TEXT and dtype == pl.String():
        checks.append(value.str.contains("\0", literal=True))
    return pl.any_horizontal(checks).fill_null(value=False) if checks else None


def _always_fits(dtype: pl.DataType, kind: ColumnType) -> bool:
    if kind is ColumnType.INTEGER:
        return dtype.is_signed_integer() or dtype in (pl.UInt8(), pl.UInt16(), pl.UInt32())
    if kind is ColumnType.FLOAT:
        return dtype.is_float() or dtype.is_integer()
    if kind is ColumnType.TIMESTAMP:
        return dtype == pl.Datetime("us") or dtype == pl.Datetime("ms")
    return dtype == pl.String()


def conform(
    frame: pl.LazyFrame, dataset: Dataset, match: HeaderMatch, file_month: dt.date
) -> pl.LazyFrame:
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
