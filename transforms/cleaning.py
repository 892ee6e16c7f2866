"""From a file's columns to a dataset's: names, types, missing columns.

Everything here is lazy and pure. A value that cannot be converted raises when the frame is collected;
`flows.staging.csv_repair` then finds the lines.
"""

from __future__ import annotations

import datetime as dt

import polars as pl

from transforms.column import Column, ColumnType
from transforms.dataset import FILE_MONTH, ROW_NUMBER, TIMESTAMP_FORMAT, Dataset, HeaderMatch

WHOLE_NUMBER_TAIL = r"\.0*$"
TIMESTAMP_BYTES = len("2021-01-31 23:59:59")


def csv_schema(
    dataset: Dataset, match: HeaderMatch, *, integers_as_text: bool = False
) -> dict[str, pl.DataType]:
    """Choose the types in which Polars reads a CSV file.

    Timestamps are read as text: converting them afterwards with an explicit format takes a third of
    the time the CSV reader needs to infer them.

    Args:
        dataset: what the file holds.
        match: its header.
        integers_as_text: read whole numbers as text too, for files that write them as `1.0`.

    Returns:
        Polars types by canonical column name, in the file's column order.
    """
    as_text = {ColumnType.TIMESTAMP, *([ColumnType.INTEGER] if integers_as_text else [])}
    columns = dataset.columns_of(match)
    return {column.name: pl.String() if column.type in as_text else column.type.polars for column in columns}


def parse_text(
    frame: pl.LazyFrame, dataset: Dataset, match: HeaderMatch, *, fractional_seconds: bool = False
) -> pl.LazyFrame:
    """Convert every column that was read as text but is declared as another type.

    Args:
        frame: as read with `csv_schema`.
        dataset: what the file holds.
        match: its header.
        fractional_seconds: accept digits behind the seconds (slower; the releases have none).

    Returns:
        The frame with the file's columns in their declared types.

    Raises:
        polars.exceptions.PolarsError: on collection, when a value does not convert exactly.
    """
    read = frame.collect_schema()
    format_ = TIMESTAMP_FORMAT + ("%.f" if fractional_seconds else "")
    expressions: list[pl.Expr] = []
    for column in dataset.columns_of(match):
        text = pl.col(column.name)
        if read[column.name] != pl.String() or column.type is ColumnType.TEXT:
            continue
        if column.type is ColumnType.TIMESTAMP:
            if not fractional_seconds:
                # Polars would take 19-01-31 for the year 19: make other lengths unreadable.
                text = pl.when(text.str.len_bytes() != TIMESTAMP_BYTES).then(pl.lit("")).otherwise(text)
            # Without the cache: trips rarely share a second, and looking them up takes longer.
            parsed = text.str.to_datetime(format_, time_unit="us", strict=True, cache=False)
        else:
            whole = decode_codes(text, column).str.replace(WHOLE_NUMBER_TAIL, "")
            parsed = whole.cast(column.type.polars, strict=True)
        expressions.append(parsed.alias(column.name))
    return frame.with_columns(expressions)


def decode_codes(text: pl.Expr, column: Column) -> pl.Expr:
    """Replace the words that older files have in a column by their numbers, such as `CASH` by `2`.

    Args:
        text: a text expression.
        column: the declaration, with its `codes`.

    Returns:
        A text expression; other texts stay, in lower case and without surrounding blanks.
    """
    if not column.codes:
        return text
    numbers = {word: str(number) for word, number in column.codes}
    return text.str.strip_chars().str.to_lowercase().replace(numbers)


def conform(frame: pl.LazyFrame, dataset: Dataset, match: HeaderMatch, file_month: dt.date) -> pl.LazyFrame:
    """Give a frame exactly the columns of the staged file.

    Args:
        frame: the file's columns under their canonical names.
        dataset: what the file holds.
        match: its header.
        file_month: first day of the file's month.

    Returns:
        The columns and types of `dataset.types(match.new)`; those that the file lacks are null. Behind them
        the row number, if the file has it.
    """
    values = {name: pl.col(name) for name in match.columns}
    for name, other in match.merged:
        is_filled = values[name].str.strip_chars() != ""
        values[name] = pl.coalesce(pl.when(is_filled).then(values[name]), pl.col(other))
    columns = [
        values[name].cast(kind.polars).alias(name)
        if name in match.columns
        else pl.lit(file_month if name == FILE_MONTH else None, dtype=kind.polars).alias(name)
        for name, kind in dataset.types(match.new).items()
    ]
    return frame.select(*columns, *([ROW_NUMBER] if match.has_row_number else []))
