"""Deployments on a real server with a real worker: pool, parameters, schedule, limit, artifacts, lineage."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.deployed import ETL, ROOT, SCHEDULED_AFTER_SECONDS, moment
from support.trips import warehouse_rows

if TYPE_CHECKING:
    from support.deployed import Deployed

pytestmark = pytest.mark.xdist_group("deployments")

NAMES = {
    ETL,
    *(f"etl-parent/monthly-{color}" for color in ("yellow", "green", "fhv", "fhvhv")),
    "web-to-gcs/web-to-gcs",
    "gcs-to-bq/gcs-to-bq",
    "Ingest Data/ingest",
}


def test_everything_in_prefect_yaml_is_deployed(deployed: Deployed) -> None:
    flows = {flow["id"]: flow["name"] for flow in deployed.find("flows")}
    by_name = {
        f"{flows[deployment['flow_id']]}/{deployment['name']}": deployment
        for deployment in deployed.find("deployments")
    }
    listed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {deployment["name"] for deployment in by_name.values()} == {entry["name"] for entry in listed}
    assert set(by_name) >= NAMES
    for name in NAMES:
        deployment = by_name[name]
        assert deployment["work_pool_name"] == "taxi", name
        assert deployment["description"], name
        assert deployment["tags"][0] == "taxi"
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["concurrency_options"]["collision_strategy"] in {"ENQUEUE", "CANCEL_NEW"}


def test_no_deployment_keeps_a_path_of_this_machine(deployed: Deployed) -> None:
    kept = [
        {
            name: deployment[name]
            for name in ("path", "entrypoint", "pull_steps", "job_variables", "parameters")
        }
        for deployment in deployed.find("deployments")
    ]
    assert str(ROOT) not in json.dumps(kept)
    assert "/" not in json.dumps([deployment["entrypoint"] for deployment in kept])


def test_schedules_are_in_new_yorks_time_and_the_tutorials_is_paused(deployed: Deployed) -> None:
    schedules = {deployment["name"]: deployment["schedules"] for deployment in deployed.find("deployments")}
    (hourly,) = schedules["Parameterized ETL"]
    assert (hourly["schedule"]["cron"], hourly["active"]) == ("0 * * * *", False)
    for color in ("yellow", "green", "fhv", "fhvhv"):
        (monthly,) = schedules[f"monthly-{color}"]
        assert monthly["active"]
        assert monthly["schedule"]["timezone"] == "America/New_York"
    assert schedules["ingest"] == schedules["web-to-gcs"] == schedules["gcs-to-bq"] == []


def test_months_are_task_runs_that_say_what_they_are(deployed: Deployed, two_runs: Any) -> None:  # noqa: ANN401
    run, _ = two_runs
    assert (run["name"], run["state_type"]) == ("green-2020", "COMPLETED")
    months = deployed.months_of(run["id"], 3)
    assert [(month["name"], month["state_type"]) for month in months] == [
        (f"green 2020-{month:02}", "COMPLETED") for month in (4, 5, 6)
    ]
    steps = deployed.find("task_runs", flow_runs={"id": {"any_": [run["id"]]}})
    of_april = {"input_type": "task_run", "id": months[0]["id"]}
    assert {step["name"] for step in steps if of_april in step["task_inputs"].get("__parents__", ())} == {
        "extract green 2020-04",
        "stage green 2020-04",
        "publish green 2020-04 to duckdb",
        "quality green 2020-04",
    }
    ledger = warehouse_rows(
        deployed.data_dir / "warehouse.duckdb",
        "SELECT file_month, row_count FROM taxi_loads WHERE dataset = 'green' ORDER BY ALL",
    )
    assert ledger == [(dt.date(2020, month, 1), 1000) for month in (4, 5, 6, 7)]
    counted = warehouse_rows(deployed.data_dir / "warehouse.duckdb", "SELECT count(*) FROM green_taxi_trips")
    assert counted == [(4000,)]


def test_a_month_shows_its_progress_its_tables_and_its_data(deployed: Deployed, two_runs: Any) -> None:  # noqa: ANN401
    run, _ = two_runs
    for month in deployed.months_of(run["id"], 3):
        by_kind = {
            artifact["key"].partition("-")[0]: artifact
            for artifact in deployed.find("artifacts", artifacts={"task_run_id": {"any_": [month["id"]]}})
            if artifact["key"]
        }
        iso = month["name"].replace(" ", "-", 1)
        assert set(by_kind) == {"progress", "quality", "load", "data"}
        assert {artifact["key"].partition("-")[2] for artifact in by_kind.values()} == {iso}
        assert (by_kind["progress"]["type"], by_kind["progress"]["data"]) == ("progress", 100)
        steps = {step["step"]: step for step in json.loads(by_kind["load"]["data"])}
        assert {name: step["rows"] for name, step in steps.items()} == {
            "source": 1000,
            "Parquet": 1000,
            "duckdb": 1000,
        }
        assert steps["duckdb"]["status"] == "published"
        assert "green_tripdata" in by_kind["data"]["data"]
        assert (deployed.data_dir / "green").as_uri() in by_kind["data"]["data"]
        measures = {row["measure"]: row["rows"] for row in json.loads(by_kind["quality"]["data"])}
        assert measures["negative_fare"] > 0


def test_a_run_that_published_shows_what_is_in_the_warehouse(deployed: Deployed, two_runs: Any) -> None:  # noqa: ANN401
    for run in two_runs:
        artifacts = deployed.find("artifacts", artifacts={"flow_run_id": {"any_": [run["id"]]}})
        [report] = [artifact["data"] for artifact in artifacts if artifact["key"] == "report"]
        assert (deployed.data_dir / "report.html").as_uri() in report
        [trips] = re.findall(r"^\| trips \| ([\d,]+) \|$", report, re.MULTILINE)
        assert int(trips.replace(",", "")) >= 1_000  # other tests load months into the same warehouse
    page = (deployed.data_dir / "report.html").read_text()
    assert re.search(r'<b id="trips">[\d,]+</b>', page)


def test_lineage_goes_from_source_to_parquet_to_table(deployed: Deployed, two_runs: Any) -> None:  # noqa: ANN401
    parquet = (deployed.data_dir / "green" / "green_tripdata_2020-04.parquet").as_uri()

    def events() -> dict[str, Any] | None:
        recent = deployed.find(
            "events", limit=50, filter={"event": {"name": ["prefect.asset.materialization.succeeded"]}}
        )
        of_month = {
            event["resource"]["prefect.resource.id"]: event
            for event in recent
            if event["resource"]["prefect.resource.id"] == parquet
            or event["payload"].get("file_month") == "2020-04"
        }
        return of_month if len(of_month) == 2 else None

    by_asset = deployed.wait_for(events)
    upstream = {
        key: [
            each["prefect.resource.id"]
            for each in event["related"]
            if each["prefect.resource.role"] == "asset"
        ]
        for key, event in by_asset.items()
    }
    table = "duckdb://green_taxi_trips"
    assert set(upstream) == {parquet, table}
    assert upstream[table] == [parquet]
    assert [key.partition("?")[0].partition("_")[0] for key in upstream[parquet]] == [
        "synthetic://green/2020-04"
    ]
    assert by_asset[table]["payload"] == {"file_month": "2020-04", "rows": 1000, "status": "published"}


def test_log_lines_of_a_run_can_be_taken_apart(deployed: Deployed, two_runs: Any) -> None:  # noqa: ANN401
    def lines() -> list[dict[str, str]] | None:
        logs = deployed.find("logs", logs={"flow_run_id": {"any_": [two_runs[0]["id"]]}})
        parsed = [
            dict(part.split("=", 1) for part in log["message"].split())
            for log in logs
            if log["message"].startswith("event=") and " month=2020-04 " in log["message"]
        ]
        return parsed if len(parsed) == 4 else None

    by_event = {line["event"]: line for line in deployed.wait_for(lines)}
    assert list(by_event)[:2] == ["landed", "staged"]
    assert set(by_event) == {"landed", "staged", "published", "checked"}  # the last two run side by side
    assert (
        by_event["published"].items()
        >= {
            "dataset": "green",
            "month": "2020-04",
            "destination": "duckdb",
            "rows": "1000",
            "status": "published",
        }.items()
    )


def test_a_run_says_that_it_is_alive(deployed: Deployed, two_runs: Any) -> None:  # noqa: ANN401
    """What the automation `taxi-vanished-runs` listens to."""
    resource = f"prefect.flow-run.{two_runs[0]['id']}"
    wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [resource]}}
    beats = deployed.wait_for(lambda: deployed.find("events", filter=wanted))
    roles = {each["prefect.resource.role"]: each.get("prefect.resource.name") for each in beats[0]["related"]}
    assert roles["flow"] == "etl-parent"


def test_a_second_run_waits_for_the_first(deployed: Deployed, two_runs: Any) -> None:  # noqa: ANN401
    first, second = two_runs
    assert first["state_type"] == second["state_type"] == "COMPLETED"
    first, second = sorted(two_runs, key=lambda run: run["start_time"])
    assert moment(second["start_time"]) >= moment(first["end_time"])
    states = deployed.ask("GET", f"/flow_run_states/?flow_run_id={second['id']}").json()
    assert "AwaitingConcurrencySlot" in {state["name"] for state in states}


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"months": [13]}, "13"),
        ({"color": "red"}, "red"),
        ({"months": "all"}, "all"),
        ({"concurrency": 0}, "0"),
        ({"latest": 0}, "0"),
        ({"since": "2019-13"}, "2019-13"),
    ],
)
def test_a_bad_parameter_is_refused(deployed: Deployed, parameters: dict[str, Any], named: str) -> None:
    deployment = deployed.deployment(ETL)
    answer = deployed.ask(
        "POST", f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters}
    )
    assert answer.status_code == 409
    assert named in answer.json()["detail"]


def test_a_schedule_starts_a_run_at_its_time(deployed: Deployed, two_runs: Any) -> None:  # noqa: ANN401
    _, run = two_runs
    assert (run["name"], run["state_type"], run["auto_scheduled"]) == ("green-2020", "COMPLETED", True)
    due = moment(run["expected_start_time"])
    assert dt.timedelta(0) < due - moment(run["created"]) < dt.timedelta(seconds=SCHEDULED_AFTER_SECONDS + 1)
    assert moment(run["start_time"]) >= due
    assert [month["name"] for month in deployed.months_of(run["id"], 1)] == ["green 2020-07"]
