"""Group `load duckdb`: a staged month into a DuckDB file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import pytest
from contents import in_database, in_parquet

from flows.destinations import make_destination
from flows.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Versus
    from contents import Contents

    from flows.staging import StagedMonth


def create_table_as(warehouse: Path, staged: StagedMonth) -> None:
    with duckdb.connect(warehouse) as connection:
        connection.execute(f"CREATE OR REPLACE TABLE yellow_taxi_trips AS FROM '{staged.path}'")


def from_pandas(warehouse: Path, staged: StagedMonth) -> None:
    with duckdb.connect(warehouse) as connection:
        connection.register("frame", pd.read_parquet(staged.path))
        connection.execute("CREATE OR REPLACE TABLE yellow_taxi_trips AS FROM frame")


def contents(warehouse: Path) -> Contents:
    with contextlib.closing(duckdb.connect(warehouse, read_only=True)) as connection:
        return in_database(lambda query: connection.sql(query).fetchall(), "yellow_taxi_trips")


@pytest.mark.parametrize(
    ("rival", "what", "way"),
    [
        ("CREATE TABLE AS", "DuckDB alone, from the same Parquet file: the bound", create_table_as),
        ("pandas", "read_parquet, then CREATE TABLE AS", from_pandas),
    ],
)
def test_load(
    rival: str,
    what: str,
    way: Callable[[Path, StagedMonth], None],
    staged: StagedMonth,
    tmp_path: Path,
    versus: Versus,
) -> None:
    target = make_destination("duckdb", tmp_path, Settings(_env_file=None))
    warehouse = tmp_path / "rival.duckdb"
    versus(
        "load duckdb",
        rival,
        what,
        ours=lambda: target.publish(staged, force=True),
        theirs=lambda: way(warehouse, staged),
    )
    assert contents(tmp_path / "warehouse.duckdb") == contents(warehouse) == in_parquet(staged.path)
