"""The input: one month of yellow trips as a verified file, synthetic or given by the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isal import igzip

from flows.settings import Settings
from flows.sources import LandedFile, SourceFile, land
from flows.sources.synthetic import synthetic_csv
from transforms.datasets import YELLOW
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

MONTH = TripMonth("yellow", 2021, 1)
FILE_NAME = f"{MONTH.stem}.csv.gz"


def synthetic_file(directory: Path, rows: int) -> LandedFile:
    """A synthetic month with this number of rows."""
    directory.mkdir(exist_ok=True)
    source = directory / f"{MONTH.stem}.source.csv.gz"
    # The releases are compressed to about a quarter; isal's best level comes close to that, and is fast.
    with igzip.open(source, "wb", compresslevel=3) as packed:
        for block in synthetic_csv(YELLOW, MONTH.year, MONTH.month, rows=rows):
            packed.write(block)
    landed = land_file(source, directory)
    source.unlink()
    return landed


def land_file(source: Path, directory: Path) -> LandedFile:
    return land(SourceFile(source.as_uri(), FILE_NAME), directory, Settings(_env_file=None))
