"""`--runner deployment`: a real server, a work pool with two workers, a real Postgres."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import psutil
import pytest
from prefect.client.orchestration import get_client
from support.cli import ROOT, small_month
from support.loaded import ledger, nested_runs, table_digest
from support.pool_workers import DEPLOYMENT, LONGEST_WAIT_SECONDS, deploy_months
from support.torture import TORTURE

from flows.parent import etl_parent_flow
from flows.runners.deployment import NotDeployed, _Months, _wait, _Waiting, check_deployed
from flows.settings import _read_settings
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from support.pool_workers import PoolWorker
    from support.postgres import Database
    from support.web import Web

MONTHS = list(range(1, 13 if TORTURE else 4))
JANUARY = TripMonth("yellow", 2021, 1)

pytestmark = [
    pytest.mark.usefixtures("into_postgres", "_deployment"),
    pytest.mark.xdist_group("workers of a pool"),
]


@pytest.fixture
def _deployment(into_postgres: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXI_MONTH_DEPLOYMENT", DEPLOYMENT)
    _read_settings.cache_clear()


def process_of(workers: list[PoolWorker], month: str) -> psutil.Process:
    """The process that fetches a month, once there is one; it belongs to one of the workers."""
    until = time.monotonic() + LONGEST_WAIT_SECONDS
    while time.monotonic() < until:
        for worker in workers:
            if any(worker.data_dir.glob(f"raw/*/*{month}*.part")):
                for child in psutil.Process(worker.process.pid).children(recursive=True):
                    if is_at(child, month):
                        return child
        time.sleep(0.05)
    pytest.fail(f"nobody fetches {month}: {[worker.log.read_text()[-2000:] for worker in workers]}")


def is_at(process: psutil.Process, month: str) -> bool:
    """Whether a run fetches the month; not if it has just ended."""
    try:
        return "prefect.engine" in process.cmdline() and any(
            month in file.path and file.path.endswith(".part") for file in process.open_files()
        )
    except psutil.NoSuchProcess:
        return False


def test_two_workers_load_each_month_once(
    pool_workers: list[PoolWorker], postgres: Database, tmp_path: Path
) -> None:
    summary = etl_parent_flow(
        "yellow", MONTHS, 2021, ["postgres"], "synthetic", tmp_path, runner="deployment"
    )
    assert [outcome.status for outcome in summary.months] == ["published"] * len(MONTHS)
    assert [outcome.month.month for outcome in summary.months] == MONTHS
    assert [(row[0].month, row[1]) for row in ledger(postgres)] == [(month, 500) for month in MONTHS]
    assert [row[1] for row in table_digest(postgres)] == [500] * len(MONTHS)
    first, second = (worker.staged() for worker in pool_workers)
    assert sorted(first + second) == [f"2021-{month:02}" for month in MONTHS]
    assert first
    assert second
    assert not (tmp_path / "yellow").exists()


def test_a_run_that_is_killed_is_started_again_and_a_failed_one_is_not(
    pool_workers: list[PoolWorker], postgres: Database, web: Web, tmp_path: Path
) -> None:
    web.put("/2020-02.csv.gz", small_month(102))
    web.put("/2020-03.csv.gz", b"<html>Sorry</html>")
    web.misbehave("/2020-02.csv.gz", stall_after=200)

    def kill_it() -> None:
        try:
            process = process_of(pool_workers, "2020-02")
        finally:
            web.heal()
        process.kill()

    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill_it)
        state: Any = etl_parent_flow(
            *("yellow", [2, 3], 2020, ["postgres"], web.url + "/{year}-{month:02}.csv.gz", tmp_path),
            runner="deployment",
            return_state=True,
        )
    killed.result(0)
    summary = state.result(raise_on_failure=False).summary
    assert [outcome.status for outcome in summary.months] == ["published", "failed"]
    assert summary.months[1].error.startswith("yellow 2020-03: ")
    assert "HTML" in summary.months[1].error
    assert [row[1] for row in ledger(postgres)] == [102]
    assert nested_runs(state) == [
        ("yellow-2020-02", "COMPLETED"),
        ("yellow-2020-02", "CRASHED"),
        ("yellow-2020-03", "FAILED"),
    ]


def test_ctrl_c_ends_the_runs_on_the_workers(
    pool_workers: list[PoolWorker], postgres: Database, web: Web, tmp_path: Path, prefect_api_url: str
) -> None:
    web.put("/2019-01.csv.gz", small_month(10))
    web.misbehave("/2019-01.csv.gz", stall_after=200)
    command = ["--color", "yellow", "--months", "1", "--year", "2019", "--to", "postgres"]
    command += ["--runner", "deployment", "--source", web.url + "/{year}-{month:02}.csv.gz"]
    parent = subprocess.Popen(
        [sys.executable, "flows/parent.py", *command, "--data-dir", str(tmp_path)],
        cwd=ROOT,
        env={**psutil.Process().environ(), **environment(prefect_api_url, postgres)},
        stderr=subprocess.PIPE,
        text=True,
    )
    process = process_of(pool_workers, "2019-01")
    parent.send_signal(signal.SIGINT)
    _, said = parent.communicate(timeout=60)
    assert parent.returncode == 130, said
    assert "on the pool scale" in said
    assert "interrupted" in said
    psutil.wait_procs([process], timeout=60)
    assert not process.is_running()
    assert "taxi_loads" not in postgres.tables() or ledger(postgres) == []


def environment(api: str, postgres: Database) -> dict[str, str]:
    return {
        "PREFECT_API_URL": api,
        "TAXI_POSTGRES_URL": postgres.url,
        "TAXI_MONTH_DEPLOYMENT": DEPLOYMENT,
    }


def test_a_server_without_the_deployment_says_how_to_get_it(
    prefect_api_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAXI_MONTH_DEPLOYMENT", "month-on-worker/of-somebody-else")
    _read_settings.cache_clear()
    with pytest.raises(
        NotDeployed, match=r"no deployment month-on-worker/of-somebody-else; `taxi-etl deploy`"
    ):
        etl_parent_flow("yellow", [1], 2021, ["postgres"], "synthetic", tmp_path, runner="deployment")


def test_a_pool_without_a_worker_is_said(
    pool_workers: list[PoolWorker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deploy_months("etl-month-idle", "idle")
    with get_client(sync_client=True) as client, caplog.at_level("WARNING", "flows.runners"):
        check_deployed(client, "month-on-worker/etl-month-idle")
        assert "no worker of the pool idle is there" in caplog.text
        caplog.clear()
        check_deployed(client, DEPLOYMENT)
        assert caplog.text == ""


def test_a_run_that_somebody_deletes_is_a_month_that_failed(prefect_api_url: str, tmp_path: Path) -> None:
    deploy_months("etl-month-idle", "idle")
    with get_client(sync_client=True) as client:
        runs = _Months(client, "month-on-worker/etl-month-idle", {"to": ["postgres"]}, tmp_path)
        runs.start(JANUARY)
        runs.poll()
        assert list(runs.waiting) == [JANUARY]
        client.delete_flow_run(runs.waiting[JANUARY].run_id)
        runs.poll()
    assert runs.waiting == {}
    assert runs.done[JANUARY].error == "yellow 2021-01: somebody deleted its run"


def test_a_server_that_is_away_for_a_while_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("flows.runners.deployment.POLL_SECONDS", 0.01)
    with get_client(sync_client=True) as client:
        runs = _Months(client, "any/deployment", {}, tmp_path, {JANUARY: _Waiting(uuid4())})
        answers = iter([httpx.ConnectError("refused"), httpx.ReadError("reset"), answered(503), None])

        def poll() -> None:
            if error := next(answers):
                raise error
            runs.waiting.clear()

        monkeypatch.setattr(runs, "poll", poll)
        _wait(runs)
        assert caplog.text.count("does not answer") == 3
        runs.waiting[JANUARY] = _Waiting(uuid4())
        monkeypatch.setattr("flows.runners.deployment.LONGEST_SILENCE_SECONDS", 0.05)
        monkeypatch.setattr(runs, "poll", client_error)
        with pytest.raises(httpx.ConnectError):
            _wait(runs)


def client_error() -> None:
    raise httpx.ConnectError("refused")


def answered(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://server/api")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, request=request))


@pytest.mark.parametrize(("status", "asked"), [(503, 2), (429, 2), (404, 1), (422, 1)])
def test_a_busy_server_is_asked_again_for_a_run_and_one_that_refuses_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, asked: int
) -> None:
    monkeypatch.setattr("flows.runners.deployment.POLL_SECONDS", 0.01)
    keys: list[str] = []

    def create(*_: object, idempotency_key: str, **__: object) -> SimpleNamespace:
        keys.append(idempotency_key)
        if len(keys) == 1:
            raise answered(status)
        return SimpleNamespace(id=uuid4())

    monkeypatch.setattr("flows.runners.deployment.run_deployment", create)
    with get_client(sync_client=True) as client:
        runs = _Months(client, "any/deployment", {}, tmp_path)
        refused = pytest.raises(httpx.HTTPStatusError) if asked == 1 else contextlib.nullcontext()
        with refused:
            runs.start(JANUARY)
    assert len(keys) == asked
    assert len(set(keys)) == 1
