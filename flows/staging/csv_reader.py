"""A regular CSV file as a lazy frame, and the check of what Polars made of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import polars as pl

from transforms.cleaning import csv_schema, parse_text
from transforms.dataset import ColumnType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transforms.dataset import Column, Dataset, HeaderMatch

# What Polars raises about the data, as opposed to about our expressions. OSError: it takes the padding
# behind a gzip stream for damage, which the landing has ruled out.
UNREADABLE = (
    pl.exceptions.ComputeError,
    pl.exceptions.InvalidOperationError,
    pl.exceptions.SchemaError,  # the first line has another number of fields
    pl.exceptions.ShapeError,
    ValueError,
    OSError,
)


# Polars reads this much of the packed file ahead for each core; its 32 MiB unpack to a quarter of a gigabyte,
# and let memory grow with the file and with the number of cores.
os.environ.setdefault("POLARS_CSV_CHUNK_SIZE", str(2**20))


class FastPathUnsupported(Exception):
    """An attempt cannot be trusted with this file; the next one takes over."""


def read_csv(
    path: Path, dataset: Dataset, match: HeaderMatch, *, integers_as_text: bool, fractional_seconds: bool
) -> pl.LazyFrame:
    """Read a CSV file by position under our own names: its header has been matched by spelling already.

    See `csv_schema` and `parse_text` for the arguments.
    """
    schema = csv_schema(dataset, match, integers_as_text=integers_as_text)
    frame = pl.scan_csv(path, has_header=False, skip_lines=1, schema=schema, glob=False, raise_if_empty=False)
    return parse_text(frame, dataset, match, fractional_seconds=fractional_seconds)


def refuse_silent_misreading(dataset: Dataset, statistics: Mapping[str, Mapping[str, str]]) -> None:
    """Catch what Polars reads without a word and no destination can hold.

    Args:
        dataset: the declaration.
        statistics: of the file written, see `flows.staging.parquet_writer.Written`.

    Raises:
        FastPathUnsupported: a required value is null, a number is infinite or NaN, a year beyond 1 to 9999.
    """
    for column in (*dataset.columns, *dataset.historic):
        found = statistics.get(column.name, {})
        if column.required and found.get("null_count", "0") != "0":
            raise FastPathUnsupported(f"{column.name} is null")
        if _out_of_range(column, found.get("min", ""), found.get("max", "")) or (
            found.get("has_nan", "false") == "true"
        ):
            raise FastPathUnsupported(f"{column.name} is out of range")


def _out_of_range(column: Column, least: str, most: str) -> bool:
    if column.type is ColumnType.FLOAT:
        return "inf" in least + most
    return column.type is ColumnType.TIMESTAMP and ("BC" in least or most.find("-") > len("9999"))
