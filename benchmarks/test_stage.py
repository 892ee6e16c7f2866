"""Group `stage`: one month from CSV.gz to Parquet.

`polars` and `duckdb` alone are the bounds: no checks, no counts, no rejects. `polars, as written` does no
more, the way people write it. `pandas` is the tutorial's way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import pytest
from contents import in_parquet
from inputs import MONTH

from flows.staging import StagingOptions, stage
from transforms.cleaning import conform, csv_schema, parse_text
from transforms.datasets import YELLOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Versus

    from flows.sources import LandedFile

TIMESTAMPS = [YELLOW.pickup, YELLOW.dropoff]


def stage_with_polars(landed: LandedFile, target: Path) -> None:
    import polars as pl

    match = YELLOW.match_header(landed.header)
    frame = pl.scan_csv(landed.path, has_header=False, skip_lines=1, schema=csv_schema(YELLOW, match))
    frame = conform(parse_text(frame, YELLOW, match), YELLOW, match, MONTH.first_day)
    frame.sink_parquet(target, compression="zstd")


def stage_with_polars_as_written(landed: LandedFile, target: Path) -> None:
    """With the types said to `scan_csv`, whose own conversion to Datetime is what takes the time."""
    import polars as pl

    match = YELLOW.match_header(landed.header)
    schema = {column.name: column.type.polars for column in YELLOW.columns_of(match)}
    pl.scan_csv(landed.path, schema=schema).sink_parquet(target, compression="zstd")


def stage_with_duckdb(landed: LandedFile, target: Path) -> None:
    match = YELLOW.match_header(landed.header)
    types = {column.name: column.type.duckdb for column in YELLOW.columns_of(match)}
    with duckdb.connect() as connection:
        read = f"read_csv(?, header = true, auto_detect = false, columns = {types})"
        connection.execute(
            f"COPY (SELECT *, CAST(? AS DATE) AS file_month FROM {read}) TO ?"
            " (FORMAT parquet, COMPRESSION zstd)",
            [MONTH.first_day, str(landed.path), str(target)],
        )


def stage_with_pandas(landed: LandedFile, target: Path) -> None:
    frame = pd.read_csv(landed.path, parse_dates=TIMESTAMPS, low_memory=False)
    frame.to_parquet(target, compression="gzip")


@pytest.mark.parametrize(
    ("rival", "what", "way"),
    [
        ("pandas", "read_csv + to_parquet(gzip), as the tutorial", stage_with_pandas),
        (
            "polars",
            "scan_csv + sink_parquet, timestamps converted by a format: the bound",
            stage_with_polars,
        ),
        (
            "polars, as written",
            "scan_csv(schema=...) with Datetime + sink_parquet, as people write it",
            stage_with_polars_as_written,
        ),
        ("duckdb", "COPY of read_csv: the bound", stage_with_duckdb),
    ],
)
def test_stage(
    rival: str,
    what: str,
    way: Callable[[LandedFile, Path], None],
    landed: LandedFile,
    tmp_path: Path,
    versus: Versus,
) -> None:
    target = tmp_path / "rival.parquet"
    versus(
        "stage",
        rival,
        what,
        ours=lambda: stage(landed, MONTH, tmp_path, StagingOptions(), force=True),
        theirs=lambda: way(landed, target),
    )
    assert in_parquet(target) == in_parquet(tmp_path / f"{MONTH.stem}.parquet")
