"""Group `stage`: one month from CSV.gz to Parquet.

`polars` is the limit (no DuckDB, no checks, no counts), `pandas` is the tutorial's way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import polars as pl
import pytest

from flows.staged import StagingOptions
from flows.staging import stage
from transforms.cleaning import conform, csv_schema, parse_text
from transforms.datasets import YELLOW
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from flows.sources import LandedFile

pytestmark = pytest.mark.benchmark(group="stage", warmup=True)
MONTH = TripMonth("yellow", 2021, 1)
TIMESTAMPS = [YELLOW.pickup, YELLOW.dropoff]


def stage_with_us(landed: LandedFile, directory: Path) -> Path:
    return stage(landed, MONTH, directory, StagingOptions(), force=True).path


def stage_with_polars(landed: LandedFile, directory: Path) -> Path:
    target = directory / "polars.parquet"
    match = YELLOW.match_header(landed.header)
    frame = pl.scan_csv(landed.path, has_header=False, skip_lines=1, schema=csv_schema(YELLOW, match))
    frame = conform(parse_text(frame, YELLOW, match), YELLOW, match, MONTH.first_day)
    frame.sink_parquet(target, compression="zstd")
    return target


def stage_with_pandas(landed: LandedFile, directory: Path) -> Path:
    target = directory / "pandas.parquet"
    frame = pd.read_csv(landed.path, parse_dates=TIMESTAMPS, low_memory=False)
    frame.to_parquet(target, compression="gzip")
    return target


WAYS = {"taxi-etl": stage_with_us, "polars": stage_with_polars, "pandas": stage_with_pandas}


@pytest.mark.parametrize("way", WAYS)
def test_stage(way: str, landed: LandedFile, tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    path = benchmark.pedantic(WAYS[way], args=(landed, tmp_path), rounds=5, warmup_rounds=1)
    expected = landed.census.lines - 1 if landed.census else 0
    assert len(pd.read_parquet(path)) == expected


def test_all_ways_produce_equal_data(landed: LandedFile, tmp_path: Path) -> None:
    ours, polars, pandas = (pd.read_parquet(way(landed, tmp_path)) for way in WAYS.values())
    pd.testing.assert_frame_equal(ours, polars)
    pd.testing.assert_frame_equal(ours[pandas.columns], pandas, check_dtype=False)
