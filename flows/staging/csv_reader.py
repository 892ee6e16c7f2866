"""Reads a regular CSV file as a lazy frame, and checks what Polars may misread without an error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from transforms.cleaning import csv_schema, parse_text
from transforms.column import LONGEST_TEXT_BYTES, Column, ColumnType

if TYPE_CHECKING:
    from transforms.dataset import Dataset, HeaderMatch

# What Polars raises about the data rather than about our expressions. OSError: it takes the padding
# after a gzip stream for damage, which the landing has ruled out.
UNREADABLE = (
    pl.exceptions.ComputeError,
    pl.exceptions.InvalidOperationError,
    pl.exceptions.SchemaError,  # the first line has another number of fields
    pl.exceptions.ShapeError,
    ValueError,
    OSError,
)

# Polars reads this much of the packed file ahead for each core. Its default of 32 MiB unpacks to a quarter
# of a gigabyte, and memory would grow with the file and the number of cores.
os.environ.setdefault("POLARS_CSV_CHUNK_SIZE", str(2**20))


class FastPathUnsupported(Exception):
    """An attempt cannot be trusted with this file; the next one takes over."""


def read_csv(
    path: Path, dataset: Dataset, match: HeaderMatch, *, integers_as_text: bool, fractional_seconds: bool
) -> pl.LazyFrame:
    """Read a CSV file by position: its header has been matched by spelling already.

    Args:
        path: CSV or gzipped CSV with a header line.
        dataset: what the file holds.
        match: its header.
        integers_as_text: see `csv_schema`.
        fractional_seconds: see `parse_text`.

    Returns:
        The file's columns under their canonical names in their declared types; values that do not
        convert raise on collection, see `UNREADABLE`.
    """
    schema = csv_schema(dataset, match, integers_as_text=integers_as_text)
    frame = pl.scan_csv(path, has_header=False, skip_lines=1, schema=schema, glob=False, raise_if_empty=False)
    return parse_text(frame, dataset, match, fractional_seconds=fractional_seconds)


def check_silent_misreads(dataset: Dataset, statistics: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse values that Polars reads without an error and no destination can store.

    Args:
        dataset: what the file holds.
        statistics: of the written file, see `flows.staging.parquet_writer.WrittenParquet`.

    Raises:
        FastPathUnsupported: a required value is null, a number is infinite or NaN, a year is not 1 to 9999.
    """
    for column in (*dataset.columns, *dataset.historic):
        measured = statistics.get(column.name, {})
        if column.required and measured.get("null_count", "0") != "0":
            raise FastPathUnsupported(f"{column.name} is null")
        if measured.get("has_nan") == "true" or _is_out_of_range(column, measured):
            raise FastPathUnsupported(f"{column.name} is out of range")


def check_text_lengths(batch: pl.DataFrame) -> None:
    """Refuse texts that are too long before they are written.

    Args:
        batch: some rows of the file.

    Raises:
        FastPathUnsupported: names the column.
    """
    lengths = batch.select(pl.col(pl.String()).str.len_bytes().max())
    for name in lengths.columns:
        if (lengths[name].item() or 0) > LONGEST_TEXT_BYTES:
            raise FastPathUnsupported(f"{name} is longer than {LONGEST_TEXT_BYTES:,} bytes")


def _is_out_of_range(column: Column, measured: Mapping[str, str]) -> bool:
    least, most = measured.get("min", ""), measured.get("max", "")
    if column.type is ColumnType.FLOAT:
        return "inf" in least + most
    return column.type is ColumnType.TIMESTAMP and ("BC" in least or most.find("-") > len("9999"))
