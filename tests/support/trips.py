"""Real trips, if this machine has them, and readers that share no code with the project."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from support.torture import TORTURE

SHARED = Path(__file__).parents[3] / "shared" / "data"
REAL_YELLOW = SHARED / "tlc" / "yellow"
HEADS = SHARED / "heads"

REAL_MONTHS = range(1, 13 if TORTURE else 4)
"""Of 2019: what a test loads that is about the way to a warehouse. All of them are staged in every mode."""

needs_real_trips = pytest.mark.skipif(
    not REAL_YELLOW.is_dir(), reason=f"no real trips in {REAL_YELLOW.parents[1].name}/"
)


def real_month(month: int) -> bytes:
    """The gzipped CSV of a month of 2019, 10,000 rows."""
    return (REAL_YELLOW / f"yellow_tripdata_2019-{month:02}.csv.gz").read_bytes()


def read_with_pandas(packed: bytes, timestamps: list[str]) -> pd.DataFrame:
    """An independent reading: every column as pandas sees it, timestamps parsed by pandas."""
    return pd.read_csv(io.BytesIO(gzip.decompress(packed)), parse_dates=timestamps, low_memory=False)


def warehouse_rows(warehouse: Path, query: str, *parameters: object) -> list[tuple]:
    """Rows of a query on a local warehouse."""
    with duckdb.connect(warehouse, read_only=True) as connection:
        return connection.execute(query, parameters).fetchall()


def assert_equals_pandas(loaded: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Every column of `expected` is in `loaded`, in the same order of rows, value by value."""
    assert len(loaded) == len(expected)
    for name in expected.columns:
        ours, theirs = loaded[name], expected[name]
        assert (ours.isna() == theirs.isna()).all(), f"{name}: nulls differ"
        present = ~theirs.isna()
        assert (ours[present].to_numpy() == theirs[present].to_numpy()).all(), f"{name}: values differ"
