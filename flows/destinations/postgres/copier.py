"""COPY of a staged file into a Postgres table, by a process of its own: `postgres_copy_process`.

The driver (ADBC) encodes and sends; a server that ends the connection makes it end its process. Here that is
an error like any other.
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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from flows.destinations.postgres.connection import SESSION_SETTINGS, no_connection, refusal
from flows.destinations.postgres.tables import quoted
from flows.errors import DestinationBusy, DestinationRefused, LocalStorageError, TaxiError

if TYPE_CHECKING:
    from collections.abc import Generator

    from flows.destinations.postgres.connection import PostgresSession
    from flows.destinations.postgres.copy_process import Answer, CopyRequest
    from flows.runtime import ProgressCallback
    from flows.staging import StagedMonth


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """A table to copy into.

    Attributes:
        schema, table: its name.
        oid: it, and no other one of that name.
        columns: those to copy, in its order.
    """

    schema: str
    table: str
    oid: int
    columns: list[str]


PROGRAM = Path(__file__).with_name("copy_process.py")
"""NOTE: run by its path. As a module it would import this package's face, and with it psycopg."""
ENDING_SECONDS = 5.0

KEPT = 2
"""So many wait for the next month: as many as are loaded at once by default. Each has some 150 MB."""


class Copier:
    """A process that copies, one file after the other. It ends with this process at the latest."""

    def __init__(self) -> None:
        """Start it; it is ready some tenths of a second later, and waited for when it is needed."""
        # A file, because nobody reads it while all goes well, and a pipe that is full would stop the process.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        # NOTE: -P, or a file in the working directory could take the place of a library.
        self._process = subprocess.Popen(  # noqa: S603 - nothing of it comes from outside
            [sys.executable, "-P", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,  # a buffer has a lock, on which a fork would wait, and is written twice after one
        )
        pipes = self._process.stdin, self._process.stdout
        self._requests, self._answers = cast("tuple[IO[bytes], IO[bytes]]", pipes)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def is_running(self) -> bool:
        """It has not been ended by somebody else."""
        return self._process.poll() is None

    def copy(
        self,
        session: PostgresSession,
        target: CopyTarget,
        staged: StagedMonth,
        report: ProgressCallback | None,
    ) -> int:
        """Copy a staged file into a table, and commit; returns the rows that the server has counted.

        0 as well if the server is set not to count (`track_counts`).

        NOTE: the driver encodes by the Arrow type and never looks at the table. Compare the two before.

        Args:
            session: a connection to the same server.
            target: where to.
            staged: the month.
            report: called with (rows read, rows in all).

        Raises:
            DestinationBusy: the connection broke, or none can be had right now.
            DestinationRefused: the server does not take it.
            LocalStorageError: the file is damaged.
        """
        request: CopyRequest = {
            "conninfo": session.address.conninfo(),
            "settings": SESSION_SETTINGS,
            "schema": target.schema,
            "table": target.table,
            "name": f"{quoted(target.schema)}.{quoted(target.table)}",
            "oid": target.oid,
            "path": str(staged.path.absolute()),
            "rows": staged.rows,
            "columns": target.columns,
        }
        with contextlib.suppress(BrokenPipeError):  # it has ended, which shows in its answers
            _write_all(self._requests, json.dumps(request).encode() + b"\n")
        for line in self._answers:
            answer: Answer = json.loads(line)
            match answer["kind"]:
                case "progress" if report:
                    report(answer["rows"], answer["of"])
                case "copied":
                    return answer["rows"]
                case "damaged":
                    raise LocalStorageError(answer["message"])
                case "replaced":
                    raise DestinationBusy("another run has begun the same month; the month there stays")
                case "refused" if answer["connecting"]:
                    raise no_connection(answer["message"], session.address)
                case "refused":
                    raise refusal(answer["message"], answer["sqlstate"], lost=answer["lost"])
                case _:
                    pass
        raise self._ended()

    def _ended(self) -> TaxiError:
        """Why there are no more answers."""
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        if code >= 0:
            return DestinationRefused(
                f"the process that copies to Postgres failed ({said.rpartition(chr(10))[2]}); the month "
                "there stays. If the installation is whole, please report it"
            )
        if code == -signal.SIGABRT and "std::logic_error" in said:
            why = "the connection to Postgres broke"
        else:
            why = f"the process that copies to Postgres was ended ({signal.strsignal(-code)})"
        return DestinationBusy(f"{why}; the month there stays")

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._close_files()
        try:
            self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        """After a fork, in the new process: it is the other one's."""
        self._close_files()
        self._process.returncode = 0

    def _close_files(self) -> None:
        for file in (self._requests, self._answers, self._errors):
            file.close()


def _write_all(pipe: IO[bytes], content: bytes) -> None:
    """A pipe without a buffer takes what has room."""
    while content:
        content = content[pipe.write(content) :]


class _Copiers:
    """Those of this process: each is used by one month at a time, and kept for the next."""

    def __init__(self) -> None:
        self._lock, self._idle, self._busy = threading.Lock(), set[Copier](), set[Copier]()

    def take(self) -> Copier:
        with self._lock:
            while self._idle:
                one = self._idle.pop()
                if one.is_running():
                    break
                one.close()
            else:
                one = Copier()
            self._busy.add(one)
        return one

    def give_back(self, one: Copier) -> None:
        with self._lock:
            self._busy.discard(one)
            if kept := len(self._idle) < KEPT:
                self._idle.add(one)
        if not kept:
            one.close()

    def end(self, one: Copier) -> None:
        with self._lock:
            self._busy.discard(one)
        one.close()

    def end_all(self) -> None:
        for one in self._idle | self._busy:
            one.close()

    def forget_all(self) -> None:
        for one in self._idle | self._busy:
            one.abandon()
        self.__init__()


_copiers = _Copiers()
atexit.register(_copiers.end_all)
os.register_at_fork(after_in_child=_copiers.forget_all)


@contextlib.contextmanager
def copier() -> Generator[Copier]:
    """A process that copies for nobody else; it is kept for the next month if all goes well.

    NOTE: begin early. It takes a quarter of a second to be ready, in which other things can be done.
    """
    one = _copiers.take()
    try:
        yield one
    except BaseException:
        _copiers.end(one)
        raise
    _copiers.give_back(one)
