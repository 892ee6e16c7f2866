"""Benchmarks: our code and what a user would take instead, on the same file, in the same run.

`pytest benchmarks --rows 1440000` for the size the README quotes; the default is small enough to try.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from flows.settings import Settings
from flows.sources import LandedFile, SourceFile, land
from flows.sources.synthetic import synthetic_csv
from transforms.datasets import YELLOW
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["support.postgres"]

MONTH = TripMonth("yellow", 2021, 1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", type=int, default=100_000, help="rows of the month that is measured")


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--rows")


@pytest.fixture(scope="session")
def landed(rows: int, tmp_path_factory: pytest.TempPathFactory) -> LandedFile:
    """A synthetic month of yellow trips as a verified .csv.gz file."""
    directory: Path = tmp_path_factory.mktemp("landed")
    source = directory / f"{MONTH.stem}.source.csv.gz"
    with gzip.open(source, "wb", compresslevel=6) as packed:
        for block in synthetic_csv(YELLOW, MONTH.year, MONTH.month, rows=rows):
            packed.write(block)
    return land(SourceFile(source.as_uri(), f"{MONTH.stem}.csv.gz"), directory, Settings())
