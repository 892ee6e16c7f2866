"""`python flows/status.py`: what is loaded where, against a real warehouse file and a real Postgres."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from support.cli import ROOT

from flows.destinations import make_destination
from flows.destinations.postgres.embedded_server import WHEEL
from flows.parent import main as load
from flows.runtime import Layout
from flows.settings import Settings, override_settings
from flows.sources import SourceFile, land
from flows.staging import StagingOptions, stage
from flows.status import main
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from support.destinations import Months
    from support.postgres import Database

    from flows.staging import StagedMonth

DECEMBER, JANUARY, FEBRUARY = (TripMonth("yellow", *month) for month in ((2020, 12), (2021, 1), (2021, 2)))
OF_JANUARY = "file_month = DATE '2021-01-01'"


@dataclass
class Place:
    """A data directory, a Postgres, and the command that looks at both."""

    data_dir: Path
    postgres: Database
    capsys: pytest.CaptureFixture[str]

    def publish(self, staged: StagedMonth, *names: str) -> None:
        settings = Settings(_env_file=None, postgres_url=self.postgres.url)
        for name in names:
            make_destination(name, self.data_dir, settings).publish(staged)

    def status(self, *arguments: str, color: str = "yellow") -> tuple[int, str, str]:
        with override_settings(postgres_url=Settings(postgres_url=self.postgres.url).postgres_url):
            code = main(["--color", color, *arguments, "--data-dir", str(self.data_dir)])
        return code, *self.capsys.readouterr()

    def json(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        code, out, _ = self.status(*arguments, "--json")
        return code, json.loads(out)

    def execute(self, statement: str) -> None:
        with duckdb.connect(self.data_dir / "warehouse.duckdb") as connection:
            connection.execute(statement)


@pytest.fixture
def place(tmp_path: Path, postgres: Database, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path / "data", postgres, capsys)


def statuses(report: dict[str, Any]) -> dict[str, list[str]]:
    return {
        name: [month["destinations"][name]["status"] for month in report["months"]]
        for name in report["destinations"]
    }


def test_everything_that_is_there_is_shown_with_rows_time_and_file(place: Place, months: Months) -> None:
    for month in (DECEMBER, JANUARY):
        place.publish(months.trips(month, 1234), "duckdb", "postgres")
    place.publish(months.trips(TripMonth("green", 2021, 1)), "duckdb")
    code, out, err = place.status("--to", "duckdb", "postgres")
    assert (code, err) == (0, "")
    lines = {iso: line for line in out.splitlines() for iso in ("2020-12", "2021-01") if f" {iso} " in line}
    today = dt.datetime.now(dt.UTC).date().isoformat()
    for iso, line in lines.items():
        assert line.count("1,234") == 2
        assert line.count(today) == 2
        assert f"yellow_tripdata_{iso}.parquet" in line
    assert len(lines) == 2
    assert "2 months: duckdb 2 loaded; postgres 2 loaded" in out


def test_without_a_color_every_dataset_is_shown(place: Place, months: Months) -> None:
    for color in ("yellow", "fhv"):
        place.publish(months.trips(TripMonth(color, 2021, 1)), "duckdb")
    assert main(["--data-dir", str(place.data_dir)]) == 0
    out = place.capsys.readouterr().out
    for said in ("yellow: rows", "fhv: rows", "no month of green in duckdb", "no month of fhvhv in duckdb"):
        assert said in out
    assert (
        main(["--data-dir", str(place.data_dir), "--since", "2018-12", "--until", "2019-02", "--json"]) == 1
    )
    found = json.loads(place.capsys.readouterr().out)
    months_of = {one["dataset"]: len(one["months"]) for one in found}
    assert months_of == {"yellow": 3, "green": 3, "fhv": 3, "fhvhv": 1}, "fhvhv begins in February"


def test_gaps_are_said_and_fail_if_all_has_to_be_there(place: Place, months: Months) -> None:
    place.publish(months.trips(DECEMBER), "duckdb")
    place.publish(months.trips(TripMonth("yellow", 2021, 3)), "duckdb")
    code, out, _ = place.status()
    assert (code, "gaps: 2021-01, 2021-02" in out) == (0, True)
    assert place.status("--complete")[0] == 1
    assert place.json()[1]["gaps"] == ["2021-01", "2021-02"]
    for month in (JANUARY, FEBRUARY):
        place.publish(months.trips(month), "duckdb")
    assert place.status("--complete")[:2] == (0, place.status()[1])


def test_rejects_warnings_and_failed_gates_stand_in_it(place: Place, months: Months) -> None:
    staged = months.with_rejects(JANUARY, b"?", b"!")
    place.publish(replace(staged, warnings=("rejected 0.002 > 0.001",)), "duckdb", "postgres")
    outside = months.outside(FEBRUARY)
    directory = Layout(place.data_dir).staged("yellow")
    directory.mkdir(parents=True)
    shutil.copy(outside.path, directory / outside.path.name)
    code, out, _ = place.status("--months", "1", "2", "--to", "duckdb", "postgres")
    lines = {iso: line for line in out.splitlines() for iso in ("2021-01", "2021-02") if f" {iso} " in line}
    assert code == 1
    assert "│        2 │ rejected 0.002 > 0.001" in lines["2021-01"]
    assert "not published: pickup_outside_month" in lines["2021-02"]
    _, report = place.json("--months", "1", "2")
    january, february = report["months"]
    assert january["destinations"]["duckdb"]["warnings"] == "rejected 0.002 > 0.001"
    assert february["failed_gates"] == "pickup_outside_month 1 > 0.5"
    place.execute(f"DELETE FROM taxi_rejects WHERE {OF_JANUARY}")
    assert "the ledger says 2 rejects, 0 are there" in place.status("--months", "1")[1]


def test_json_has_the_ledger_beside_the_counted_rows(place: Place, months: Months) -> None:
    staged = months.trips(JANUARY, 1234)
    place.publish(staged, "duckdb", "postgres")
    code, report = place.json("--months", "1", "--to", "duckdb", "postgres")
    assert (code, report["dataset"], report["fine"], report["errors"]) == (0, "yellow", True, {})
    [month] = report["months"]
    assert (month["year"], month["month"], month["staged"]) == (2021, 1, None)
    for name in ("duckdb", "postgres"):
        state = month["destinations"][name]
        loaded_at = dt.datetime.fromisoformat(state.pop("loaded_at"))
        assert dt.timedelta(0) <= dt.datetime.now(dt.UTC) - loaded_at < dt.timedelta(minutes=5)
        assert state == {
            "status": "loaded",
            "rows": 1234,
            "ledger_rows": 1234,
            "source_rows": 1234,
            "rejected_rows": 0,
            "warnings": None,
            "source": staged.source,
            "source_sha256": staged.source_sha256,
            "schema_version": staged.schema_version,
            "row_transforms": "",
            "reason": None,
        }


def test_what_is_missing_is_said_and_fails(place: Place, months: Months) -> None:
    place.publish(months.trips(JANUARY), "duckdb", "postgres")
    place.publish(months.trips(FEBRUARY), "duckdb")
    both = ("--to", "duckdb", "postgres")
    code, report = place.json(*both)
    assert (code, report["fine"]) == (1, False)
    assert statuses(report) == {"duckdb": ["loaded", "loaded"], "postgres": ["loaded", "missing"]}
    assert place.json("--months", "1", *both)[0] == 0
    assert place.json("--to", "duckdb")[0] == 0
    code, report = place.json("--since", "2020-12", "--until", "2021-02", "--to", "duckdb")
    assert (code, statuses(report)) == (1, {"duckdb": ["missing", "loaded", "loaded"]})
    code, report = place.json("--since", "2020-12", "--to", "postgres")
    assert (code, statuses(report)) == (1, {"postgres": ["missing", "loaded"]})
    code, out, _ = place.status(*both)
    assert code == 1
    assert "postgres 1 loaded, 1 missing" in out


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (f"DELETE FROM yellow_taxi_trips WHERE {OF_JANUARY} AND fare_amount < 2", "the ledger says 50 rows"),
        (f"DELETE FROM taxi_loads WHERE {OF_JANUARY}", "50 rows that the ledger does not know"),
        (f"UPDATE taxi_loads SET rejected_rows = 3 WHERE {OF_JANUARY}", "50 loaded and 3 rejected"),
        (
            "INSERT INTO yellow_taxi_trips (file_month) VALUES (DATE '2021-01-31')",
            "the ledger says 50 rows, 51 are there",
        ),
    ],
    ids=["rows gone", "ledger row gone", "ledger does not add up", "somebody's row"],
)
def test_what_differs_is_said_and_fails(place: Place, months: Months, damage: str, reason: str) -> None:
    for month in (JANUARY, FEBRUARY):
        place.publish(months.trips(month), "duckdb")
    place.execute(damage)
    code, report = place.json()
    january, february = (month["destinations"]["duckdb"] for month in report["months"])
    assert (code, january["status"], february["status"]) == (1, "differs", "loaded")
    assert reason in january["reason"]
    code, out, _ = place.status("--months", "1", "2")
    assert code == 1
    assert reason in " ".join(out.split())
    assert place.json("--months", "2")[0] == 0


def test_a_month_that_differs_in_postgres_is_said(place: Place, months: Months) -> None:
    place.publish(months.trips(JANUARY), "duckdb", "postgres")
    place.postgres.execute(f"DELETE FROM yellow_taxi_trips WHERE {OF_JANUARY} AND fare_amount < 2")
    code, report = place.json("--to", "duckdb", "postgres")
    assert (code, statuses(report)) == (1, {"duckdb": ["loaded"], "postgres": ["differs"]})
    state = report["months"][0]["destinations"]["postgres"]
    assert state["rows"] < state["ledger_rows"] == 50


def test_the_staged_file_is_held_against_the_ledger(place: Place) -> None:
    layout, settings = Layout(place.data_dir), Settings(_env_file=None)

    def staged(rows: int, **options: Any) -> StagedMonth:  # noqa: ANN401
        url = f"synthetic://yellow/2021-01?rows={rows}&seed=0&broken_rows=0"
        landed = land(SourceFile(url, f"{JANUARY.stem}.csv.gz"), layout.raw("yellow"), settings)
        return stage(landed, JANUARY, layout.staged("yellow"), StagingOptions(**options))

    place.publish(staged(500), "duckdb")
    code, report = place.json()
    assert (code, report["months"][0]["staged"]["rows"]) == (0, 500)
    staged(500, row_transforms=("drop-zero-passengers",))
    code, report = place.json()
    assert (code, statuses(report)) == (1, {"duckdb": ["differs"]})
    assert (
        report["months"][0]["destinations"]["duckdb"]["reason"] == "the staged file was staged in another way"
    )
    staged(600)
    code, report = place.json()
    assert (code, report["months"][0]["staged"]["rows"]) == (1, 600)
    assert "another version of the source" in report["months"][0]["destinations"]["duckdb"]["reason"]


def test_nothing_loaded_is_fine_unless_a_month_was_asked_for(place: Place) -> None:
    assert place.status() == (0, "no month of yellow in duckdb\n", "")
    assert place.json("--to", "postgres")[0] == 0
    assert place.json("--months", "1")[0] == 1
    assert not place.data_dir.exists()
    assert place.postgres.tables() == set()


@pytest.mark.skipif(importlib.util.find_spec(WHEEL) is None, reason="needs the extra embedded")
@pytest.mark.parametrize("dry_run", [False, True], ids=["status", "dry run"])
def test_no_embedded_server_is_made_to_ask_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    arguments = [
        "--color",
        "yellow",
        "--months",
        "1",
        "--to",
        "postgres",
        "--data-dir",
        str(tmp_path / "data"),
    ]
    with override_settings(postgres_url=Settings(postgres_url="embedded").postgres_url):
        code = load([*arguments, "--source", "synthetic", "--dry-run"]) if dry_run else main(arguments)
    assert (code, "missing" in capsys.readouterr().out) == ((0, False) if dry_run else (1, True))
    assert not (tmp_path / "data").exists()


def test_a_destination_that_cannot_be_asked_is_one_line_and_the_others_are_shown(
    place: Place, months: Months
) -> None:
    place.publish(months.trips(JANUARY), "duckdb")
    place.postgres = place.postgres.other(password="hunter2")
    code, out, err = place.status("--to", "duckdb", "postgres")
    assert code == 1
    assert [line[:17] for line in err.splitlines()] == ["error: postgres: "]
    assert "duckdb 1 loaded; postgres 1 unknown" in out
    code, out, _ = place.status("--to", "duckdb", "postgres", "--json")
    report = json.loads(out)
    assert (code, report["fine"], [*report["errors"]]) == (1, False, ["postgres"])
    assert "hunter2" not in err + out
    code, out, err = place.status("--to", "postgres", color="fhv")
    assert (code, out, len(err.splitlines())) == (1, "", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--months", "13"], "1 to 12"),
        (["--months", "1", "--since", "2021-01"], "--months and --since"),
        (["--until", "2021-01"], "--since"),
        (["--since", "2008-12"], "yellow starts with 2009-01"),
        (["--to", "oracle"], "duckdb"),
        (["--latest", "3"], "--latest"),
        (["--year", "2021"], "no months"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(place: Place, arguments: list[str], message: str) -> None:
    code, out, err = place.status(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


def test_no_server_is_started_and_no_secret_is_shown(place: Place, months: Months) -> None:
    place.publish(months.trips(JANUARY), "duckdb", "postgres")
    home = place.data_dir.parent / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        "HOME": str(home),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",  # no server listens here
        "TAXI_POSTGRES_URL": place.postgres.url,
    }
    call = ["flows/status.py", "--color", "yellow", "--to", "duckdb", "postgres", "--json"]
    done = subprocess.run(
        [sys.executable, *call, "--data-dir", str(place.data_dir)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert statuses(json.loads(done.stdout)) == {"duckdb": ["loaded"], "postgres": ["loaded"]}
    password = place.postgres.parameters.get("password", "a password")
    assert password not in done.stdout + done.stderr
