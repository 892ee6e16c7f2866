"""Group `fixed overhead`: a small month with a Prefect server running, against the smallest flow of Prefect.

Whole processes are timed from start to end, in turns. The fixed cost of a run is its wall time minus the time
of the work, which is what the same steps take without Prefect in a process that has imported everything.
Compiled files (.pyc) are used, as in a usual installation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import duckdb
import pytest

from flows.destinations import make_destination
from flows.runtime import Layout
from flows.settings import get_settings, override_settings
from flows.sources import land, locate_source
from flows.staging import StagingOptions, report_quality, stage
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Versus

ROWS = 10_000
MONTH = TripMonth("yellow", 2021, 1)

# As a user would write it; and, for comparison, without the second that Prefect waits for its heartbeats at
# the end, which flows/parent.py does not wait for either.
SMALLEST = """
from prefect import flow

@flow
def smallest(): ...

smallest()
"""
SMALLEST_WITHOUT_HEARTBEAT = """
from prefect import flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

@flow
def smallest(): ...

with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
    smallest()
"""


def run(environment: dict[str, str], *arguments: str) -> None:
    process = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


def seconds_of_work(directory: Path) -> float:
    """The steps of a month without Prefect, the best of three."""
    best = float("inf")
    for turn in range(3):
        layout = Layout(directory / f"work-{turn}")
        started = time.perf_counter()
        with override_settings(synthetic_rows=ROWS):
            source = locate_source("synthetic", MONTH, get_settings())
            landed = land(source, layout.raw("yellow"), get_settings())
            staged = stage(landed, MONTH, layout.staged("yellow"), StagingOptions())
            make_destination("duckdb", layout.data_dir, get_settings()).publish(staged)
            report_quality(staged)
        best = min(best, time.perf_counter() - started)
    return best


@pytest.mark.parametrize(
    ("rival", "what", "script"),
    [
        ("smallest flow", "an empty flow", SMALLEST),
        ("without heartbeat", "the same without the wait for the heartbeats", SMALLEST_WITHOUT_HEARTBEAT),
    ],
    ids=["smallest", "without-heartbeat"],
)
def test_the_fixed_cost_of_a_run_against_the_smallest_flow(
    rival: str, what: str, script: str, prefect_api_url: str, tmp_path: Path, versus: Versus
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {
        "PREFECT_API_URL": prefect_api_url,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "TAXI_SYNTHETIC_ROWS": str(ROWS),
    }
    call = ("--color", "yellow", "--months", "1", "--source", "synthetic", "--force")
    versus(
        "fixed overhead",
        rival,
        what,
        ours=partial(run, environment, "flows/parent.py", *call, "--data-dir", str(tmp_path / "data")),
        theirs=partial(run, environment, "-c", script),
        rows=ROWS,
        work_seconds=seconds_of_work(tmp_path),
    )
    with duckdb.connect(tmp_path / "data" / "warehouse.duckdb", read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM yellow_taxi_trips").fetchall() == [(ROWS,)]
