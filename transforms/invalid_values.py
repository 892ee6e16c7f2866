"""Parquet rows whose values do not fit the declaration, found before anything is converted.

A Parquet file has types of its own, and they have changed over the years: zone ids are int32, int64 or
double, timestamps come in milliseconds, microseconds or nanoseconds. What every value of a type fits is
not looked at; what no value of a type can become is refused at once; the rest is checked row by row.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import polars as pl

from transforms.cleaning import TIMESTAMP_BYTES, decoded
from transforms.dataset import TIMESTAMP_FORMAT, ColumnsDiffer, ColumnType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transforms.dataset import Column

EARLIEST = dt.datetime(1, 1, 1)  # noqa: DTZ001 - New York time
LATEST = dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001
"""What CSV files can write, and BigQuery and Python can hold."""

NEW_YORK = ("America/New_York", "US/Eastern")


def check_types(read: pl.Schema, columns: Iterable[Column]) -> None:
    """Refuse columns whose type in the file cannot become the declared one.

    The TLC's timestamps are New York local time without a zone. A column in New York's zone says the
    same. In any other zone, UTC above all, it may hold instants or just as well local times under the
    wrong label, hours apart; nothing in the file tells which.

    Raises:
        ColumnsDiffer: names every such column.
    """
    wrong = [
        f"{column.name} is {read[column.name]}, which cannot become {column.type.label}"
        for column in columns
        if not _convertible(read[column.name], column.type)
    ]
    if wrong:
        raise ColumnsDiffer(
            f"the file has columns of another type: {'; '.join(wrong)}. Whole numbers, floats and text "
            f"are converted, timestamps must be New York local time without a zone or in "
            f"{NEW_YORK[0]}; write the file again with such types"
        )


def from_text(rows: pl.LazyFrame, columns: Iterable[Column]) -> pl.LazyFrame:
    """Prepare what a file has as text and is declared as a number: blanks become null, codes their numbers.

    The TLC's Parquet files of 2009 and 2010 have timestamps, rates and payment types as text.
    """
    read = rows.collect_schema()
    texts = [c for c in columns if read[c.name] == pl.String() and c.type is not ColumnType.TEXT]
    prepared = [decoded(pl.col(c.name), c).str.strip_chars().alias(c.name) for c in texts]
    blanks = [pl.when(pl.col(c.name) != "").then(pl.col(c.name)).alias(c.name) for c in texts]
    return rows.with_columns(prepared).with_columns(blanks) if texts else rows


def parse_timestamps(rows: pl.LazyFrame, columns: Iterable[Column]) -> pl.LazyFrame:
    """Turn timestamps that a file has as text into timestamps; call it on rows that fit."""
    read = rows.collect_schema()
    texts = [c.name for c in columns if c.type is ColumnType.TIMESTAMP and read[c.name] == pl.String()]
    return rows.with_columns(_moment(pl.col(name)).alias(name) for name in texts) if texts else rows


def _moment(text: pl.Expr) -> pl.Expr:
    """The moment a text says, null if it says none."""
    # Of another length, Polars would take 19-01-31 for the year 19.
    whole = pl.when(text.str.len_bytes() >= TIMESTAMP_BYTES).then(text)
    return whole.str.to_datetime(TIMESTAMP_FORMAT + "%.f", time_unit="us", strict=False)


def drop_time_zone(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Turn timestamps in New York's zone into local time; other columns stay."""
    zoned = [
        pl.col(name).dt.replace_time_zone(None)
        for name, dtype in rows.collect_schema().items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone in NEW_YORK
    ]
    return rows.with_columns(zoned) if zoned else rows


def has_invalid_value(read: pl.Schema, columns: Iterable[Column]) -> pl.Expr:
    """Whether a row has a value that does not fit: a null where one is required, or a value that changes.

    Raised by a fraction or a text in an integer column, an infinite fare, a year beyond 9999. Not
    raised by nanoseconds, which are cut to microseconds.
    """
    conditions = [condition for condition, _ in _checks(read, columns)]
    return pl.any_horizontal(pl.lit(value=False), *conditions)


def invalid_value_reason(read: pl.Schema, columns: Iterable[Column]) -> pl.Expr:
    """Why a row is a misfit, as text for the rejects file."""
    texts = [pl.when(condition).then(pl.lit(text)) for condition, text in _checks(read, columns)]
    return pl.concat_str(*texts, separator="; ", ignore_nulls=True) if texts else pl.lit("")


def as_text(read: pl.Schema) -> pl.Expr:
    """A whole row as JSON, every value as text: JSON has no infinity, and Python no year 10000."""
    return pl.struct(_as_text(name, dtype) for name, dtype in read.items()).struct.json_encode()


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(name)
    if not isinstance(dtype, pl.Datetime) or dtype.time_unit == "ns":
        return value.cast(pl.String())
    # Polars cannot write down every year it can hold: the bare number then.
    near = pl.when(value.is_between(EARLIEST, LATEST)).then(value).cast(pl.String())
    return pl.coalesce(near, value.to_physical().cast(pl.String()))


def _checks(read: pl.Schema, columns: Iterable[Column]) -> Iterator[tuple[pl.Expr, str]]:
    """Conditions that are never null; none where the file's type makes a misfit impossible."""
    for column in columns:
        value, dtype = pl.col(column.name), read[column.name]
        if column.required:
            yield value.is_null(), f"{column.name}: is empty and must not be"
        if dtype != pl.Null() and (conditions := list(_conditions(value, dtype, column.type))):
            unfit = pl.any_horizontal(conditions).fill_null(value=False)
            yield unfit, f"{column.name}: no {column.type.label} value"


def _conditions(value: pl.Expr, dtype: pl.DataType, kind: ColumnType) -> Iterator[pl.Expr]:
    converted = value.cast(kind.polars, strict=False)  # not of timestamps
    if kind is ColumnType.INTEGER and not _fits_64_bits(dtype):
        yield value.is_not_null() & converted.is_null()
        if dtype.is_float() or dtype.is_decimal():
            yield converted.cast(dtype) != value
    elif kind is ColumnType.FLOAT and not dtype.is_integer():
        yield value.is_not_null() & converted.is_null()
        yield ~converted.is_finite()
    elif kind is ColumnType.TIMESTAMP and dtype == pl.String():
        yield value.is_not_null() & _moment(value).is_null()
    elif kind is ColumnType.TIMESTAMP and dtype != pl.Datetime("ns"):
        yield ~value.is_between(EARLIEST, LATEST)
    elif kind is ColumnType.TEXT and not dtype.is_numeric():
        yield value.cast(pl.String()).str.contains("\0", literal=True)


def _fits_64_bits(dtype: pl.DataType) -> bool:
    return dtype.is_integer() and dtype != pl.UInt64()


def _convertible(dtype: pl.DataType, kind: ColumnType) -> bool:
    if dtype == pl.Null():
        return True
    if isinstance(dtype, pl.Datetime):
        plain = dtype.time_zone is None or dtype.time_zone in NEW_YORK
        return kind is ColumnType.TEXT or (kind is ColumnType.TIMESTAMP and plain)
    if kind is ColumnType.TEXT:
        return not (dtype.is_nested() or dtype in (pl.Binary(), pl.Object()))
    if dtype == pl.String():
        return True
    is_number = dtype.is_numeric() or dtype == pl.Boolean()
    return kind is not ColumnType.TIMESTAMP and is_number
