"""`python flows/serve.py`: the deployments of `prefect.yaml` without a pool and a worker."""

from __future__ import annotations

import datetime as dt
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.deployed import ROOT

from flows.serve import main, read_deployments, to_serve
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.deployed import Deployed

pytestmark = pytest.mark.xdist_group("deployments")

NAME = "etl-parent/monthly-fhv"


def test_a_served_deployment_runs_in_the_serving_process(
    deployed: Deployed, prefect_api_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `make deploy` deploys it, without a pool. It is taken away first and deployed again at the end."""
    before = deployed.deployment(NAME)
    assert main(["monthly-fhv"]) == 2
    assert f"deployed to a work pool already: {NAME}" in capsys.readouterr().err
    deployed.ask("DELETE", f"/deployments/{before['id']}").raise_for_status()
    log = deployed.data_dir.parent / "serve.log"
    with log.open("w") as lines:
        process = subprocess.Popen(
            [sys.executable, "flows/serve.py", "monthly-fhv"],
            cwd=ROOT,
            env=deployed.environment | {"PREFECT_RUNNER_POLL_FREQUENCY": "1"},
            stdout=lines,
            stderr=lines,
        )
    try:
        deployed.wait_for(lambda: deployed.ask("GET", f"/deployments/name/{NAME}").status_code == 200)
        served = deployed.deployment(NAME)
        assert served["work_pool_name"] is None
        newest = TripMonth.of_date("fhv", dt.datetime.now(dt.UTC).date()).later(-1)
        run = deployed.start(NAME, latest=1, source="synthetic")  # synthetic: up to the last whole month
        assert deployed.ended(run)["state_type"] == "COMPLETED", log.read_text()
        assert [month["name"] for month in deployed.months_of(run, 1)] == [newest.label]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    paused = deployed.deployment(NAME)["paused"]
    deployed.ask("DELETE", f"/deployments/{served['id']}").raise_for_status()
    entry = read_deployments()["monthly-fhv"]
    again: Any = to_serve(entry)
    again.job_variables = entry["work_pool"]["job_variables"]
    again.apply(work_pool_name=entry["work_pool"]["name"])
    assert paused
    same = ("parameters", "tags", "description", "concurrency_options", "entrypoint")
    assert {name: served[name] for name in same} == {name: before[name] for name in same}
    assert [each["schedule"] for each in served["schedules"]] == [
        each["schedule"] for each in before["schedules"]
    ]


def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["nope"]) == 2
        assert main(["--limit", "0"]) == 2
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert main([]) == 2
    unknown, limit, nowhere = capsys.readouterr().err.splitlines()
    assert "'nope'" in unknown
    assert all(name in unknown for name in read_deployments())
    assert "--limit 0" in limit
    assert "taxi-etl server" in nowhere
