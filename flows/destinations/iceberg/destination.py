"""Destination `iceberg`: a table for each dataset, a month replaced in one snapshot.

The staged Parquet file becomes the month's data file as it is. How it works: docs/reference/iceberg.md.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pyiceberg.io.pyarrow import parquet_file_to_data_file

from flows.destinations.base import ALL_MONTHS, REJECTS, Holding, Load, Receipt, ReceiptStatus, reconcile
from flows.destinations.iceberg import ledger
from flows.destinations.iceberg.connection import COMMIT_CONFLICTS, CatalogAddress, check_catalog, connected
from flows.destinations.iceberg.maintenance import Maintained, maintain_table
from flows.destinations.iceberg.rejects import count_rejects, replace_rejects
from flows.destinations.iceberg.storage import add_data_file, exclusive
from flows.destinations.iceberg.tables import add_columns, ensure_table, find_table, trip_columns
from flows.destinations.ledger import REJECT_COLUMNS
from flows.destinations.staged_batches import explain_unreadable
from flows.runtime import CONTENTION, Layout, ProgressCallback, RetryPolicy, retry_transient
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from uuid import UUID

    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

    from flows.settings import Settings
    from flows.staging import StagedMonth
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth

AFTER_CONFLICTS = RetryPolicy(attempts=10, longest_pause_seconds=5, jitter=CONTENTION)
"""How often other writers may come first before this one gives up."""

# Months of one process take turns: whoever came second would only do its commit again.
_turn = threading.Lock()


class Iceberg:
    """Tables `taxi.{color}_taxi_trips` in a catalog: a local one, or one of pyiceberg's configuration."""

    name = "iceberg"

    def __init__(self, address: CatalogAddress) -> None:
        """Keep the address; nothing is opened.

        Args:
            address: of the catalog.
        """
        self.address = address

    @classmethod
    def from_settings(cls, data_dir: Path, settings: Settings) -> Self:
        """The tables of a data directory, or those of the catalog that the settings name.

        Args:
            data_dir: the directory.
            settings: the catalog and the lock time-out are used.

        Raises:
            UsageError: the catalog is not configured; lists the places that were tried.
        """
        if settings.iceberg_catalog:
            check_catalog(settings.iceberg_catalog)
        directory = Layout(data_dir).iceberg.absolute()
        return cls(CatalogAddress(directory, settings.iceberg_catalog, settings.lock_timeout_seconds))

    @classmethod
    def only_here(cls, settings: Settings) -> tuple[str, str] | None:
        """See `flows.destinations.bound_to_this_machine`."""
        if settings.iceberg_catalog:
            return None
        return (
            "--to iceberg without TAXI_ICEBERG_CATALOG is a directory on one machine",
            "name a catalog that all machines reach; see docs/reference/iceberg.md",
        )

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """See `Destination.publish`.

        Raises:
            DestinationRefused: the catalog refuses, or cannot be used.
        """
        started = time.perf_counter()
        load, month = Load.of(staged), staged.month
        dataset = month.dataset
        with _turn, connected(self.address) as catalog:
            table = ensure_table(catalog, dataset.table, trip_columns(dataset), (FILE_MONTH,))
            rejects = ensure_table(catalog, REJECTS, REJECT_COLUMNS, (FILE_MONTH, "dataset"))
            data_file = ""

            def attempt() -> tuple[int, ReceiptStatus]:
                nonlocal data_file
                table.refresh()
                before = _complete_load(catalog, table, month)
                if before == load:  # our own: only the answer to its commit was lost
                    return load.row_count, "published"
                if before and before.is_same_data(load) and not force:
                    return before.row_count, "unchanged"
                if report:
                    report(0, staged.rows)
                retry_transient(attempt_rejects, AFTER_CONFLICTS, retry_on=COMMIT_CONFLICTS)
                commit = None if data_file else run
                data_file = data_file or add_data_file(table, staged, run)
                return _replace_month(table, staged, load, data_file, commit), "published"

            def attempt_rejects() -> None:
                rejects.refresh()
                replace_rejects(rejects, staged, load, rejects_run)

            seconds = self.address.lock_timeout_seconds
            with exclusive(table, seconds) as run, exclusive(rejects, seconds) as rejects_run:
                rows, status = retry_transient(attempt, AFTER_CONFLICTS, retry_on=COMMIT_CONFLICTS)
        if report and status == "published":
            report(rows, staged.rows)
        return Receipt(self.name, rows, status, time.perf_counter() - started)

    def loaded(self, month: TripMonth) -> Load | None:
        """See `Destination.loaded`."""
        if not self.address.exists:
            return None
        day = month.first_day
        with connected(self.address) as catalog:
            if not (table := find_table(catalog, month.dataset.table)):
                return None
            [holding, *_] = ledger.holdings(table.metadata, table.io, month.color, (day, day)) or [None]
        return holding.load if holding and holding.has_its_trips else None

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """See `Destination.holdings`."""
        if not self.address.exists:
            return []
        with connected(self.address) as catalog:
            table = find_table(catalog, dataset.table)
            return _holdings(catalog, table, dataset.name, between) if table else []

    def maintain(self, dataset: Dataset | None, keep: dt.timedelta | None = None) -> Maintained | None:
        """Remove the snapshots of a table that are past their time, and the files that nothing names.

        Args:
            dataset: whose table; None: that of the rejects.
            keep: how long a snapshot is kept; None: as the table's property says, by default five days.

        Returns:
            What was removed; None if there is no table.

        Raises:
            DestinationBusy, DestinationRefused: the catalog cannot be used.
        """
        if not self.address.exists:
            return None
        with _turn, connected(self.address) as catalog:
            if not (table := find_table(catalog, dataset.table if dataset else REJECTS)):
                return None
            with exclusive(table, self.address.lock_timeout_seconds):
                return maintain_table(table, keep)


def _holdings(
    catalog: Catalog, table: Table, dataset: str, between: tuple[dt.date, dt.date]
) -> list[Holding]:
    counts = count_rejects(catalog, dataset, between)
    months = ledger.holdings(table.metadata, table.io, dataset, between)
    return [replace(holding, rejects=counts[holding.file_month]) for holding in months]


def _complete_load(catalog: Catalog, table: Table, month: TripMonth) -> Load | None:
    holdings = _holdings(catalog, table, month.color, (month.first_day, month.first_day))
    return holdings[0].load if holdings and holdings[0].reconciles else None


def _replace_month(table: Table, staged: StagedMonth, load: Load, data_file: str, commit: UUID | None) -> int:
    """Commit one snapshot in which the file is the month; returns the rows that its manifests count."""
    day = staged.month.first_day
    transaction = table.transaction()
    add_columns(transaction, staged.month.dataset, staged.new_columns)
    update = transaction.update_snapshot(snapshot_properties=ledger.to_summary(load))
    with explain_unreadable(staged.path):
        new_file = parquet_file_to_data_file(table.io, transaction.table_metadata, data_file)
    with update.overwrite(commit) as snapshot:
        # A commit of another writer is a conflict only if it touches this month.
        snapshot.delete_by_predicate(ledger.in_months((day, day)))
        for entry in ledger.live_entries(table.metadata, table.io, (day, day)):
            snapshot.delete_data_file(entry.data_file)
        snapshot.append_data_file(new_file)
    transaction.set_properties(ledger.to_property(load, snapshot.snapshot_id))
    entries = ledger.live_entries(transaction.table_metadata, table.io, (day, day))
    rows = sum(entry.data_file.record_count for entry in entries)
    reconcile("iceberg", staged.rows, rows)
    transaction.commit_transaction()
    return rows
