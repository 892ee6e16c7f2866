"""Destination `duckdb`: the local warehouse, one file, no server."""

from __future__ import annotations

import datetime as dt
import glob
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from flows.destinations.base import (
    ALL_MONTHS,
    LEDGER,
    REJECTS,
    Holding,
    Load,
    Receipt,
    reconcile,
    reconcile_rejects,
    require_relations,
)
from flows.destinations.duckdb.connection import connected
from flows.destinations.duckdb.ledger import ledger_of
from flows.destinations.duckdb.query_progress import progress_reported
from flows.destinations.duckdb.tables import describe, ensure_table, quoted
from flows.destinations.duckdb.views import publish_views
from flows.errors import UsageError
from flows.runtime import Layout, ProgressCallback, fsync
from transforms.dataset import FILE_MONTH, Dataset

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from flows.settings import Settings
    from flows.staging import StagedMonth
    from transforms.trip_month import TripMonth

# Months of one process take turns: DuckDB uses every core for one insert already, and two transactions
# that create the same table would conflict.
_turn = threading.Lock()


class DuckDBFile:
    """`warehouse.duckdb` in the data directory.

    While another process has the file open, every call waits for it, up to the lock time-out.

    Attributes:
        path: the file, absolute.
    """

    name = "duckdb"

    def __init__(
        self, path: Path, lock_timeout_seconds: float, memory_mb: int = 256, *, with_views: bool = True
    ) -> None:
        """Keep the path; the file is created by the first publish.

        Args:
            path: the file.
            lock_timeout_seconds: how long to wait while another process has it open.
            memory_mb: that a connection may use; beyond it DuckDB spills to `{path}.tmp`.
            with_views: make the views and dimension tables.
        """
        # Absolute, because DuckDB gives `~/` and `md:` at the start of a path a meaning of its own.
        self.path = path.absolute()
        self._limits = (lock_timeout_seconds, memory_mb)
        self._with_views = with_views

    @classmethod
    def from_settings(cls, data_dir: Path, settings: Settings) -> Self:
        """The warehouse of a data directory.

        Args:
            data_dir: the directory.
            settings: the lock time-out, DuckDB's memory and whether there are views.

        Raises:
            UsageError: DuckDB cannot keep a file in this directory.
        """
        destination = cls(
            Layout(data_dir).warehouse,
            settings.lock_timeout_seconds,
            settings.duckdb_memory_mb,
            with_views=settings.views,
        )
        # DuckDB looks for its log in front of a question mark, and takes a backslash for a slash.
        for sign in "?\\":
            if sign in str(destination.path):
                raise UsageError(
                    f"DuckDB cannot use {destination.path}: it has a {sign} in it; choose another --data-dir"
                )
        return destination

    @classmethod
    def only_here(cls, settings: Settings) -> tuple[str, str] | None:  # noqa: ARG003 - as every destination
        """See `flows.destinations.bound_to_this_machine`."""
        return (
            "--to duckdb is a file on one machine",
            "a destination that all machines share: --to postgres, gcs or bigquery",
        )

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """See `Destination.publish`."""
        with _turn:
            started = time.perf_counter()
            with connected(self.path, *self._limits) as connection:
                load = Load.of(staged)
                before = None if force else _loaded(connection, staged.month)
                if before and before.is_same_data(load):
                    publish_views(connection, str(self.path), with_views=self._with_views)
                    return Receipt(self.name, before.row_count, "unchanged", time.perf_counter() - started)
                connection.begin()
                with progress_reported(connection, staged.rows, report):
                    rows = _replace_month(connection, staged, load)
                connection.commit()
                publish_views(connection, str(self.path), with_views=self._with_views)
            fsync(self.path.parent)  # DuckDB syncs its files, but not the directory entries
            if report:
                report(rows, staged.rows)
            return Receipt(self.name, rows, "published", time.perf_counter() - started)

    def loaded(self, month: TripMonth) -> Load | None:
        """See `Destination.loaded`."""
        if not self.path.exists():
            return None
        with _turn, connected(self.path, *self._limits, read_only=True) as connection:
            return _loaded(connection, month)

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """See `Destination.holdings`."""
        if not self.path.exists():
            return []
        with _turn, connected(self.path, *self._limits, read_only=True) as connection:
            return ledger_of(connection).holdings(dataset.table, dataset.name, between)

    def ask(self, queries: Sequence[str], relations: Sequence[str]) -> list[list[tuple[Any, ...]]]:
        """See `flows.destinations.base.Warehouse.ask`."""
        if not self.path.exists():
            raise UsageError(f"there is no {self.path}; load a month first, or name another --data-dir")
        with _turn, connected(self.path, *self._limits, read_only=True) as connection:
            connection.begin()
            missing = [name for name in relations if not describe(connection, name)]
            require_relations(str(self.path), missing)
            return [connection.execute(query).fetchall() for query in queries]


def _loaded(connection: DuckDBPyConnection, month: TripMonth) -> Load | None:
    return ledger_of(connection).read(month.dataset.table, month.color, month.first_day)


def _replace_month(connection: DuckDBPyConnection, staged: StagedMonth, load: Load) -> int:
    """Replace the month and its ledger row; returns the rows counted in the table."""
    dataset = staged.month.dataset
    table, month = quoted(dataset.table), [staged.month.first_day]
    ensure_table(connection, dataset.table, dataset.duckdb_columns(staged.new_columns))
    connection.execute(f"DELETE FROM {table} WHERE {FILE_MONTH} = ?", month)
    # By name, because an extended table has its columns in another order than the staged file. The path is
    # escaped, and a directory called `a=1` must not become a column.
    connection.execute(
        f"INSERT INTO {table} BY NAME SELECT * FROM read_parquet(?, hive_partitioning = false)",
        [glob.escape(str(staged.path.absolute()))],
    )
    [[rows]] = connection.execute(f"SELECT count(*) FROM {table} WHERE {FILE_MONTH} = ?", month).fetchall()
    reconcile("duckdb", staged.rows, rows)
    _replace_rejects(connection, staged, load)
    ledger = ledger_of(connection)
    ensure_table(connection, LEDGER, ledger.columns)
    for statement, values in ledger.replace_row(load):
        connection.execute(statement, values)
    return int(rows)


def _replace_rejects(connection: DuckDBPyConnection, staged: StagedMonth, load: Load) -> None:
    """Replace the rejected rows of the month; most months have none."""
    ledger = ledger_of(connection)
    ensure_table(connection, REJECTS, ledger.reject_columns)
    connection.execute(*ledger.delete_rejects(load))
    inserted = 0
    if staged.rejects_path:
        source = "read_parquet($3, hive_partitioning = false)"
        statement, values = ledger.insert_rejects(load, source)
        path = glob.escape(str(staged.rejects_path.absolute()))
        [[inserted]] = connection.execute(statement, [*values, path]).fetchall()
    reconcile_rejects("duckdb", staged.rejected_rows, inserted)
