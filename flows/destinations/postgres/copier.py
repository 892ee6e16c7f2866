"""Copies staged files into Postgres tables by processes of their own; see `copy_process`.

The driver (ADBC) aborts its whole process when the server ends a connection. With a process of its own, that
is an error like any other. A build of the driver that the settings name is used in this process instead.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from flows.destinations.postgres.connection import (
    SESSION_SETTINGS,
    PostgresSession,
    connection_error,
    statement_error,
)
from flows.errors import DestinationBusy, DestinationRefused, LocalStorageError, TaxiError
from flows.settings import get_settings

if TYPE_CHECKING:
    from flows.destinations.postgres.copy_process import CopyRequest
    from flows.runtime import ProgressCallback
    from flows.staging import StagedMonth

# NOTE: run by its path. As a module it would import the faces of the packages above it first.
PROGRAM = Path(__file__).with_name("copy_process.py")
CLOSE_TIMEOUT_SECONDS = 5.0
IDLE_COPIERS = 2
"""Idle copier processes kept warm, about 150 MB each."""


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """A table to copy into.

    Attributes:
        schema, table: its name.
        oid: its object id, because another table may take that name.
        columns: those to copy, in the table's order.
    """

    schema: str
    table: str
    oid: int
    columns: list[str]


class Copier:
    """A process that copies one file after the other. It never outlives this process."""

    def __init__(self) -> None:
        """Start the process, without waiting the quarter of a second until it is ready."""
        # A file, because a pipe that nobody reads would block the process when full.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        # NOTE: -P, or a file in the working directory could be imported in place of a library.
        self._process = subprocess.Popen(  # noqa: S603 - no argument comes from outside
            [sys.executable, "-P", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,  # a buffer has a lock, on which a fork could block, and would be flushed by both
        )
        pipes = self._process.stdin, self._process.stdout
        self._stdin, self._stdout = cast("tuple[IO[bytes], IO[bytes]]", pipes)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the process has not ended, for example by a kill."""
        return self._process.poll() is None

    def copy(
        self,
        session: PostgresSession,
        target: CopyTarget,
        staged: StagedMonth,
        report: ProgressCallback | None,
    ) -> int:
        """Copy a staged file into a table, and commit.

        NOTE: the driver encodes by the Arrow types and ignores the table's. Compare the two before.

        Args:
            session: a connection to the same server.
            target: the table.
            staged: the month.
            report: called with (rows read, rows in all).

        Returns:
            The rows that the server has counted; 0 if it is set not to count (`track_counts`).

        Raises:
            DestinationBusy: the connection broke, or none can be had right now.
            DestinationRefused: the server does not accept the rows.
            LocalStorageError: the file is damaged.
        """
        request = _request(session, target, staged)
        with contextlib.suppress(BrokenPipeError):  # the process has ended, and so have its answers
            _write_all(self._stdin, json.dumps(request).encode() + b"\n")
        for line in self._stdout:
            match json.loads(line):
                case {"progress": [rows, total]}:
                    if report:
                        report(rows, total)
                case answer:
                    return _copied_rows(answer, session, staged)
        raise self._death_error()

    def _death_error(self) -> TaxiError:
        """The error to raise for a process that has ended without an answer."""
        code = self._process.wait()
        self._stderr.seek(0)
        stderr = self._stderr.read().decode(errors="replace").strip()
        if code >= 0:
            return DestinationRefused(
                f"the process that copies to Postgres failed ({stderr.rpartition(chr(10))[2]}); the month "
                "there stays. If the installation is whole, please report it"
            )
        # Two connections that break at once: the second ends the process before the first has said why.
        broken = "std::logic_error", "terminate called recursively"
        if code == -signal.SIGABRT and any(words in stderr for words in broken):
            reason = "the connection to Postgres broke"
        else:
            reason = f"the process that copies to Postgres was ended ({signal.strsignal(-code)})"
        return DestinationBusy(f"{reason}; the month there stays")

    def close(self) -> None:
        """End the process, even in the middle of a copy."""
        self._close_files()
        try:
            self._process.wait(CLOSE_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        """Let go of the process in a forked child: it is the parent's."""
        self._close_files()
        self._process.returncode = 0

    def _close_files(self) -> None:
        for file in (self._stdin, self._stdout, self._stderr):
            file.close()


class InProcessCopier:
    """Copies in this process, with the build of the driver that `TAXI_ADBC_POSTGRESQL_DRIVER` names."""

    def __init__(self, driver: str) -> None:
        """Keep the name; the driver is loaded by the first copy.

        Args:
            driver: path or name of its library.
        """
        self._driver = driver

    def copy(
        self,
        session: PostgresSession,
        target: CopyTarget,
        staged: StagedMonth,
        report: ProgressCallback | None,
    ) -> int:
        """See `Copier.copy`."""
        from flows.destinations.postgres.copy_process import answer

        request = _request(session, target, staged, self._driver)
        return _copied_rows(answer(request, report), session, staged)


def _request(
    session: PostgresSession, target: CopyTarget, staged: StagedMonth, driver: str | None = None
) -> CopyRequest:
    return {
        "schema": target.schema,
        "table": target.table,
        "oid": target.oid,
        "columns": target.columns,
        "conninfo": session.address.conninfo(),
        "driver": driver,
        "settings": SESSION_SETTINGS,
        "path": str(staged.path.absolute()),
        "rows": staged.rows,
    }


def _copied_rows(answer: dict[str, Any], session: PostgresSession, staged: StagedMonth) -> int:
    """The rows of an answer of `copy_process`, or the error that it stands for."""
    match answer:
        case {"copied": rows}:
            return rows
        case {"damaged": message}:
            raise LocalStorageError(message)
        case {"replaced": _}:
            raise DestinationBusy("another run has begun the same month; the month there stays")
        case {"unreachable": message}:
            raise connection_error(message, session.address)
        case {"unloadable": message}:
            reason = " ".join(message.split())
            raise DestinationRefused(
                f"TAXI_ADBC_POSTGRESQL_DRIVER names no driver that can be loaded ({reason}); give it the "
                "path of a library, or unset it to use the one that is installed"
            )
        case {"failed": [message, sqlstate, is_operational, row]}:
            where = f"row {row} of {staged.path}" if row else ""
            raise statement_error(message, sqlstate, is_operational=is_operational, row=where)
        case _:
            raise AssertionError(f"unknown answer {answer}")


def _write_all(pipe: IO[bytes], content: bytes) -> None:
    """Write to an unbuffered pipe, which may accept only a part at a time."""
    while content:
        content = content[pipe.write(content) :]


class _Pool:
    """The copiers of this process: each serves one month at a time, and is kept for the next."""

    def __init__(self) -> None:
        self._lock, self._idle, self._busy = threading.Lock(), set[Copier](), set[Copier]()

    def take(self) -> Copier:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.is_running():
                    break
                process.close()
            else:
                process = Copier()
            self._busy.add(process)
        return process

    def give_back(self, process: Copier, *, reusable: bool) -> None:
        with self._lock:
            self._busy.discard(process)
            if reusable and len(self._idle) < IDLE_COPIERS:
                self._idle.add(process)
                return
        process.close()

    def close_all(self) -> None:
        for process in self._idle | self._busy:
            process.close()

    def abandon_all(self) -> None:
        for process in self._idle | self._busy:
            process.abandon()
        self.__init__()


_pool = _Pool()
atexit.register(_pool.close_all)
os.register_at_fork(after_in_child=_pool.abandon_all)


@contextlib.contextmanager
def copier() -> Generator[Copier | InProcessCopier]:
    """Borrow a copier from the pool; it is kept for the next month unless the block raises.

    NOTE: begin early, so that other work can be done while the process starts.

    Yields:
        The copier, which is perhaps still starting; with `TAXI_ADBC_POSTGRESQL_DRIVER` one that
        copies in this process.
    """
    if driver := get_settings().adbc_postgresql_driver:
        yield InProcessCopier(driver)
        return
    process, succeeded = _pool.take(), False
    try:
        yield process
        succeeded = True
    finally:
        _pool.give_back(process, reusable=succeeded)
