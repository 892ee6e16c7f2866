"""Destination `duckdb`: the local warehouse, one file, no server."""

from __future__ import annotations

import datetime as dt
import glob
import threading
import time
from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any, Self

from flows.destinations.base import ALL_MONTHS, LEDGER, Holding, Load, Receipt, columns_to_add, reconcile
from flows.destinations.duckdb.connection import connected
from flows.errors import UsageError
from flows.runtime import fsync
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from flows.runtime import ProgressCallback
    from flows.settings import Settings
    from flows.staging import StagedMonth
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth

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
        # Absolute: DuckDB takes `~/` or `md:` at the start of a path for something else.
        self.path = path.absolute()
        self._lock_timeout_seconds = lock_timeout_seconds

    @classmethod
    def from_settings(cls, data_dir: Path, settings: Settings) -> Self:
        """The warehouse of a data directory.

        Raises:
            UsageError: DuckDB cannot keep a file there.
        """
        made = cls(data_dir / "warehouse.duckdb", settings.lock_timeout_seconds)
        # DuckDB looks for its log in front of a question mark, and takes a backslash for a slash.
        for sign in "?\\":
            if sign in str(made.path):
                raise UsageError(
                    f"DuckDB cannot use {made.path}: it has a {sign} in it; choose another --data-dir"
                )
        return made

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """See `Destination.publish`."""
        with _turn:
            started = time.perf_counter()
            with connected(self.path, self._lock_timeout_seconds) as connection:
                load = Load.of(staged)
                before = None if force else _loaded(connection, staged.month)
                if before and before.is_same_data(load):
                    seconds = time.perf_counter() - started
                    return Receipt(self.name, before.row_count, "unchanged", seconds)
                if report:
                    report(0, staged.rows)
                connection.begin()
                rows = _replace_month(connection, staged, load)
                connection.commit()
            fsync(self.path.parent)  # DuckDB syncs its files, not their names
            if report:
                report(rows, staged.rows)
            return Receipt(self.name, rows, "published", time.perf_counter() - started)

    def loaded(self, month: TripMonth) -> Load | None:
        """See `Destination.loaded`."""
        if not self.path.exists():
            return None
        with _turn, connected(self.path, self._lock_timeout_seconds, read_only=True) as connection:
            return _loaded(connection, month)

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """See `Destination.holdings`."""
        if not self.path.exists():
            return []
        with _turn, connected(self.path, self._lock_timeout_seconds, read_only=True) as connection:
            return _holdings(connection, dataset, between)


def _replace_month(connection: DuckDBPyConnection, staged: StagedMonth, load: Load) -> int:
    """Put the staged month and its ledger row in place of what is there; returns the rows counted."""
    dataset, month = staged.month.dataset, staged.month.first_day
    table = quoted(dataset.table)
    _ensure_table(connection, dataset.table, dataset.duckdb_columns(staged.new_columns))
    _ensure_table(connection, LEDGER, LEDGER_COLUMNS)
    connection.execute(f"DELETE FROM {table} WHERE {FILE_MONTH} = ?", [month])
    # By name: a table that has grown has its columns in another order than the staged file. Nothing in
    # the path is a pattern, and a directory called `a=1` is no column.
    connection.execute(
        f"INSERT INTO {table} BY NAME SELECT * FROM read_parquet(?, hive_partitioning = false)",
        [glob.escape(str(staged.path.absolute()))],
    )
    rows = _count(connection, dataset.table, month)
    reconcile("duckdb", staged.rows, rows)
    connection.execute(f"DELETE FROM {LEDGER} WHERE dataset = ? AND {FILE_MONTH} = ?", [dataset.name, month])
    marks = ", ".join("?" for _ in fields(Load))
    names = ", ".join(field.name for field in fields(Load))
    connection.execute(f"INSERT INTO {LEDGER} ({names}) VALUES ({marks})", astuple(load))
    return rows


def _ensure_table(connection: DuckDBPyConnection, table: str, columns: Mapping[str, str]) -> None:
    """Create the table, or add the nullable columns it lacks; refuse any other difference."""
    have = _columns(connection, table)
    if not have:
        definition = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
        connection.execute(f"CREATE TABLE {quoted(table)} ({definition})")
        return
    spelled = {_folded(name): name for name in have}
    want = {spelled.get(_folded(name), name): kind for name, kind in columns.items()}
    for name, kind in columns_to_add(table, have, want).items():
        connection.execute(f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(name)} {kind}")


def _folded(name: str) -> bytes:
    """What two spellings of a column share: DuckDB ignores the case of A to Z, and of nothing else."""
    return name.encode().lower()


def _columns(connection: DuckDBPyConnection, table: str) -> dict[str, str]:
    """The columns of a table (or view) of that name and their types; empty if there is none."""
    found = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE NOT internal AND lower(table_name) = ? "
        "AND database_name = current_database() AND schema_name = current_schema() ORDER BY column_index",
        [table],
    ).fetchall()
    return dict(found)


def _count(connection: DuckDBPyConnection, table: str, month: dt.date) -> int:
    found: Any = connection.execute(
        f"SELECT count(*) FROM {quoted(table)} WHERE {FILE_MONTH} = ?", [month]
    ).fetchone()
    return int(found[0])


def _loaded(connection: DuckDBPyConnection, month: TripMonth) -> Load | None:
    found = _holdings(connection, month.dataset, (month.first_day, month.first_day))
    return found[0].load if found and found[0].reconciles else None


def _holdings(
    connection: DuckDBPyConnection, dataset: Dataset, between: tuple[dt.date, dt.date]
) -> list[Holding]:
    *names, loaded_at = (field.name for field in fields(Load))
    ledger, table = LEDGER, quoted(dataset.table)
    if not LEDGER_COLUMNS.items() <= _columns(connection, LEDGER).items():
        nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in LEDGER_COLUMNS.items())
        ledger = f"(SELECT {nothing} WHERE false)"
    if _columns(connection, dataset.table).get(FILE_MONTH) != "DATE":
        table = f"(SELECT NULL::DATE AS {FILE_MONTH} WHERE false)"
    # The time in UTC without a zone, because DuckDB needs pytz to hand over the zone.
    found = connection.execute(
        f"SELECT coalesce(noted.{FILE_MONTH}, there.{FILE_MONTH}), coalesce(there.counted, 0), "
        f"{', '.join(f'noted.{name}' for name in names)}, noted.{loaded_at} AT TIME ZONE 'UTC' "
        f"FROM (FROM {ledger} WHERE dataset = $dataset AND {FILE_MONTH} BETWEEN $first AND $last) AS noted "
        f"FULL JOIN (SELECT {FILE_MONTH}, count(*) AS counted FROM {table} "
        f"WHERE {FILE_MONTH} BETWEEN $first AND $last GROUP BY {FILE_MONTH}) AS there USING ({FILE_MONTH}) "
        "ORDER BY 1",
        {"dataset": dataset.name, "first": between[0], "last": between[1]},
    ).fetchall()
    return [
        Holding(month, Load(*values, loaded_at=at.replace(tzinfo=dt.UTC)) if at else None, counted)
        for month, counted, *values, at in found
    ]
