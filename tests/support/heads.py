"""The first rows of real files, byte for byte if this machine has them, else of synthetic ones."""

from __future__ import annotations

import datetime as dt
import functools
import gzip
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.trips import HEADS

from flows.settings import Settings
from flows.sources import land, locate_source
from transforms.column import Column, ColumnType
from transforms.datasets import DATASETS
from transforms.trip_month import TripMonth


@dataclass(frozen=True)
class Head:
    """The first rows of a file, as texts.

    Attributes:
        columns: the declaration of each column, in the file's order.
        rows: the texts of each row.
    """

    month: TripMonth
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@functools.cache
def heads() -> tuple[Head, ...]:
    """The heads of real files if this machine has them, else of synthetic ones."""
    return tuple(_read_heads()) if HEADS.is_dir() else tuple(_synthetic_heads())


def _read_heads() -> Iterator[Head]:
    for path in sorted(HEADS.glob("*_tripdata_*.csv")):
        color, _, month = path.stem.partition("_tripdata_")
        yield _head(TripMonth(color, int(month[:4]), int(month[5:])), path.read_text())


def _synthetic_heads() -> Iterator[Head]:
    settings = Settings(_env_file=None, synthetic_rows=20)
    for color, month in itertools.product(DATASETS, (3, 4)):  # every third month writes 1.0
        with tempfile.TemporaryDirectory() as directory:
            trip_month = TripMonth(color, 2019, month)
            landed = land(locate_source("synthetic", trip_month, settings), Path(directory), settings)
            content = landed.path.read_bytes()
            text = (gzip.decompress(content) if landed.kind == "csv.gz" else content).decode()
            yield _head(trip_month, text)


def _head(month: TripMonth, text: str) -> Head:
    header, *lines = text.split("\n")
    spelled = {name.lower(): column for name, column in month.dataset.column.items()}
    columns = tuple(spelled[name.strip().lower()] for name in header.rstrip("\r").split(","))
    rows = [tuple(line.rstrip("\r").split(",")) for line in lines]
    return Head(month, columns, tuple(row for row in rows if len(row) == len(columns)))


def value_of(text: str, column: Column) -> object:
    """The value of an ordinary text of a real file, as Python reads it."""
    if not text:
        return None
    match column.type:
        case ColumnType.INTEGER:
            return int(float(text))
        case ColumnType.FLOAT:
            return float(text)
        case ColumnType.TIMESTAMP:
            return dt.datetime.fromisoformat(text)
        case _:
            return text
