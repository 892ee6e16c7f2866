"""A separate work pool on the session's server, with the deployment `etl-month` and worker processes."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support.prefect_server import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.postgres import Database

LONGEST_WAIT_SECONDS = 120  # a run whose process asks a busy server on SQLite may be a minute late
POOL = "scale"
DEPLOYMENT = "month-on-worker/etl-month-scale"


@dataclass
class PoolWorker:
    """A worker of the pool.

    Attributes:
        process: of the worker; its runs are other processes in the same process group.
        data_dir: its `TAXI_DATA_DIR`.
        log: output of the worker and its runs.
    """

    process: subprocess.Popen[bytes]
    data_dir: Path
    log: Path

    def staged(self) -> list[str]:
        """The months that were staged here, such as `2021-01`."""
        return [path.stem.rpartition("_")[2] for path in self.data_dir.glob("yellow/*[0-9].parquet")]


@pytest.fixture(scope="module")
def pool_workers(
    tmp_path_factory: pytest.TempPathFactory, prefect_api_url: str, _database: Database
) -> Iterator[list[PoolWorker]]:
    """Two workers on one pool, each with its own data directory, loading into the Postgres of the tests."""
    deploy_months(DEPLOYMENT.partition("/")[2], POOL)
    workers = []
    try:
        for number in range(2):
            home = tmp_path_factory.mktemp(f"worker-{number}")
            environment = clean_environment(
                PREFECT_API_URL=prefect_api_url,
                PREFECT_HOME=str(home / "prefect"),
                PREFECT_WORKER_QUERY_SECONDS="0.3",
                TAXI_DATA_DIR=str(home / "data"),
                TAXI_POSTGRES_URL=_database.url,
                TAXI_SYNTHETIC_ROWS="500",
            )
            command = ["worker", "start", "--pool", POOL, "--type", "process", "--limit", "2"]
            with (home / "log").open("wb") as lines:
                process = subprocess.Popen(
                    [sys.executable, "-m", "prefect", *command, "--name", f"worker-{number}"],
                    cwd=home,
                    env=environment,
                    stdout=lines,
                    stderr=lines,
                    start_new_session=True,
                )
            workers.append(PoolWorker(process, home / "data", home / "log"))
        _wait_until_online(len(workers))
        yield workers
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            try:
                worker.process.wait(20)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def _wait_until_online(number: int) -> None:
    from prefect.client.orchestration import get_client

    until = time.monotonic() + LONGEST_WAIT_SECONDS
    while time.monotonic() < until:
        with get_client(sync_client=True) as client:
            if len(client.read_workers_for_work_pool(POOL)) == number:
                return
        time.sleep(0.2)
    pytest.fail("the workers have not started")


def deploy_months(name: str, pool: str) -> None:
    """Deploy the entry `etl-month` of `prefect.yaml` under another name, on a pool that is created for it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    from flows.serve import read_deployments, to_serve

    deployment = to_serve(read_deployments()["etl-month"])
    deployment.name = name
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=pool, type="process"), overwrite=True)
    deployment.apply(work_pool_name=pool)
