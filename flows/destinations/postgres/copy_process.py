"""The process that copies Arrow batches into a Postgres table, through ADBC; see `postgres_copy`.

It is a process of its own because the driver ends the one it is in, with `abort()`, when the server ends a
connection. One request a line arrives on stdin, the answers go to stdout, one a line; it ends when stdin
does, whatever it is doing: whoever asked has gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

import adbc_driver_manager as adbc
import adbc_driver_postgresql
import pyarrow as pa

from flows.destinations.staged_batches import staged_batches
from flows.errors import LocalStorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A batch is encoded whole before any of it is sent: this size keeps both sides busy.
BATCH_ROWS = 16_384

CONNECTIONS = 2
"""The server's work for a COPY is done by one process for each connection, and is most of a load."""


class CopyRequest(TypedDict):
    """What to copy where.

    Attributes:
        conninfo: what libpq connects with; holds the password.
        settings: for each connection.
        schema, table: the target, with the columns of the batches in their order.
        name: both, as SQL writes them.
        oid: the target; one of the same name may have taken its place.
        path: a Parquet file.
        rows: how many it has.
        columns: those to copy, in the table's order.
    """

    conninfo: str
    settings: dict[str, str]
    schema: str
    table: str
    name: str
    oid: int
    path: str
    rows: int
    columns: list[str]


class Progress(TypedDict):
    """So many rows have been read, of so many."""

    kind: Literal["progress"]
    rows: int
    of: int | None


class Copied(TypedDict):
    """All of it is there; so many rows, as the server counts them."""

    kind: Literal["copied"]
    rows: int


class Damaged(TypedDict):
    """The file cannot be read."""

    kind: Literal["damaged"]
    message: str


class Refused(TypedDict):
    """The driver, or the server, did not do it.

    Attributes:
        message: what the driver says.
        sqlstate: None: the server said nothing.
        connecting: there was no connection yet.
        lost: it is an error of the connection, not of the data.
    """

    kind: Literal["refused"]
    message: str
    sqlstate: str | None
    connecting: bool
    lost: bool


class Replaced(TypedDict):
    """The table is another run's; nothing was left in it."""

    kind: Literal["replaced"]


Answer: TypeAlias = Progress | Copied | Damaged | Refused | Replaced


def main() -> None:
    """Answer until stdin ends."""
    # Whoever interrupts interrupts the other process as well, which then ends this one; no core is dumped.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        threading.Thread(target=_work, args=(json.loads(line),), daemon=True).start()
    os._exit(0)


def _work(request: CopyRequest) -> None:
    try:
        _say(_answer(request))
    except BaseException:  # noqa: BLE001 - whoever waits for an answer would wait for ever
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _say(answer: Answer) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _answer(request: CopyRequest) -> Answer:
    try:
        connections = _connections(request)
    except adbc.Error as error:
        return _refused(error, connecting=True)
    try:
        with contextlib.ExitStack() as closing:
            for connection in connections:
                closing.enter_context(contextlib.closing(connection))
            rows = _copy(request, connections)
    except adbc.Error as error:
        return _refused(error, connecting=False)
    except LocalStorageError as error:
        return {"kind": "damaged", "message": error.message}
    except _Replaced:
        return {"kind": "replaced"}
    return {"kind": "copied", "rows": rows}


def _refused(error: adbc.Error, *, connecting: bool) -> Refused:
    return {
        "kind": "refused",
        "message": str(error),
        "sqlstate": error.sqlstate,
        "connecting": connecting,
        "lost": isinstance(error, adbc.OperationalError),
    }


def _connections(request: CopyRequest) -> list[adbc.AdbcConnection]:
    """As many as there is work for; fewer, if the server does not give more."""
    database = adbc_driver_postgresql.connect(request["conninfo"])
    connections: list[adbc.AdbcConnection] = []
    while len(connections) < min(CONNECTIONS, 1 + request["rows"] // BATCH_ROWS):
        try:
            connections.append(_connection(database, request["settings"]))
        except adbc.Error:
            if not connections:
                raise
            break
    return connections


def _connection(database: adbc.AdbcDatabase, settings: dict[str, str]) -> adbc.AdbcConnection:
    connection = adbc.AdbcConnection(database)
    for name, value in settings.items():
        with contextlib.closing(adbc.AdbcStatement(connection)) as statement:
            statement.set_sql_query(f"SET {name} = '{value}'")
            statement.execute_update()
    connection.set_autocommit(False)
    return connection


class _Replaced(Exception):
    """The table is another run's."""


class _Shared:
    """The batches of a file, for several connections: each takes the next one.

    Attributes:
        error: what one of them failed with, which ends the others.
    """

    def __init__(self, batches: pa.RecordBatchReader) -> None:
        self._batches, self._lock = batches, threading.Lock()
        self.error: BaseException | None = None

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._batches.schema, self._taken())

    def _taken(self) -> Iterator[pa.RecordBatch]:
        while (batch := self._next()) is not None:
            yield batch

    def _next(self) -> pa.RecordBatch | None:
        with self._lock:
            if self.error:
                raise BrokenPipeError("another connection has failed")
            try:
                return self._batches.read_next_batch()
            except StopIteration:
                return None


def _copy(request: CopyRequest, connections: Sequence[adbc.AdbcConnection]) -> int:
    """Copy over all connections at once, all of it, or an error; returns the rows that the server counted."""

    def feed(connection: adbc.AdbcConnection) -> int:
        try:
            _ingest(connection, request, shared.reader())
            return _inserted(connection, request)
        except BaseException as error:
            shared.error = shared.error or error
            raise

    def report(rows: int, of: int | None) -> None:
        _say({"kind": "progress", "rows": rows, "of": of})

    with (
        staged_batches(Path(request["path"]), request["columns"], BATCH_ROWS, report) as batches,
        ThreadPoolExecutor(len(connections)) as threads,
    ):
        shared = _Shared(batches)
        feeding = [threads.submit(feed, connection) for connection in connections]
        wait(feeding)
        if shared.error:
            raise shared.error
    for connection in connections:
        connection.commit()
    return sum(one.result() for one in feeding)


def _ingest(connection: adbc.AdbcConnection, request: CopyRequest, batches: pa.RecordBatchReader) -> None:
    """COPY into the table."""
    with contextlib.closing(adbc.AdbcStatement(connection)) as statement:
        statement.set_options(
            **{
                adbc.StatementOptions.INGEST_MODE.value: adbc.INGEST_OPTION_MODE_APPEND,
                adbc.StatementOptions.INGEST_TARGET_DB_SCHEMA.value: request["schema"],
                adbc.StatementOptions.INGEST_TARGET_TABLE.value: request["table"],
            }
        )
        statement.bind_stream(batches)
        statement.execute_update()


def _inserted(connection: adbc.AdbcConnection, request: CopyRequest) -> int:
    """The rows that the server has put into the table in this transaction.

    The connection that holds the month may have ended before this one began, and another run may have dropped
    the table and made its own: rows in that one must not stay.

    Its answer to COPY has the same number, but the driver keeps that to itself. To look at every row would
    take a tenth of the load, and have the server write each page a second time (its hint bits).
    """
    with contextlib.closing(adbc.AdbcStatement(connection)) as statement:
        statement.set_sql_query(
            "SELECT pg_stat_get_xact_tuples_inserted(oid), oid::bigint FROM to_regclass($1) AS oid"
        )
        statement.bind(pa.record_batch({"name": [request["name"]]}))
        statement.prepare()
        stream, _ = statement.execute_query()
        with pa.RecordBatchReader.from_stream(stream) as found:
            [[rows], [oid]] = found.read_all().columns
    if oid.as_py() != request["oid"]:
        raise _Replaced
    return rows.as_py()


if __name__ == "__main__":
    main()
