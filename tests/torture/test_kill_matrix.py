"""The main job, killed at points spread over its life, and run again: nothing lost, nothing twice.

A few points in `make test`; `make torture` (TAXI_TEST_TORTURE=1) takes a hundred and more, and Google's
destinations on their local servers.
"""

from __future__ import annotations

import itertools
import signal
from typing import TYPE_CHECKING

import pytest
from support.bigquery_harness import BigQueryHarness
from support.destinations import DuckDBHarness
from support.gcs_harness import GcsHarness
from support.iceberg_harness import IcebergHarness
from support.kill_matrix import STEPS, KillMatrix, comparable, points_in_time
from support.postgres_harness import PostgresHarness
from support.torture import TORTURE, note, share

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("kills")

SHORT_STEPS = [
    "flows.sources.download.commit_file:1:after",
    "flows.runtime.files.commit_file:2:after",
    "flows.destinations.duckdb.destination.reconcile:1:after",
    "flows.month.steps.configured_destination:2:before",
    "flows.destinations.postgres.swap.reconcile:1:before",
]
SIGNAL_STEPS = [
    "flows.sources.download.open_source:1:before",
    "flows.staging.stage_file.write_parquet:1:before",
    "flows.destinations.duckdb.destination.reconcile:1:before",
]
SHORT_MOMENTS = 3
LONG_MOMENTS = 80
GOOGLE_MOMENTS = 95


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("matrix", [(DuckDBHarness, PostgresHarness)], indirect=True, ids=["duckdb postgres"])
def test_killed_anywhere_and_run_again_is_as_if_nothing_had_been(matrix: KillMatrix, tmp_path: Path) -> None:
    life = matrix.undisturbed(0).seconds
    steps = STEPS if TORTURE else SHORT_STEPS
    moments = points_in_time(share(LONG_MOMENTS) if TORTURE else SHORT_MOMENTS, life)
    seeds = itertools.cycle((1, 0))
    for step in [*steps, *moments]:
        matrix.kill_and_run_again(tmp_path / "data", next(seeds), step)
    figures = matrix.figures
    assert (figures.rows_lost, figures.rows_duplicated) == (0, 0)
    note("kill matrix, duckdb and postgres", figures)


ICEBERG = "flows.destinations.iceberg.destination"
ICEBERG_STEPS = [
    f"{ICEBERG}.{function}:1:{when}"
    for function in ("ensure_table", "add_data_file", "reconcile")
    for when in ("before", "after")
]
SHORT_ICEBERG_STEPS = [f"{ICEBERG}.{step}" for step in ("add_data_file:1:after", "reconcile:1:after")]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("matrix", [(IcebergHarness,)], indirect=True, ids=["iceberg"])
def test_killed_on_the_way_into_an_iceberg_table_and_run_again(matrix: KillMatrix, tmp_path: Path) -> None:
    [harness] = matrix._harnesses
    assert isinstance(harness, IcebergHarness)
    seeds = itertools.cycle((1, 0))
    for step in ICEBERG_STEPS if TORTURE else SHORT_ICEBERG_STEPS:
        matrix.kill_and_run_again(tmp_path / "data", next(seeds), step)
        assert harness.unnamed_files() == set(), f"after {step}"
    for moment in points_in_time(LONG_MOMENTS if TORTURE else 0, matrix.undisturbed(0).seconds):
        matrix.kill_and_run_again(tmp_path / "data", next(seeds), moment)
    figures = matrix.figures
    assert (figures.rows_lost, figures.rows_duplicated) == (0, 0)
    note("kill matrix, iceberg", figures)


GOOGLE_STEPS = [
    "flows.destinations.gcs.destination.reconcile:1:before",
    "flows.destinations.gcs.destination.reconcile:1:after",
    "flows.destinations.bigquery.destination.reconcile:1:before",
    "flows.destinations.bigquery.destination.reconcile:1:after",
    "flows.month.steps.configured_destination:2:before",
]


@pytest.mark.skipif(not TORTURE, reason="in the long mode only: make torture, or TAXI_TEST_TORTURE=1")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("matrix", [(GcsHarness, BigQueryHarness)], indirect=True, ids=["gcs bigquery"])
def test_killed_on_the_way_to_google_and_run_again(matrix: KillMatrix, tmp_path: Path) -> None:
    life = matrix.undisturbed(0).seconds
    seeds = itertools.cycle((1, 0))
    for step in [*GOOGLE_STEPS, *points_in_time(share(GOOGLE_MOMENTS), life * 1.5)]:
        matrix.kill_and_run_again(tmp_path / "data", next(seeds), step)
    figures = matrix.figures
    assert (figures.rows_lost, figures.rows_duplicated) == (0, 0)
    note("kill matrix, gcs and bigquery", figures)


@pytest.mark.parametrize("matrix", [(DuckDBHarness,)], indirect=True, ids=["duckdb"])
@pytest.mark.parametrize(
    ("with_signal", "code", "word"),
    [(signal.SIGTERM, 143, "terminated: "), (signal.SIGINT, 130, "interrupted: ")],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_a_signal_ends_a_run_cleanly_wherever_it_is(
    matrix: KillMatrix, tmp_path: Path, with_signal: signal.Signals, code: int, word: str
) -> None:
    data_dir = tmp_path / "data"
    [harness] = matrix._harnesses
    for step in SIGNAL_STEPS[: None if TORTURE or with_signal is signal.SIGTERM else 1]:
        exit_code, output = matrix.run(data_dir, 0, kill_at=step, with_signal=with_signal)
        assert exit_code == code, output
        assert "Traceback" not in output
        assert output.splitlines()[-1].startswith(word), output
        assert not [path for path in data_dir.rglob("*.tmp") if path.is_file()]
        matrix.assert_whole(harness, [matrix.undisturbed(0)])
    assert matrix.run(data_dir, 0)[0] == 0
    assert comparable(data_dir) == matrix.undisturbed(0).files
    matrix.assert_holds(harness, matrix.undisturbed(0), with_signal)
