"""The Prefect server of a command: the configured one, one that is running here, or a temporary one.

A temporary server takes two seconds to start, most of them imports. It is therefore started before this
process imports Prefect, which takes another second meanwhile.

NOTE: nothing here imports Prefect at the top of the module.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path

from flows.errors import ServerNotStarted
from flows.runtime import note_temporary_server

SERVE_API = Path(__file__).with_name("serve_api.py")

LONGEST_START_SECONDS = 120
"""Patience for a slow machine; `PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS` changes it."""

LONGEST_STOP_SECONDS = 5
"""Time for the last events of a run to be written; Prefect's own value."""

LONGEST_ANSWER_SECONDS = 2.0
LONGEST_ANSWER_BYTES = 1_000
LISTENING = "0A"
"""How the tables of the kernel say it."""

READ_BY_PREFECT = (".env", "prefect.toml", "pyproject.toml")
"""Files of the working directory in which Prefect looks for settings."""

CHOOSING_VARIABLES = {
    "PREFECT_API_URL",
    "PREFECT_PROFILE",
    "PREFECT_PROFILES_PATH",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE",
    "PREFECT_SERVER_EPHEMERAL_ENABLED",
}
"""Variables that may configure an API, or forbid a temporary server."""


class PrefectApi:
    """The server that the runs of this command are told to.

    Attributes:
        message: how it was chosen, in one line for the user; empty if it was configured.
    """

    message = ""

    def wait_until_ready(self) -> None:
        """Wait until the server answers; only a temporary one is waited for."""


class RunningServer(PrefectApi):
    """A server that somebody has left running at Prefect's default address."""

    def __init__(self, url: str) -> None:
        """Say that it is used.

        Args:
            url: of its API.
        """
        self.url = url
        self.message = f"using the Prefect server at {url}; set PREFECT_API_URL to use another one"


class TemporaryServer(PrefectApi):
    """A server for one run, with the database that `prefect server start` would use."""

    message = "starting a temporary Prefect server; with PREFECT_API_URL set, one of yours is used"

    def __init__(self, log: Path) -> None:
        """Start it, without waiting for it.

        Its socket listens from now on: a request that comes too early waits, and fails if the server ends.

        Args:
            log: the file for what it reports; removed at the end if it is empty.
        """
        self._log, self._has_answered = log, False
        with socket.create_server(("127.0.0.1", 0)) as listening, log.open("ab") as lines:
            self._port: int = listening.getsockname()[1]
            self._process = subprocess.Popen(  # noqa: S603 - a program of ours
                [sys.executable, "-P", SERVE_API, "--temporary", str(listening.fileno())],
                # The server ends when this process closes the pipe, or ends in whatever way. Ctrl-C goes to
                # every process of the terminal's group: this one outlives it, to record how the run ended.
                stdin=subprocess.PIPE,
                stdout=lines,
                stderr=lines,
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )
        self.url = f"http://127.0.0.1:{self._port}/api"
        note_temporary_server(self.url)
        # Handlers run in reverse order: Prefect's, which send the last events, are registered later.
        atexit.register(self._stop)

    def wait_until_ready(self) -> None:
        """Wait until the server answers.

        Raises:
            ServerNotStarted: it has ended, or does not answer in time.
        """
        seconds = float(
            os.environ.get("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS") or LONGEST_START_SECONDS
        )
        try:
            _get(self._port, "/api/health", seconds)
            self._has_answered = True
        except (OSError, http.client.HTTPException) as error:
            reason = (
                f"no answer in {seconds:.0f} s" if isinstance(error, TimeoutError) else self._last_words()
            )
            raise ServerNotStarted(
                f"the temporary Prefect server has not started: {reason}; its log is {self._log}. Put it "
                "right, name a server with PREFECT_API_URL, or do without: --runner direct"
            ) from error

    def _last_words(self) -> str:
        """The last line of the log of a server that has ended."""
        with contextlib.suppress(OSError):
            if lines := self._log.read_text(encoding="utf-8", errors="replace").split("\n"):
                return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it has ended")
        return "it has ended"

    def _stop(self) -> None:
        with self._process as process:  # closes the pipe and waits
            if process.stdin:
                process.stdin.close()
            if not self._has_answered:  # while it starts it does not notice the closed pipe
                process.terminate()
            try:
                process.wait(LONGEST_STOP_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                process.kill()
        with contextlib.suppress(OSError):  # the disk may be full, or the directory gone
            if not self._log.stat().st_size:
                self._log.unlink()


@contextlib.contextmanager
def prefect_api(log: Path) -> Generator[PrefectApi]:
    """Choose the server for a command, and make Prefect use it for as long as the block lasts.

    In this order: the configured one; one of this version that is running at Prefect's default address; a
    temporary one, which ends with this process.

        with prefect_api(log) as api:
            import prefect  # meanwhile a temporary server is starting
            api.wait_until_ready()

    Args:
        log: the file for what a temporary server reports.

    Yields:
        The server.
    """
    if not _needs_server():
        yield PrefectApi()
        return
    running = _running_server()
    server = RunningServer(running) if running else TemporaryServer(log)
    with _api_url(server.url):
        yield server


@contextlib.contextmanager
def _api_url(url: str) -> Generator[None]:
    # Prefect's clients ask a proxy of the environment even for this machine, unless told not to.
    changes = {"PREFECT_API_URL": url} | {
        name: ",".join(filter(None, [os.environ.get(name), "127.0.0.1"])) for name in ("no_proxy", "NO_PROXY")
    }
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        if "prefect" not in sys.modules:
            yield
            return
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: url}):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _needs_server() -> bool:
    """Whether no server is configured, and none is forbidden.

    Prefect knows, but to import it only for that would delay the start of a server. It is asked if it is
    imported already, or if it has settings where it may be configured.
    """
    if os.environ.get("PREFECT_API_URL"):
        return False
    if "prefect" not in sys.modules and not _has_prefect_settings():
        return True
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE

    return not PREFECT_API_URL.value() and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value()


def _has_prefect_settings() -> bool:
    """Whether a file, or an uncommon variable, may configure an API or forbid a temporary server."""
    if CHOOSING_VARIABLES & {name.upper() for name in os.environ}:
        return True
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    return (home / "profiles.toml").exists() or any(map(_speaks_of_prefect, READ_BY_PREFECT))


def _speaks_of_prefect(name: str) -> bool:
    if name == "prefect.toml":
        return Path(name).exists()
    try:
        text = Path(name).read_text(encoding="utf-8").lower()
    except OSError:
        return False
    except UnicodeDecodeError:
        return True
    return ("[tool.prefect" if name == "pyproject.toml" else "prefect_") in text


def _running_server() -> str | None:
    """URL of a server of this version, and this user, at Prefect's default address; None if there is none."""
    try:
        port = int(os.environ.get("PREFECT_SERVER_API_PORT") or 4200)
    except ValueError:
        return None
    if not _is_trusted(port):
        return None
    answers: list[bytes] = []

    def ask() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answers.append(_get(port, "/api/admin/version", LONGEST_ANSWER_SECONDS))

    # In a thread, because a time-out of a socket starts anew with every byte.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(LONGEST_ANSWER_SECONDS)
    try:
        [theirs] = map(json.loads, answers)
    except ValueError:  # of these answers, or of their number
        return None
    ours = version("prefect").split(".")[:2]  # of another minor version, it may lack what the client asks for
    fits = isinstance(theirs, str) and theirs.split(".")[:2] == ours
    return f"http://127.0.0.1:{port}/api" if fits else None


def _is_trusted(port: int) -> bool:
    """Whether this user or root listens on a port, as far as can be told: only Linux says who does.

    Anybody else could hand us blocks, and read what the run says.
    """
    owners: set[int] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    owners.add(int(fields[7]))
    return owners <= {0, os.getuid()}


def _get(port: int, path: str, timeout_seconds: float) -> bytes:
    """Ask a server of this machine, without any proxy.

    Raises:
        OSError, HTTPException: it does not answer, or not with 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"status {answer.status}")
        return answer.read(LONGEST_ANSWER_BYTES)
