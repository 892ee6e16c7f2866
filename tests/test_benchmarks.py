"""The benchmarks run, both sides end with equal data, and the documents show the committed results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import polars as pl
import pytest
from goals import goals_table
from inputs import real_csv
from report import ORDER, RESULTS, details, render, summary
from results import Comparison, Group, Process, Size, load
from support.trips import REAL_YELLOW, needs_real_trips
from typed_place import web_server
from typed_report import LEADING, typed_table

from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.postgres import Database

pytestmark = pytest.mark.xdist_group("benchmarks")

ROOT = Path(__file__).parents[1]
ROWS = 2_000
# What takes long: Prefect servers that are not running yet, and many months. The command has its own tests.
LEFT_OUT = (
    "smallest_flow", "unchanged", "postgres-3-", "postgres-12-", "duckdb-3-", "duckdb-12-", "make-server",
    "no-server", "first-run-ever", "postgres-1-plain-server", "iceberg-12-", "months_at_once",
    "large_file[postgres", "large_file[iceberg", "large_file_to_google",
)  # fmt: skip


@pytest.fixture(scope="module")
def small_run(postgres_server: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one small run of every benchmark."""
    directory = tmp_path_factory.mktemp("results")
    (directory / "rows").mkdir()
    call = [sys.executable, "-m", "pytest", "benchmarks", "--rows", str(ROWS), "--pairs", "1"]
    call += [
        "--results",
        str(directory),
        "--benchmark-json",
        str(directory / "rows" / "pytest-benchmark.json"),
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        " and ".join(f"not {name}" for name in LEFT_OUT),
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
    always = {
        "as typed",
        "stage",
        "load postgres",
        "load duckdb",
        "push bigquery",
        "end to end",
        "gates",
        "one large file",
        "scale",
    }
    assert always <= set(groups) <= set(ORDER)
    assert [one.side for one in groups["one large file"].processes if one.peak_megabytes[0] > 50][
        -1
    ] == "direct"
    assert {one.rival for one in groups["stage"].comparisons} == {
        "pandas", "polars", "polars, as written", "duckdb"
    }  # fmt: skip
    assert [size.rows for size in groups["scale"].sizes] == [ROWS // 10, ROWS, ROWS * 10]
    assert {"pandas", "dlt"} <= {one.rival for one in groups["end to end"].comparisons}


def test_as_typed_is_measured_on_a_durable_server(small_run: Path) -> None:
    typed = load(small_run)["as typed"]
    assert {typed.settings[name] for name in ("fsync", "synchronous_commit", "full_page_writes")} == {"on"}
    assert typed.source == ("real" if REAL_YELLOW.is_dir() else "synthetic")
    sides = {(one.to, one.side) for one in typed.processes}
    assert sides >= {("postgres", "tutorial"), ("duckdb", "duckdb"), ("duckdb", "plain server")}
    assert all(one.cpu_seconds[0] > 0 and one.rows == ROWS for one in typed.processes)


def test_each_side_has_a_row_with_its_own_seconds(small_run: Path) -> None:
    rows = json.loads((small_run / "rows" / "pytest-benchmark.json").read_text())["benchmarks"]
    shown = {(row["group"], row["name"]): row["stats"]["data"] for row in rows}
    groups = load(small_run)
    for comparison in groups["stage"].comparisons:
        together = f"stage: {comparison.rival}"
        assert shown[together, "taxi-etl"] == pytest.approx(comparison.ours_seconds)
        assert shown[together, comparison.rival] == pytest.approx(comparison.rival_seconds)
    for process in groups["as typed"].processes:
        assert shown[f"as typed: 1 to {process.to}, first load", process.side] == pytest.approx(
            process.seconds
        )


def test_a_report_can_be_made_of_any_results(small_run: Path) -> None:
    groups = load(small_run)
    assert "| 1, duckdb | plain server | a DuckDB script" in details(groups)
    assert "| 1, duckdb | DuckDB's `read_csv` |" in summary(groups)
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


def process(side: str, seconds: list[float], **changes: object) -> Process:
    """One that loads a real month into Postgres."""
    plain = {"what": side, "ours": side in {"plain server", "direct"}, "to": "postgres", "months": 1}
    more = {
        "case": "first load",
        "rows": 1_000_000,
        "rows_loaded": 1_000_000,
        "cpu_seconds": [1.0] * len(seconds),
    }
    return Process(side, seconds=seconds, **(plain | more | changes))  # type: ignore[arg-type]


def test_the_start_of_a_slow_process_is_counted_once() -> None:
    slow = process("tutorial", [7.0, 8.0], rows_loaded=100_000, start_seconds=[2.0, 3.0])
    assert slow.full_seconds == [52.0, 53.0]
    assert process("psql", [2.0]).full_seconds == [2.0]


def test_every_side_of_ours_stands_beside_the_first_rival_and_the_first_beside_all() -> None:
    processes = [process("psql", [2.0]), process("dlt", [4.0]), process("plain server", [3.0])]
    typed = Group("as typed", "real", processes=[*processes, process("direct", [1.0])])
    assert [line.rpartition(" | ")[2] for line in typed_table(typed, LEADING)[2:]] == [
        "1.50 (1.50 to 1.50, 1) |",
        "0.75 (0.75 to 0.75, 1) |",
        "0.50 (0.50 to 0.50, 1) |",
    ]
    goals = "\n".join(goals_table({"as typed": typed}))
    assert "| as typed: 1 month to Postgres against `psql` | at most 1.6 | 1.50 | yes |" in goals
    assert Group.from_text(typed.as_text()) == typed


def test_the_web_server_knows_versions_and_ranges(tmp_path: Path) -> None:
    (tmp_path / "month.csv.gz").write_bytes(b"0123456789")
    with (
        web_server(tmp_path) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as web,
    ):
        whole = web.get("/month.csv.gz")
        assert (whole.status_code, whole.content) == (200, b"0123456789")
        etag = whole.headers["ETag"]
        assert web.get("/month.csv.gz", headers={"If-None-Match": etag}).status_code == 304
        for condition, content in ((etag, b"6789"), ('"another"', b"0123456789")):
            rest = web.get("/month.csv.gz", headers={"Range": "bytes=6-", "If-Range": condition})
            assert rest.content == content
        assert web.get("/month.csv.gz", headers={"Range": "bytes=2-3"}).content == b"23"
        assert web.get("/month.csv.gz", headers={"Range": "bytes=10-"}).status_code == 416
        assert web.head("/month.csv.gz").headers["Content-Length"] == "10"
        assert web.get("/other.csv.gz").status_code == 404


@needs_real_trips
def test_a_month_of_real_trips_has_its_own_dates_and_the_rows_asked_for() -> None:
    trips = pl.read_csv(b"".join(real_csv(TripMonth("yellow", 2021, 2), 25_000)), try_parse_dates=True)
    assert trips.height == 25_000
    in_month = trips["tpep_pickup_datetime"].dt.strftime("%Y-%m") == "2021-02"
    assert in_month.mean() > 0.99
    assert trips.head(10_000).equals(trips.slice(10_000, 10_000)) is False
    assert trips.head(10_000).sort(trips.columns).equals(trips.slice(10_000, 10_000).sort(trips.columns))
