"""The table `taxi_rejects`: the rejected rows of every dataset, replaced just before their month.

Two tables cannot change in one commit. The rejects come first, so that a new month never lacks its rejects.
A run that ends in between leaves the old month whole, beside rejects of another number: `status` says that it
differs, and the next run replaces both.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.expressions.parser import parse
from pyiceberg.io.pyarrow import parquet_file_to_data_file

from flows.destinations.base import REJECTS, reconcile_rejects
from flows.destinations.iceberg.ledger import live_entries, month_of, to_summary
from flows.destinations.iceberg.tables import find_table
from flows.destinations.ledger import REJECT_COLUMNS
from flows.destinations.staged_batches import explain_unreadable
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import ManifestEntry
    from pyiceberg.table import Table

    from flows.destinations.base import Load
    from flows.staging import StagedMonth

BATCH_ROWS = 256
"""Rejected rows may be long."""


def count_rejects(catalog: Catalog, dataset: str, between: tuple[dt.date, dt.date]) -> Counter[dt.date]:
    """Count the rejected rows of months; only manifests are read.

    Args:
        catalog: open.
        dataset: its name.
        between: first and last month, both included.

    Returns:
        The number by month.
    """
    counts = Counter[dt.date]()
    if table := find_table(catalog, REJECTS):
        for entry in _entries(table, dataset, between):
            counts[month_of(entry)] += entry.data_file.record_count
    return counts


def replace_rejects(table: Table, staged: StagedMonth, load: Load, run: UUID) -> None:
    """Commit one snapshot in which a month has the rejected rows of its staged file; none if it had none.

    Args:
        table: of the rejects, fresh; this run has its turn.
        staged: the month.
        load: its row in the ledger.
        run: becomes part of the file's name.

    Raises:
        ReconciliationError: there are more or fewer of them than the staging counted; nothing is committed.
    """
    day = staged.month.first_day
    before = list(_entries(table, load.dataset, (day, day)))
    location = _write(table, staged, staged.rejects_path, run) if staged.rejects_path else None
    if not before and not location:
        reconcile_rejects("iceberg", staged.rejected_rows, 0)
        return
    transaction = table.transaction()
    counted = 0
    with transaction.update_snapshot(snapshot_properties=to_summary(load)).overwrite(run) as snapshot:
        # A commit of another writer is a conflict only if it touches the rejects of this month.
        snapshot.delete_by_predicate(parse(f"{FILE_MONTH} = '{day}' and dataset = '{load.dataset}'"))
        for entry in before:
            snapshot.delete_data_file(entry.data_file)
        if location:
            new_file = parquet_file_to_data_file(table.io, transaction.table_metadata, location)
            snapshot.append_data_file(new_file)
            counted = new_file.record_count
        reconcile_rejects("iceberg", staged.rejected_rows, counted)
    transaction.commit_transaction()


def _entries(table: Table, dataset: str, between: tuple[dt.date, dt.date]) -> Iterator[ManifestEntry]:
    for entry in live_entries(table.metadata, table.io, between):
        if entry.data_file.partition[1] == dataset:
            yield entry


def _write(table: Table, staged: StagedMonth, rejects: Path, run: UUID) -> str:
    """Write the rejected rows, with dataset and month, into a file of the table; returns where it is."""
    month = staged.month
    name = f"{FILE_MONTH}={month.first_day}/dataset={month.color}/{month.stem}-{run}.parquet"
    location, schema = table.location_provider().new_data_location(name), table.schema().as_arrow()
    with (
        explain_unreadable(rejects),
        table.io.new_output(location).create() as output,
        pq.ParquetWriter(output, schema) as writer,
    ):
        for batch in _batches(rejects):
            keys = [pa.repeat(pa.scalar(key), batch.num_rows) for key in (month.color, month.first_day)]
            rows = pa.Table.from_arrays([*keys, *batch.columns], names=list(REJECT_COLUMNS))
            writer.write_table(rows.cast(schema))
    return location


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(BATCH_ROWS)
