"""The process that copies staged files into Postgres tables through ADBC; `copier` starts it.

The driver aborts its whole process when the server ends a connection, hence a process of its own. Requests
arrive on stdin and answers leave on stdout, each a line of JSON: any number of `progress` (rows read, rows of
the file), then the one of `answer`. It ends when stdin is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypedDict

# NOTE: not `adbc_driver_postgresql.dbapi`, whose imports take another second and 90 MB.
import adbc_driver_manager as adbc
import adbc_driver_postgresql
import pyarrow as pa

# NOTE: nothing of this package that imports psycopg, whose memory and time it would add.
from flows.destinations.staged_batches import staged_batches
from flows.errors import LocalStorageError

BATCH_ROWS = 16_384  # a batch is encoded whole before it is sent: this size keeps both sides busy
CONNECTIONS = 2  # most of the time goes by in the server, which has one process for each connection


class CopyRequest(TypedDict):
    """What to copy, and into which table.

    Attributes:
        schema, table, oid, columns: as in `copier.CopyTarget`.
        conninfo: libpq's connection string, password included.
        driver: another build of the driver, by path or name; None: the one that is installed.
        settings: session settings of each connection.
        path: the staged Parquet file.
        rows: how many it has.
    """

    schema: str
    table: str
    oid: int
    columns: list[str]
    conninfo: str
    driver: str | None
    settings: dict[str, str]
    path: str
    rows: int


class _RowRefused(Exception):
    """The server has refused a row; the cause is the driver's error.

    Attributes:
        row: its number in the file, counted from 1.
    """

    def __init__(self, row: int) -> None:
        self.row = row


class _TableReplaced(Exception):
    """The table's name belongs to another run's table."""


def main() -> None:
    """Serve requests until stdin ends."""
    # Ctrl-C also reaches the parent, which then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        threading.Thread(target=_serve, args=(json.loads(line),), daemon=True).start()
    os._exit(0)


def _serve(request: CopyRequest) -> None:
    try:
        _send(answer(request, lambda rows, total: _send({"progress": [rows, total]})))
    except BaseException:  # noqa: BLE001 - the parent would wait for the answer forever
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _send(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def answer(
    request: CopyRequest, report: Callable[[int, int | None], None] | None = None
) -> dict[str, object]:
    """Copy, and commit. The answer has one of these keys.

    copied: the rows as the server counts them; they are committed.
    unloadable: why there is no such driver.
    unreachable: why no connection could be made.
    failed: the driver's message, the SQLSTATE if any, whether it is an OperationalError, and the number of
        the row in the file that the server has refused, if any.
    damaged: why the file cannot be read.
    replaced: the table is another run's; nothing was left in it.

    Args:
        request: what to copy.
        report: called with (rows read, rows in all).
    """
    try:
        connections = _connect(request)
    except adbc.ProgrammingError as error:
        return {"unloadable": str(error)}
    except adbc.Error as error:
        return {"unreachable": str(error)}
    try:
        with contextlib.ExitStack() as closing:
            for connection in connections:
                closing.enter_context(contextlib.closing(connection))
            return {"copied": _copy(request, connections, report)}
    except adbc.Error as error:
        return {"failed": _failure(error, None)}
    except _RowRefused as refused:
        return {"failed": _failure(refused.__cause__, refused.row)}
    except LocalStorageError as error:
        return {"damaged": error.message}
    except _TableReplaced:
        return {"replaced": True}


def _failure(error: BaseException | None, row: int | None) -> list[object]:
    sqlstate = error.sqlstate if isinstance(error, adbc.Error) else None
    return [str(error), sqlstate, isinstance(error, adbc.OperationalError), row]


def _connect(request: CopyRequest) -> list[adbc.AdbcConnection]:
    """As many connections as are useful; fewer, but one at least, if the server grants no more."""
    if request["driver"]:
        database = adbc.AdbcDatabase(driver=request["driver"], uri=request["conninfo"])
    else:
        database = adbc_driver_postgresql.connect(request["conninfo"])
    connections: list[adbc.AdbcConnection] = []
    while len(connections) < min(CONNECTIONS, 1 + request["rows"] // BATCH_ROWS):
        try:
            connections.append(_open(database, request["settings"]))
        except adbc.Error:
            if not connections:
                raise
            break
    return connections


def _open(database: adbc.AdbcDatabase, settings: dict[str, str]) -> adbc.AdbcConnection:
    connection = adbc.AdbcConnection(database)
    for name, value in settings.items():
        with contextlib.closing(adbc.AdbcStatement(connection)) as statement:
            statement.set_sql_query(f"SET {name} = '{value}'")
            statement.execute_update()
    connection.set_autocommit(False)
    return connection


class _SharedBatches:
    """The batches of a file, which all connections take from.

    Attributes:
        errors: what made a connection fail; the others then end too.
    """

    def __init__(self, batches: pa.RecordBatchReader) -> None:
        self.errors = list[BaseException]()
        self._batches, self._lock, self._rows = batches, threading.Lock(), 0

    def reader(self, taken: list[tuple[int, int]]) -> pa.RecordBatchReader:
        """A reader for one connection; of each batch, `taken` gets its first row's number and its rows."""
        return pa.RecordBatchReader.from_batches(self._batches.schema, self._take(taken))

    def _take(self, taken: list[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
        while True:
            with self._lock:
                if self.errors:
                    raise BrokenPipeError("another connection has failed")
                batch = next(self._batches, None)
                if batch is None:
                    return
                taken.append((self._rows + 1, batch.num_rows))
                self._rows += batch.num_rows
            yield batch


def _copy(
    request: CopyRequest,
    connections: Sequence[adbc.AdbcConnection],
    report: Callable[[int, int | None], None] | None,
) -> int:
    """Copy the file over all connections at once, and commit; returns the rows that the server counted."""

    def copy_part(connection: adbc.AdbcConnection) -> int:
        try:
            _ingest(connection, request, shared)
            return _inserted_rows(connection, request)
        except BaseException as error:
            shared.errors.append(error)
            raise

    with (
        staged_batches(Path(request["path"]), request["columns"], BATCH_ROWS, report) as batches,
        ThreadPoolExecutor(len(connections)) as threads,
    ):
        shared = _SharedBatches(batches)
        parts = [threads.submit(copy_part, connection) for connection in connections]
        wait(parts)
        if shared.errors:
            raise shared.errors[0]
    for connection in connections:
        connection.commit()
    return sum(part.result() for part in parts)


def _refused_row(message: str, taken: Sequence[tuple[int, int]]) -> int | None:
    """The number in the file of the row that a COPY ended with, given the batches that it has taken."""
    match = re.search(r"^CONTEXT:\s+COPY .*, line (\d+)", message, re.MULTILINE)
    line = int(match[1]) if match else 0
    for first_row, rows in taken:
        if 1 <= line <= rows:
            return first_row + line - 1
        line -= rows
    return None


def _ingest(connection: adbc.AdbcConnection, request: CopyRequest, batches: _SharedBatches) -> None:
    taken = list[tuple[int, int]]()
    with contextlib.closing(adbc.AdbcStatement(connection)) as statement:
        statement.set_options(
            **{
                adbc.StatementOptions.INGEST_MODE.value: adbc.INGEST_OPTION_MODE_APPEND,
                adbc.StatementOptions.INGEST_TARGET_DB_SCHEMA.value: request["schema"],
                adbc.StatementOptions.INGEST_TARGET_TABLE.value: request["table"],
            }
        )
        statement.bind_stream(batches.reader(taken))
        try:
            statement.execute_update()
        except adbc.Error as error:
            if row := _refused_row(str(error), taken):
                raise _RowRefused(row) from error
            raise


def _inserted_rows(connection: adbc.AdbcConnection, request: CopyRequest) -> int:
    """The rows that this transaction has inserted into the table, as the server counts them.

    The session that holds the month may have ended before the COPY began, and another run may have replaced
    the table by its own, in which our rows must not stay.

    The server's answer to COPY has this number too, but the driver does not pass it on. `count(*)` would take
    a tenth of the load, and make the server write each page a second time (its hint bits).
    """
    with contextlib.closing(adbc.AdbcStatement(connection)) as statement:
        statement.set_sql_query(
            "SELECT pg_stat_get_xact_tuples_inserted(oid), oid::bigint "
            "FROM to_regclass(format('%I.%I', $1::text, $2::text)) AS oid"
        )
        statement.bind(pa.record_batch({"schema": [request["schema"]], "table": [request["table"]]}))
        statement.prepare()
        stream, _ = statement.execute_query()
        with pa.RecordBatchReader.from_stream(stream) as reader:
            [[rows], [oid]] = reader.read_all().columns
    if oid.as_py() != request["oid"]:
        raise _TableReplaced
    return rows.as_py()


if __name__ == "__main__":
    main()
