"""What can strike a run and the servers that it talks to: processes that are killed, servers that crash."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import psutil
import psycopg
from support.bigquery_harness import BigQueryHarness
from support.gcs_harness import GcsHarness
from support.postgres_harness import PostgresHarness

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from support.destinations import Harness
    from support.postgres import WheelServer

Strike = Callable[[int], bool]
"""Strikes the run with this process id; whether there was anything to strike."""

KILLED = (0, -signal.SIGKILL)
FAILED = (0, 1)
POLL_SECONDS = 0.005


def kill_process(pid: int) -> bool:
    """The run's own process."""
    with contextlib.suppress(ProcessLookupError):  # it had already ended
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def kill_group(pid: int) -> bool:
    """The run with every process that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
        return True
    return False


def kill_copier(after_seconds: float) -> Strike:
    """The process that copies to Postgres, so long after it has begun."""

    def strike(pid: int) -> bool:
        for _ in while_it_runs(pid):
            if children := _children(pid):
                time.sleep(after_seconds)
                with contextlib.suppress(psutil.NoSuchProcess):
                    children[0].kill()
                    return True
        return False

    return strike


def terminate_backend(harness: PostgresHarness, after_seconds: float) -> Strike:
    """A process of the server that serves the run is told to end by its administrator."""

    def strike(pid: int) -> bool:
        if backend := _backend(harness, pid, after_seconds):
            return harness.database.value(f"SELECT pg_terminate_backend({backend})")
        return False

    return strike


def kill_backend(harness: PostgresHarness, after_seconds: float) -> Strike:
    """A process of the server crashes; the server then ends all others and recovers from its log."""

    def strike(pid: int) -> bool:
        if backend := _backend(harness, pid, after_seconds):
            return kill_process(backend)
        return False

    return strike


def stop_server(harness: OwnPostgresHarness, after_seconds: float) -> Strike:
    """`pg_ctl stop -m immediate`, and start again."""

    def strike(pid: int) -> bool:
        if not _backend(harness, pid, after_seconds):
            return False
        harness.own_server.embedded.stop("immediate")
        harness.own_server.embedded.start()
        return True

    return strike


def restart_emulators(harnesses: list[Harness]) -> Strike:
    """Every emulator drops its connections, and is there again on the same ports."""

    def strike(pid: int) -> bool:
        is_running = psutil.pid_exists(pid)
        for harness in harnesses:
            if isinstance(harness, GcsHarness):
                harness.bucket.front.restart()
            if isinstance(harness, BigQueryHarness):
                harness.server.restart()
        return is_running

    return strike


def while_it_runs(pid: int) -> Generator[None]:
    """Again and again until the process has ended."""
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        yield
        time.sleep(POLL_SECONDS)


def _children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children()
    return []


def _backend(harness: PostgresHarness, pid: int, after_seconds: float) -> int | None:
    """One of the server's processes that serve the run, so long after it has connected."""
    ours = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'taxi-etl' AND pid <> pg_backend_pid()"
    )
    for _ in while_it_runs(pid):
        if harness.database.rows(ours):
            time.sleep(after_seconds)
            if backends := harness.database.rows(ours):
                return random.choice(backends)[0]
    return None


class OwnPostgresHarness(PostgresHarness):
    """A database on a server that may crash."""

    def __init__(self, directory: Path, request: pytest.FixtureRequest) -> None:
        self.own_server: WheelServer = request.getfixturevalue("own_durable_server")
        self.own_server.embedded.start()
        self.own_server.local.execute("DROP DATABASE IF EXISTS victim WITH (FORCE)", "CREATE DATABASE victim")
        super().__init__(directory, request, self.own_server.database.other(dbname="victim"))

    def settle(self) -> None:
        """Wait until the server has recovered, too."""
        while True:
            try:
                super().settle()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
