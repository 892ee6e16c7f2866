"""Which Parquet rows have a value that does not fit its declaration, and the reason they are rejected with.

A Parquet file has types of its own, and they have changed over the years: zone ids are int32, int64 or
double, timestamps come in milliseconds, microseconds or nanoseconds. A type whose every value fits is not
checked, one of which no value fits is refused at once; with any other, each row is checked before it is
converted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator

import polars as pl

from transforms.cleaning import TIMESTAMP_BYTES, decode_codes
from transforms.column import LONGEST_TEXT_BYTES, Column, ColumnType
from transforms.dataset import TIMESTAMP_FORMAT, ColumnsDiffer

# The range that CSV files can write, and BigQuery and Python can hold; New York time.
EARLIEST = dt.datetime(1, 1, 1)  # noqa: DTZ001
LATEST = dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001

NEW_YORK = ("America/New_York", "US/Eastern")


def check_types(read: pl.Schema, columns: Iterable[Column]) -> None:
    """Refuse columns whose type in the file cannot become the declared one.

    The TLC's timestamps are New York local time without a zone. A column in New York's zone means the
    same. In any other zone, UTC above all, it may hold instants or just as well local times under the
    wrong label, hours apart; nothing in the file tells which.

    Args:
        read: the file's types by canonical column name.
        columns: the declarations.

    Raises:
        ColumnsDiffer: names every such column.
    """
    wrong = [
        f"{column.name} is {read[column.name]}, which cannot become {column.type.label}"
        for column in columns
        if not _is_convertible(read[column.name], column.type)
    ]
    if wrong:
        raise ColumnsDiffer(
            f"the file has columns of another type: {'; '.join(wrong)}. Whole numbers, floats and text "
            f"are converted, timestamps must be New York local time without a zone or in "
            f"{NEW_YORK[0]}; write the file again with such types"
        )


def _is_convertible(dtype: pl.DataType, kind: ColumnType) -> bool:
    if dtype == pl.Null():
        return True
    if isinstance(dtype, pl.Datetime):
        is_local = dtype.time_zone is None or dtype.time_zone in NEW_YORK
        return kind is ColumnType.TEXT or (kind is ColumnType.TIMESTAMP and is_local)
    if kind is ColumnType.TEXT:
        return not (dtype.is_nested() or dtype in (pl.Binary(), pl.Object()))
    if dtype == pl.String():
        return True
    return kind is not ColumnType.TIMESTAMP and (dtype.is_numeric() or dtype == pl.Boolean())


def normalize(rows: pl.LazyFrame, columns: Iterable[Column]) -> pl.LazyFrame:
    """Make values comparable with their declaration.

    The TLC's Parquet files of 2009 and 2010 have timestamps, rates and payment types as text.

    Args:
        rows: under their canonical names, in the file's types.
        columns: the declarations.

    Returns:
        The rows with New York timestamps as local time; where a number or a timestamp is declared, text
        has codes as numbers and no surrounding blanks, and is null if empty. Other values stay.
    """
    expressions: list[pl.Expr] = []
    read = rows.collect_schema()
    for column in columns:
        value, dtype = pl.col(column.name), read[column.name]
        if isinstance(dtype, pl.Datetime) and dtype.time_zone in NEW_YORK:
            expressions.append(value.dt.replace_time_zone(None))
        elif dtype == pl.String() and column.type is not ColumnType.TEXT:
            text = decode_codes(value, column).str.strip_chars()
            expressions.append(pl.when(text != "").then(text).alias(column.name))
    return rows.with_columns(expressions)


def parse_timestamps(rows: pl.LazyFrame, columns: Iterable[Column]) -> pl.LazyFrame:
    """Convert timestamps that a file has as text.

    Args:
        rows: normalized rows without an invalid value.
        columns: the declarations.

    Returns:
        The rows with those columns as timestamps in microseconds.
    """
    read = rows.collect_schema()
    texts = [c.name for c in columns if c.type is ColumnType.TIMESTAMP and read[c.name] == pl.String()]
    return rows.with_columns(_timestamp(pl.col(name)).alias(name) for name in texts)


def _timestamp(text: pl.Expr) -> pl.Expr:
    # Polars would take 19-01-31 for the year 19: make shorter texts null.
    whole = pl.when(text.str.len_bytes() >= TIMESTAMP_BYTES).then(text)
    return whole.str.to_datetime(TIMESTAMP_FORMAT + "%.f", time_unit="us", strict=False)


def has_invalid_value(
    read: pl.Schema, columns: Iterable[Column], merged: Iterable[tuple[str, str]] = ()
) -> pl.Expr:
    """Tell rows with a null where a value is required, or a value that conversion would change.

    Such as a fraction or a text in an integer column, an infinite fare, a year beyond 9999; but not
    nanoseconds, which are cut to microseconds. And rows whose merged columns differ.

    Args:
        read: types of the normalized rows.
        columns: the declarations.
        merged: see `HeaderMatch`.

    Returns:
        A boolean expression, never null.
    """
    conditions = [condition for condition, _ in _checks(read, columns, merged)]
    return pl.any_horizontal(pl.lit(value=False), *conditions)


def invalid_value_reason(
    read: pl.Schema, columns: Iterable[Column], merged: Iterable[tuple[str, str]] = ()
) -> pl.Expr:
    """Say what is wrong with a row's values, for the rejects file.

    Args:
        read: types of the normalized rows.
        columns: the declarations.
        merged: see `HeaderMatch`.

    Returns:
        A text expression that names each invalid column; empty if there is none.
    """
    texts = [pl.when(condition).then(pl.lit(text)) for condition, text in _checks(read, columns, merged)]
    return pl.concat_str(*texts, separator="; ", ignore_nulls=True) if texts else pl.lit("")


def _checks(
    read: pl.Schema, columns: Iterable[Column], merged: Iterable[tuple[str, str]]
) -> Iterator[tuple[pl.Expr, str]]:
    """Conditions and their reasons; none for a type of which every value fits, and never null."""
    for column in columns:
        value, dtype = pl.col(column.name), read[column.name]
        if column.required:
            yield value.is_null(), f"{column.name}: is empty and must not be"
        if dtype != pl.Null() and (conditions := list(_conditions(value, dtype, column.type))):
            is_invalid = pl.any_horizontal(conditions).fill_null(value=False)
            yield is_invalid, f"{column.name}: no {column.type.label} value"
        if column.type is ColumnType.TEXT and dtype == pl.String():
            too_long = (value.str.len_bytes() > LONGEST_TEXT_BYTES).fill_null(value=False)
            yield too_long, f"{column.name}: is longer than {LONGEST_TEXT_BYTES:,} bytes"
    for names in merged:
        one, other = (pl.col(name).cast(pl.String()).str.strip_chars() for name in names)
        differ = (one != "") & (other != "") & (one != other)
        yield differ.fill_null(value=False), f"{' and '.join(names)}: two different values"


def _conditions(value: pl.Expr, dtype: pl.DataType, kind: ColumnType) -> Iterator[pl.Expr]:
    converted = value.cast(kind.polars, strict=False)  # not of timestamps
    fits_64_bits = dtype.is_integer() and dtype != pl.UInt64()
    if kind is ColumnType.INTEGER and not fits_64_bits:
        yield value.is_not_null() & converted.is_null()
        if dtype.is_float() or dtype.is_decimal():
            yield converted.cast(dtype) != value
    elif kind is ColumnType.FLOAT and not dtype.is_integer():
        yield value.is_not_null() & converted.is_null()
        yield ~converted.is_finite()
    elif kind is ColumnType.TIMESTAMP and dtype == pl.String():
        yield value.is_not_null() & _timestamp(value).is_null()
    elif kind is ColumnType.TIMESTAMP and dtype != pl.Datetime("ns"):
        yield ~value.is_between(EARLIEST, LATEST)
    elif kind is ColumnType.TEXT and not dtype.is_numeric():
        yield value.cast(pl.String()).str.contains("\0", literal=True)


def row_as_json(read: pl.Schema) -> pl.Expr:
    """Write a whole row as JSON, every value as text: JSON has no infinity, and Python no year 10000.

    Args:
        read: the rows' types.

    Returns:
        A text expression.
    """
    return pl.struct(_as_text(name, dtype) for name, dtype in read.items()).struct.json_encode()


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(name)
    if not isinstance(dtype, pl.Datetime) or dtype.time_unit == "ns":
        return value.cast(pl.String())
    # Polars cannot format every year it can hold: the number of units since 1970 then.
    formatted = pl.when(value.is_between(EARLIEST, LATEST)).then(value).cast(pl.String())
    return pl.coalesce(formatted, value.to_physical().cast(pl.String()))
