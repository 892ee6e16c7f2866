"""What orchestration costs: one small month with a server running, beside Prefect's own smallest flow.

`pytest benchmarks/test_overhead.py -s`. Whole processes, from their start to their end, in turns. The fixed
cost of a run is its wall time minus the work, and the work is what the same steps take without Prefect in a
process that has imported everything. Compiled files are used, as they are where nobody forbids it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from pairs import interleaved

from flows.destinations import make_destination
from flows.layout import Layout
from flows.quality_report import quality_report
from flows.settings import get_settings, override_settings
from flows.sources import land, locate_source
from flows.staging import StagingOptions, stage
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 10_000
PAIRS = 3
ALLOWED_SECONDS = 1.0
MONTH = TripMonth("yellow", 2021, 1)

# As a user would write it; and, for information, without the second that Prefect waits for its heartbeats
# at the end, which flows/parent.py does not wait for either.
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
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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
            quality_report(staged)
        best = min(best, time.perf_counter() - started)
    return best


def test_the_fixed_cost_of_a_run_is_the_smallest_flows_plus_a_second(
    prefect_api_url: str, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {
        "PREFECT_API_URL": prefect_api_url,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "TAXI_SYNTHETIC_ROWS": str(ROWS),
    }
    call = ("--color", "yellow", "--months", "1", "--source", "synthetic", "--force")
    ours = partial(run, environment, "flows/parent.py", *call, "--data-dir", str(tmp_path / "data"))
    work = seconds_of_work(tmp_path)
    above: dict[str, float] = {}
    for name, rival in {"smallest flow": SMALLEST, "without heartbeat": SMALLEST_WITHOUT_HEARTBEAT}.items():
        timed = interleaved(ours, partial(run, environment, "-c", rival), pairs=PAIRS)
        above[name] = timed.ours_seconds - work - timed.rival_seconds
        print(f"\n{name}: {timed}; work {work:.2f} s, fixed cost of ours {above[name]:+.2f} s to it")
    assert above["smallest flow"] <= ALLOWED_SECONDS
