"""Runs the command line of `flows/parent.py` in tests, and makes small files to load with it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.trips import warehouse_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
HEADER = (
    "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,"
    "store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,tip_amount,"
    "tolls_amount,improvement_surcharge,total_amount,congestion_surcharge"
)
ROW = "1,2021-01-15 03:36:12,2021-01-15 03:42:19,1,1.0,1,N,230,48,1,6.5,0.5,0.5,1.95,0.0,0.3,9.75,"


@dataclass
class Result:
    code: int
    out: str
    err: str
    summary: dict


@dataclass
class Cli:
    """Runs the command against the session's Prefect server.

    In the process of the tests, which saves two seconds of imports, or in one of its own (`cli_process`).

    Attributes:
        options: of every call.
    """

    environment: dict[str, str]
    data_dir: Path
    monkeypatch: pytest.MonkeyPatch | None = None
    capsys: pytest.CaptureFixture[str] | None = None
    options: tuple[str, ...] = ()

    def __call__(self, *arguments: str, **environment: str) -> Result:
        summary = self.data_dir.parent / f"summary-{os.urandom(4).hex()}.json"
        arguments = (*arguments, *self.options, "--data-dir", str(self.data_dir), "--summary", str(summary))
        run = self._in_process if self.monkeypatch else self._in_subprocess
        code, out, err = run(arguments, environment)
        content = json.loads(summary.read_text()) if summary.exists() else {}
        return Result(code, out, err, content)

    def _in_process(self, arguments: Sequence[str], environment: dict[str, str]) -> tuple[int, str, str]:
        from flows.parent import main
        from flows.settings import _read_settings

        assert self.monkeypatch
        assert self.capsys
        with self.monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            _read_settings.cache_clear()
            code = main(arguments)
        _read_settings.cache_clear()
        return code, *self.capsys.readouterr()

    def _in_subprocess(self, arguments: Sequence[str], environment: dict[str, str]) -> tuple[int, str, str]:
        process = subprocess.run(
            [sys.executable, "flows/parent.py", *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        return process.returncode, process.stdout, process.stderr

    @property
    def warehouse(self) -> Path:
        return self.data_dir / "warehouse.duckdb"

    def count(self, table: str = "yellow_taxi_trips") -> int:
        return warehouse_rows(self.warehouse, f"SELECT count(*) FROM {table}")[0][0]


@pytest.fixture
def cli(
    server_environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    return Cli(server_environment, tmp_path / "data", monkeypatch, capsys)


@pytest.fixture
def cli_direct(cli: Cli) -> Cli:
    """For what does not depend on how steps are run: without Prefect, which takes most of a small load."""
    return replace(cli, options=("--runner", "direct"))


@pytest.fixture
def cli_process(server_environment: dict[str, str], tmp_path: Path) -> Cli:
    return Cli(server_environment, tmp_path / "data")


def small_month(rows: int, row: str = ROW) -> bytes:
    return gzip.compress(("\n".join([HEADER, *[row] * rows]) + "\n").encode())


def by_month(result: Result, key: str) -> list:
    return [month[key] for month in result.summary["months"]]
