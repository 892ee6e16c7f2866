"""Destination `duckdb`: the local warehouse, one file, no server."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any, Self

import duckdb

from flows.destinations.base import LEDGER, Load, Receipt, columns_to_add, reconcile
from flows.errors import DestinationBusy, LocalStorageError, TaxiError
from flows.files import fsync
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from flows.progress import Report
    from flows.settings import Settings
    from flows.staging import StagedMonth
    from transforms.trip_month import TripMonth

POLL_SECONDS = 0.1
LEDGER_COLUMNS = {
    "dataset": "VARCHAR",
    FILE_MONTH: "DATE",
    "source": "VARCHAR",
    "source_sha256": "VARCHAR",
    "schema_version": "VARCHAR",
    "row_transforms": "VARCHAR",
    "source_rows": "BIGINT",
    "rejected_rows": "BIGINT",
    "row_count": "BIGINT",
    "loaded_at": "TIMESTAMP WITH TIME ZONE",
}

# Months of one process take turns: DuckDB uses every core for one insert already, and two transactions
# that create the same table would conflict.
_turn = threading.Lock()


def quoted(name: str) -> str:
    """A name as a DuckDB identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


class DuckDBFile:
    """`warehouse.duckdb` in the data directory.

    Another process that has the file open is waited for, up to the lock time-out.
    """

    name = "duckdb"

    def __init__(self, path: Path, lock_timeout_seconds: float) -> None:
        """Remember where; the file is created by the first publish."""
        self.path = path
        self._lock_timeout_seconds = lock_timeout_seconds

    @classmethod
    def from_settings(cls, data_dir: Path, settings: Settings) -> Self:
        """The warehouse of a data directory."""
        return cls(data_dir / "warehouse.duckdb", settings.lock_timeout_seconds)

    def publish(self, staged: StagedMonth, *, force: bool = False, report: Report | None = None) -> Receipt:
        """See `Destination.publish`."""
        with _turn:
            started = time.perf_counter()
            with self._connected() as connection:
                load = Load.of(staged)
                before = None if force else _loaded(connection, staged.month)
                if before and before.is_same_data(load):
                    seconds = time.perf_counter() - started
                    return Receipt(self.name, before.row_count, "unchanged", seconds)
                if report:
                    report(0, staged.rows)
                with _transaction(connection):
                    _replace_month(connection, staged, load)
                if report:
                    report(staged.rows, staged.rows)
            return Receipt(self.name, staged.rows, "published", time.perf_counter() - started)

    def loaded(self, month: TripMonth) -> Load | None:
        """See `Destination.loaded`."""
        if not self.path.exists():
            return None
        with _turn, self._connected(read_only=True) as connection:
            return _loaded(connection, month)

    @contextlib.contextmanager
    def _connected(self, *, read_only: bool = False) -> Generator[duckdb.DuckDBPyConnection]:
        connection = self._connect(read_only=read_only)
        try:
            yield connection
        except duckdb.IOException as error:
            raise LocalStorageError(
                f"{self.path} cannot be written ({error}); make room, then run it again"
            ) from error
        finally:
            connection.close()

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        deadline = time.monotonic() + self._lock_timeout_seconds
        is_new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                connection = duckdb.connect(self.path, read_only=read_only)
            except duckdb.IOException as error:
                if "lock" not in str(error):
                    raise self._unusable(error) from error
                if time.monotonic() >= deadline:
                    raise DestinationBusy(
                        f"{self.path} is open in another process ({_holder(error)}); close it, or "
                        "give it more time with TAXI_LOCK_TIMEOUT_SECONDS"
                    ) from error
                time.sleep(POLL_SECONDS)
            except duckdb.Error as error:
                raise self._unusable(error) from error
            else:
                if is_new:
                    fsync(self.path.parent)
                return connection

    def _unusable(self, error: duckdb.Error) -> TaxiError:
        first_line = str(error).splitlines()[0]
        return LocalStorageError(
            f"{self.path} cannot be opened ({first_line}); if it is damaged, move it away and run "
            "the months again: everything in it can be loaded anew"
        )


def _holder(error: duckdb.Error) -> str:
    """Who holds the file, from DuckDB's `Conflicting lock is held in PATH (PID n)`."""
    _, found, rest = str(error).partition("(PID ")
    return f"PID {rest.partition(')')[0]}" if found else "unknown PID"


@contextlib.contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Generator[None]:
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _replace_month(connection: duckdb.DuckDBPyConnection, staged: StagedMonth, load: Load) -> None:
    dataset, month = staged.month.dataset, staged.month.first_day
    table = quoted(dataset.table)
    _ensure_table(connection, dataset.table, dataset.duckdb_columns(staged.new_columns))
    connection.execute(f"DELETE FROM {table} WHERE {FILE_MONTH} = ?", [month])
    # By name: a table that has grown has its columns in another order than the staged file.
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM read_parquet(?)", [str(staged.path)])
    reconcile("duckdb", staged.rows, _count(connection, dataset.table, month))
    _ensure_table(connection, LEDGER, LEDGER_COLUMNS)
    connection.execute(f"DELETE FROM {LEDGER} WHERE dataset = ? AND {FILE_MONTH} = ?", [dataset.name, month])
    marks = ", ".join("?" for _ in fields(Load))
    names = ", ".join(field.name for field in fields(Load))
    connection.execute(f"INSERT INTO {LEDGER} ({names}) VALUES ({marks})", astuple(load))


def _ensure_table(connection: duckdb.DuckDBPyConnection, table: str, columns: dict[str, str]) -> None:
    """Create the table, or add the nullable columns it lacks; refuse any other difference."""
    have = _columns(connection, table)
    if not have:
        definition = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
        connection.execute(f"CREATE TABLE {quoted(table)} ({definition})")
        return
    for name, kind in columns_to_add(table, have, columns).items():
        connection.execute(f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(name)} {kind}")


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    found = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() "
        "WHERE table_name = ? AND database_name = current_database() ORDER BY column_index",
        [table],
    ).fetchall()
    return dict(found)


def _count(connection: duckdb.DuckDBPyConnection, table: str, month: dt.date) -> int:
    found: Any = connection.execute(
        f"SELECT count(*) FROM {quoted(table)} WHERE {FILE_MONTH} = ?", [month]
    ).fetchone()
    return int(found[0])


def _loaded(connection: duckdb.DuckDBPyConnection, month: TripMonth) -> Load | None:
    table = month.dataset.table
    if FILE_MONTH not in _columns(connection, table) or not _columns(connection, LEDGER):
        return None
    # Asked for in UTC without a zone, because DuckDB needs pytz to hand over the zone.
    *names, loaded_at = (field.name for field in fields(Load))
    found = connection.execute(
        f"SELECT {', '.join(names)}, {loaded_at} AT TIME ZONE 'UTC' FROM {LEDGER} "
        f"WHERE dataset = ? AND {FILE_MONTH} = ?",
        [month.color, month.first_day],
    ).fetchone()
    if not found:
        return None
    load = Load(*found[:-1], loaded_at=found[-1].replace(tzinfo=dt.UTC))
    return load if load.row_count == _count(connection, table, month.first_day) else None
