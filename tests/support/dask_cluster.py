"""A real Dask cluster: a scheduler and workers, each a process with its own data directory."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from distributed import Client
from support.prefect_server import clean_environment

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from support.postgres import Database

LONGEST_WAIT_SECONDS = 60


@dataclass
class DaskWorker:
    """One worker process, without a nanny that would start it again.

    Attributes:
        process: of the worker.
        data_dir: its `TAXI_DATA_DIR`.
    """

    process: subprocess.Popen[bytes]
    data_dir: Path

    def staged(self) -> set[str]:
        """The months that were staged here, such as `2021-01`."""
        return {path.stem.rpartition("_")[2] for path in self.data_dir.glob("yellow/*[0-9].parquet")}

    def is_fetching(self, month: str) -> bool:
        """Whether a download of that month is under way here."""
        return any(self.data_dir.glob(f"raw/*/*{month}*.part"))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class DaskCluster:
    """The scheduler, and a way to add workers.

    Attributes:
        address: of the scheduler.
        directory: holds the logs of the processes and the data of the workers.
        environment: of every worker.
    """

    address: str
    directory: Path
    environment: dict[str, str]
    workers: list[DaskWorker] = field(default_factory=list)

    def add_worker(self, **environment: str) -> DaskWorker:
        name = f"worker-{len(self.workers)}"
        data_dir = self.directory / name / "data"
        process = start(
            self.directory / name,
            ["worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name],
            {**self.environment, "TAXI_DATA_DIR": str(data_dir), **environment},
        )
        self.workers.append(DaskWorker(process, data_dir))
        return self.workers[-1]

    @property
    def alive(self) -> list[DaskWorker]:
        return [worker for worker in self.workers if worker.process.poll() is None]


def start(directory: Path, arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start `dask ...` as an operator would type it, in this directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "log").open("ab") as lines:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=directory,
            env=environment,
            stdout=lines,
            stderr=lines,
        )


@contextlib.contextmanager
def dask_cluster(directory: Path, environment: dict[str, str]) -> Generator[DaskCluster]:
    """A scheduler on a free port, without workers yet; everything ends with the block."""
    scheduler_file = directory / "scheduler.json"
    scheduler = start(
        directory / "scheduler",
        [
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(scheduler_file),
        ],
        environment,
    )
    processes = [scheduler]
    try:
        until = time.monotonic() + LONGEST_WAIT_SECONDS
        while not scheduler_file.exists() or not scheduler_file.read_text():
            assert time.monotonic() < until, (directory / "scheduler" / "log").read_text()
            time.sleep(0.05)
        cluster = DaskCluster(json.loads(scheduler_file.read_text())["address"], directory, environment)
        yield cluster
        processes += [worker.process for worker in cluster.workers]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, prefect_api_url: str, _database: Database
) -> Generator[DaskCluster]:
    """A scheduler and two workers that load into the Postgres of the tests."""
    environment = clean_environment(
        TAXI_POSTGRES_URL=_database.url, PREFECT_API_URL=prefect_api_url, TAXI_SYNTHETIC_ROWS="500"
    )
    with dask_cluster(tmp_path_factory.mktemp("dask"), environment) as started:
        for _ in range(2):
            started.add_worker()
        with Client(started.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=LONGEST_WAIT_SECONDS)
        yield started
