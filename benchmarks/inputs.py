"""The input: months of yellow trips, synthetic, real or given by the user."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import polars as pl
from isal import igzip
from support.trips import REAL_YELLOW

from flows.settings import Settings
from flows.sources import LandedFile, SourceFile, land
from flows.sources.synthetic import synthetic_csv
from transforms.datasets import YELLOW
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

MONTH = TripMonth("yellow", 2021, 1)
FILE_NAME = f"{MONTH.stem}.csv.gz"
REAL_YEAR = 2019  # of the trips in REAL_YELLOW
CSV_TIME = "%Y-%m-%d %H:%M:%S"


def synthetic_file(directory: Path, rows: int) -> LandedFile:
    """A synthetic month with this number of rows."""
    directory.mkdir(exist_ok=True)
    source = directory / f"{MONTH.stem}.source.csv.gz"
    _pack(synthetic_csv(YELLOW, MONTH.year, MONTH.month, rows=rows), source)
    landed = land_file(source, directory)
    source.unlink()
    return landed


def has_real_trips() -> bool:
    """Whether this machine has real trips to make months of."""
    return REAL_YELLOW.is_dir()


def month_file(directory: Path, month: TripMonth, rows: int) -> Path:
    """A month of real trips if this machine has any, otherwise of synthetic ones, as a .csv.gz file."""
    path = directory / f"{month.stem}.csv.gz"
    real = has_real_trips()
    blocks = real_csv(month, rows) if real else synthetic_csv(YELLOW, month.year, month.month, rows=rows)
    _pack(blocks, path)
    return path


def real_csv(month: TripMonth, rows: int) -> Generator[bytes]:
    """Real trips of the same month of 2019 with their dates moved into this month, repeated up to `rows`.

    Each repetition is shuffled anew, as the trips of the source are, so that no compressor finds it.
    """
    trips = pl.read_csv(
        REAL_YELLOW / f"yellow_tripdata_{REAL_YEAR}-{month.month:02}.csv.gz", infer_schema=False
    )
    moved_by = month.first_day - dt.date(REAL_YEAR, month.month, 1)
    trips = trips.with_columns(
        (pl.col(name).str.to_datetime(CSV_TIME) + moved_by).dt.strftime(CSV_TIME)
        for name in (YELLOW.pickup, YELLOW.dropoff)
    )
    for turn, left in enumerate(range(rows, 0, -trips.height)):
        shuffled = trips.sample(fraction=1, shuffle=True, seed=turn)
        yield shuffled.head(left).write_csv(include_header=turn == 0).encode()


def _pack(blocks: Iterable[bytes], path: Path) -> None:
    # The releases are compressed to about a quarter; isal's best level comes close to that, and is fast.
    with igzip.open(path, "wb", compresslevel=3) as packed:
        for block in blocks:
            packed.write(block)


def land_file(source: Path, directory: Path) -> LandedFile:
    return land(SourceFile(source.as_uri(), FILE_NAME), directory, Settings(_env_file=None))
