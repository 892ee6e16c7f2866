"""Which Prefect server a command uses, and what becomes of a temporary one."""

from __future__ import annotations

import http.server
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import prefect
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.prefect_server import clean_environment, free_port

from flows.cli.prefect_server import prefect_api
from flows.errors import ServerNotStarted
from flows.runtime import is_temporary_server

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
LONGEST_SECONDS = 120

pytestmark = pytest.mark.xdist_group("servers of our own")

# As the command line does it: the module first, Prefect when the server is already starting.
RUN = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("prefect_server", "flows/cli/prefect_server.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert "prefect" not in sys.modules
with module.prefect_api(pathlib.Path(sys.argv[1])) as api:
    from prefect import flow
    api.wait_until_ready()
    print(getattr(api, "url", None), api.message, flush=True)
    flow(name="work")(lambda: print("begun", flush=True) or input())()
"""


def start(log: Path, home: Path, **environment: str) -> subprocess.Popen[str]:
    """A process that runs a flow until it gets a line on standard input."""
    port = {"PREFECT_SERVER_API_PORT": str(free_port())}  # nobody's server is found there
    return subprocess.Popen(
        [sys.executable, "-c", RUN, log],
        cwd=ROOT,
        env=clean_environment(**({"PREFECT_HOME": str(home)} | port | environment)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def server_of(process: subprocess.Popen[str]) -> psutil.Process:
    [server] = [p for p in psutil.Process(process.pid).children() if "serve_api" in " ".join(p.cmdline())]
    return server


def states(home: Path) -> list[str]:
    """How the flow runs of a server ended, read from its database."""
    with closing(sqlite3.connect(home / "prefect.db")) as connection:
        return [name for (name,) in connection.execute("SELECT state_name FROM flow_run")]


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[int]:
    """Something that listens on a port: it answers each GET in the same way, and each POST with 503."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_temporary_server_lives_as_long_as_the_command_and_keeps_its_history(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    for runs in (1, 2):
        process = start(log, tmp_path)
        assert "a temporary Prefect server" in first_line(process)
        server = server_of(process)
        _, errors = process.communicate("\n", timeout=LONGEST_SECONDS)
        assert process.returncode == 0, errors
        assert not server.is_running()
        assert states(tmp_path) == ["Completed"] * runs
    assert not log.exists()  # it had nothing to report


def test_two_commands_at_once_have_a_server_each(tmp_path: Path) -> None:
    processes = [start(tmp_path / f"{number}.log", tmp_path) for number in range(2)]
    assert len({first_line(process).split()[0] for process in processes}) == 2
    for process in processes:
        _, errors = process.communicate("\n", timeout=LONGEST_SECONDS)
        assert process.returncode == 0, errors
    assert states(tmp_path) == ["Completed"] * 2


def test_a_temporary_server_ends_when_its_command_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path / "server.log", tmp_path)
    first_line(process)
    server = server_of(process)
    process.kill()
    process.communicate()
    psutil.wait_procs([server], timeout=LONGEST_SECONDS)
    assert not server.is_running()


def test_ctrl_c_does_not_reach_the_temporary_server(tmp_path: Path) -> None:
    """Otherwise the end of the run could not be recorded, and Prefect would try for a minute."""
    process = start(tmp_path / "server.log", tmp_path)
    first_line(process)
    server = server_of(process)
    assert os.getpgid(server.pid) != os.getpgid(process.pid)
    assert first_line(process) == "begun\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LONGEST_SECONDS)
    psutil.wait_procs([server], timeout=LONGEST_SECONDS)
    assert states(tmp_path) == ["Crashed"]


def test_a_server_that_cannot_start_is_one_line_that_names_its_log(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(b"no database" * 1000)
    log = tmp_path / "server.log"
    process = start(log, tmp_path)
    _, errors = process.communicate(timeout=LONGEST_SECONDS)
    last = errors.splitlines()[-1]
    assert ServerNotStarted.__name__ in last
    assert f"its log is {log}. " in last
    assert "file is not a database" in log.read_text()


def test_a_server_at_the_default_address_is_used(tmp_path: Path) -> None:
    with answering(f'"{prefect.__version__}"'.encode()) as port, environment(tmp_path, port):
        log = tmp_path / "server.log"
        with prefect_api(log) as api:
            assert PREFECT_API_URL.value() == os.environ["PREFECT_API_URL"] == f"http://127.0.0.1:{port}/api"
            assert f"using the Prefect server at http://127.0.0.1:{port}/api" in api.message
            assert not is_temporary_server(PREFECT_API_URL.value())
            api.wait_until_ready()
        assert "PREFECT_API_URL" not in os.environ
        assert not log.exists()


@pytest.mark.parametrize("answer", [b'"2.20.4"', b'"3.7.9"', b"<html>", b"3"])
def test_a_server_of_another_kind_at_the_default_address_is_not_used(answer: bytes, tmp_path: Path) -> None:
    with answering(answer) as port:
        process = start(tmp_path / "server.log", tmp_path, PREFECT_SERVER_API_PORT=str(port))
        assert "a temporary Prefect server" in first_line(process)
        process.communicate("\n", timeout=LONGEST_SECONDS)


@contextmanager
def environment(home: Path, port: int) -> Iterator[None]:
    """The environment of a person who has configured nothing, in this process."""
    with (
        pytest.MonkeyPatch.context() as patch,
        temporary_settings(restore_defaults={PREFECT_API_URL}),
    ):
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_API_PORT", str(port))
        yield


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("environment", ""),
        ("profiles.toml", 'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'),
        (".env", "PREFECT_API_URL=http://127.0.0.1:9/api\n"),
        ("prefect.toml", '[api]\nurl = "http://127.0.0.1:9/api"\n'),
        ("pyproject.toml", '[tool.prefect.api]\nurl = "http://127.0.0.1:9/api"\n'),
    ],
)
def test_a_configured_server_is_left_alone(place: str, content: str, tmp_path: Path) -> None:
    """Wherever Prefect looks for it: a server of ours would hide the configured one."""
    more = {"PREFECT_API_URL": "http://127.0.0.1:9/api"} if place == "environment" else {}
    if content:
        (tmp_path / place).write_text(content)
    code = f"""
import runpy
module = runpy.run_path({str(ROOT / "flows" / "cli" / "prefect_server.py")!r})
with module["prefect_api"](None) as api:
    from prefect.settings import PREFECT_API_URL
    api.wait_until_ready()
    print(PREFECT_API_URL.value(), api.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=clean_environment(PREFECT_HOME=str(tmp_path), **more),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "http://127.0.0.1:9/api"


@pytest.mark.parametrize("status", [200, 503], ids=["some requests", "every request"])
def test_a_server_that_refuses_is_told_in_one_line(status: int, tmp_path: Path) -> None:
    load = "load --color yellow --year 2021 --months 1 --source synthetic"
    with answering(f'"{prefect.__version__}"'.encode(), status) as port:
        url = f"http://127.0.0.1:{port}/api"
        done = subprocess.run(
            [sys.executable, "-m", "taxi_etl", *load.split()],
            cwd=tmp_path,
            env=clean_environment(
                PREFECT_HOME=str(tmp_path),
                PREFECT_API_URL=url,
                PREFECT_CLIENT_MAX_RETRIES="0",
                PREFECT_CLIENT_CSRF_SUPPORT_ENABLED="false",
            ),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert f"the Prefect server at {url} answers 503 Service Unavailable. Run the command again" in line
    assert "--runner direct" in line
    assert "Traceback" not in done.stderr
