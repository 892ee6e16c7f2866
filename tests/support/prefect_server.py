"""A real Prefect server with its UI for the test session: its own process, port, home and database.

It runs all services of a production server (scheduler, triggers, late runs) at shorter intervals, so that no
test waits half a minute for a schedule or a slot.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST_START_SECONDS = 120

BEAT = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
    "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
}
"""Shorter intervals of the server's services; the defaults are 60, 30 and 5 seconds."""


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(**more: str) -> dict[str, str]:
    """The environment of a process without any Prefect setting of the person who runs the tests."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return others | {"NO_PROXY": "127.0.0.1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"} | more


@pytest.fixture(scope="session")
def prefect_server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server, without `/api`: its UI. Each process of the tests has its own."""
    home, port = tmp_path_factory.mktemp("prefect-server"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "taxi_etl", "server"]
    more = {"PREFECT_HOME": str(home), "PREFECT_API_URL": f"{url}/api", "PREFECT_SERVER_API_PORT": str(port)}
    with running_server(command, url, clean_environment(**more, **BEAT), home / "server.log"):
        yield url


@contextlib.contextmanager
def running_server(
    command: list[str], url: str, environment: dict[str, str], log: Path, cwd: Path | None = None
) -> Iterator[None]:
    """The server that a command starts, from its first answer to the end of the block."""
    with log.open("w") as lines:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=cwd or log.parent,
            stdout=lines,
            stderr=lines,
            start_new_session=True,
        )
    try:
        _wait_for(url, process, log)
        yield
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself; the reason is in its log
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(method: str, url: str, body: Any = None) -> httpx.Response:  # noqa: ANN401 - JSON
    """Send a request to the server, without Prefect's client."""
    until = time.monotonic() + LONGEST_START_SECONDS
    while True:
        answer = httpx.request(method, url, json=body, timeout=60, trust_env=False)
        # 503: SQLite is locked. Prefect's own client tries again too.
        if answer.status_code != 503 or time.monotonic() > until:
            return answer
        time.sleep(0.2)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + LONGEST_START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{url}/api/health", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"the Prefect server has not started: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def prefect_api_url(prefect_server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the server's API, which this process uses too; for `PREFECT_API_URL` of a subprocess."""
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        temporary_settings,
    )

    with temporary_settings(
        {
            PREFECT_API_URL: f"{prefect_server_url}/api",
            PREFECT_HOME: tmp_path_factory.mktemp("prefect-home"),
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        }
    ):
        yield f"{prefect_server_url}/api"
        APILogWorker.drain_all(
            timeout=10
        )  # otherwise this process would try for a minute to reach a stopped server


@pytest.fixture
def server_environment(prefect_api_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a subprocess that is to use the session's server."""
    return {**os.environ, "PREFECT_API_URL": prefect_api_url, "PREFECT_HOME": f"{tmp_path}/prefect"}
