"""A Prefect server with everything in `prefect.yaml` deployed to it, and a worker; both by `make`."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.prefect_server import ask, clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

ROOT = Path(__file__).parents[2]
LONGEST_WAIT_SECONDS = 90
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
WEBHOOK = "custom-webhook/taxi-tests"
ETL = "etl-parent/Parameterized ETL"
SCHEDULED_AFTER_SECONDS = 5
"""Time for the server's scheduler, which looks every two seconds, to make the run."""


@dataclass(frozen=True)
class Deployed:
    """The server and its REST API, called without any code of the project.

    Attributes:
        ui: the server's address, without `/api`.
        data_dir: where the runs of the worker keep their files.
        worker_log: output of the worker and its runs.
    """

    ui: str
    environment: dict[str, str]
    data_dir: Path
    worker_log: Path

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:  # noqa: ANN401 - JSON
        return ask(method, f"{self.ui}/api{path}", body)

    def find(self, what: str, **body: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON
        """The result of `POST /{what}/filter`."""
        answer: Any = self.ask("POST", f"/{what}/filter", body).raise_for_status().json()
        return answer["events"] if what == "events" else answer

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a target of the Makefile as it is, with the environment that runs the tests."""
        return subprocess.run(
            make_command(*arguments),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def deployment(self, name: str) -> dict[str, Any]:
        deployment: Any = self.ask("GET", f"/deployments/name/{name}").raise_for_status().json()
        return deployment

    def start(self, name: str = ETL, **parameters: object) -> str:
        """Start a run as the UI does; returns its id."""
        path = f"/deployments/{self.deployment(name)['id']}/create_flow_run"
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        started: Any = self.ask("POST", path, body).raise_for_status().json()
        return started["id"]

    def run(self, run_id: str) -> dict[str, Any]:
        run: Any = self.ask("GET", f"/flow_runs/{run_id}").raise_for_status().json()
        return run

    def ended(self, run_id: str) -> dict[str, Any]:
        """The run, once it is over."""

        def over() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["state_type"] in ENDED else None

        return self.wait_for(over)

    def months_of(self, run_id: str, count: int) -> list[dict[str, Any]]:
        """The task runs of the months of a run, by name; the server writes them down a little later."""

        def all_ended() -> list[dict[str, Any]] | None:
            runs = self.find("task_runs", flow_runs={"id": {"any_": [run_id]}})
            ended = all(run["state_type"] in ENDED for run in runs)
            months = [run for run in runs if not run["task_inputs"].get("__parents__")]
            return months if ended and len(months) == count else None

        return sorted(self.wait_for(all_ended), key=lambda run: run["name"])

    def wait_for(self, question: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it answers
        """Call `question` until its answer is true, and return the answer."""
        until = time.monotonic() + LONGEST_WAIT_SECONDS
        while time.monotonic() < until:
            if answer := question():
                return answer
            time.sleep(0.1)
        pytest.fail(f"no answer in time; the log of the worker: {self.worker_log.read_text()[-4000:]}")


def make_command(*arguments: str) -> list[str]:
    # -o: the environment that runs the tests is used as it is, without `make setup`.
    return ["make", "-o", ".venv/.synced", f"RUN={Path(sys.executable).parent}/", *arguments]


@pytest.fixture(scope="session")
def deployed(prefect_server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A work pool, all deployments and a worker, once for all tests."""
    home = tmp_path_factory.mktemp("deployed")
    environment = clean_environment(
        PREFECT_API_URL=f"{prefect_server_url}/api",
        PREFECT_HOME=str(home / "prefect"),
        PREFECT_WORKER_QUERY_SECONDS="1",  # it asks until the end of the session; each question is work
        TAXI_DATA_DIR=str(home / "data"),
        TAXI_ALERT_BLOCK=WEBHOOK,
        TAXI_SYNTHETIC_ROWS="1000",
    )
    worker_log = home / "worker.log"
    server = Deployed(prefect_server_url, environment, home / "data", worker_log)
    deploy = server.make("deploy")
    assert deploy.returncode == 0, deploy.stdout + deploy.stderr
    with worker_log.open("w") as lines:
        worker = subprocess.Popen(
            make_command("worker"),
            cwd=ROOT,
            env=environment,
            stdout=lines,
            stderr=lines,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


@pytest.fixture(scope="session")
def two_runs(deployed: Deployed) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two finished runs of a deployment that allows one at a time, with parameters that replace its own.

    One is started by hand, the other by a schedule at about the same time, so that one of them has to wait.
    """
    deployment = deployed.deployment(ETL)
    parameters = {"color": "green", "year": 2020, "source": "synthetic", "concurrency": 3}
    due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=SCHEDULED_AFTER_SECONDS)
    schedule = {
        "schedule": {"interval": 3600, "anchor_date": due.isoformat(), "timezone": "America/New_York"},
        "active": True,
        "parameters": parameters | {"months": [7]},
    }
    path = f"/deployments/{deployment['id']}/schedules"
    (added,) = deployed.ask("POST", path, [schedule]).raise_for_status().json()

    def scheduled() -> str | None:
        runs = deployed.find("flow_runs", deployments={"id": {"any_": [deployment["id"]]}})
        return next(
            (
                run["id"]
                for run in runs
                if run["auto_scheduled"]
                and moment(run["expected_start_time"]) < due + dt.timedelta(hours=0.5)
            ),
            None,
        )

    try:
        second = deployed.wait_for(scheduled)
        first = deployed.start(**parameters, months=[4, 5, 6])
        runs = deployed.ended(first), deployed.ended(second)
    finally:
        deployed.ask("DELETE", f"{path}/{added['id']}").raise_for_status()
    return runs


def moment(text: str) -> dt.datetime:
    """Read a time as the API writes it."""
    return dt.datetime.fromisoformat(text)
