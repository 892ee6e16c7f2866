"""The benchmarks run, both sides end with equal data, and the documents show the committed results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from report import ORDER, RESULTS, details, render, summary
from results import Comparison, Group, Size, load

if TYPE_CHECKING:
    from support.postgres import Database

pytestmark = pytest.mark.xdist_group("benchmarks")

ROOT = Path(__file__).parents[1]
ROWS = 2_000


@pytest.fixture(scope="module")
def small_run(postgres_server: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one small run of every benchmark."""
    directory = tmp_path_factory.mktemp("results")
    call = [sys.executable, "-m", "pytest", "benchmarks", "--rows", str(ROWS), "--pairs", "1"]
    call += [
        "--results",
        str(directory),
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "not smallest_flow",  # it needs a separate Prefect server, and the command has its own tests
    ]
    # Without the variables of pytest-xdist, which make pytest-benchmark switch itself off.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment = own | {"TAXI_TEST_POSTGRES_URL": postgres_server.url}
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    # It fails if the two sides of a benchmark do not end with equal data.
    assert done.returncode == 0, done.stdout
    return directory


def test_every_benchmark_runs_and_both_sides_end_with_equal_data(small_run: Path) -> None:
    groups = load(small_run)
    always = {"stage", "load postgres", "load duckdb", "push bigquery", "end to end", "scale"}
    assert always <= set(groups) <= set(ORDER)
    assert {one.rival for one in groups["stage"].comparisons} == {"pandas", "polars", "duckdb"}
    assert [size.rows for size in groups["scale"].sizes] == [ROWS // 10, ROWS, ROWS * 10]
    assert {"pandas", "dlt"} <= {one.rival for one in groups["end to end"].comparisons}


def test_a_report_can_be_made_of_any_results(small_run: Path) -> None:
    groups = load(small_run)
    for name, group in groups.items():
        for comparison in group.comparisons:
            assert f"| {comparison.rival} |" in details(groups), name
    assert details(groups).count("| not measured at this size |") >= 9
    assert summary({}) == details({}) == "Not measured yet.\n"


def test_tables_and_charts_are_what_the_committed_results_say() -> None:
    stale = [path.name for path, text in render().items() if not path.exists() or path.read_text() != text]
    assert stale == [], "run .venv/bin/python benchmarks/report.py"


def test_the_committed_results_name_machine_versions_and_date() -> None:
    groups = load(RESULTS)
    assert groups
    for group in groups.values():
        assert group.machine["cores"]
        assert group.date
        assert group.versions["polars"]


def test_a_slow_rivals_time_is_extrapolated_and_the_table_says_so() -> None:
    slow = Comparison("pandas", "slow", 1_000_000, 10_000, [1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert slow.pairs.rival_seconds == 100
    assert slow.pairs.ratio == 0.02
    text = details({"stage": Group("stage", "synthetic", comparisons=[slow])})
    assert "100.00, extrapolated from 10,000 rows" in text


def test_a_goal_that_does_not_hold_is_shown_as_such() -> None:
    sizes = [Size(1_000_000, [2.0], [1.0], [600.0]), Size(10_000_000, [23.0], [9.0], [601.0])]
    text = details({"scale": Group("scale", "synthetic", sizes=sizes)})
    assert "| peak memory with ten times the rows | at most 1.25 | 1.00 | yes |" in text
    assert "| seconds per million rows with ten times the rows | at most 1.10 | 1.15 | **no** |" in text


def test_results_survive_the_file() -> None:
    group = Group("stage", "synthetic", comparisons=[Comparison("x", "y", 5, 1, [1.0], [2.0])])
    assert Group.from_text(group.as_text()) == group
