"""One month from the bucket into BigQuery: by a load job, or, with row transforms, through this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from flows.destinations import Receipt
from flows.destinations.bigquery import LoadJobs
from flows.destinations.gcs import MonthInBucket, MonthsInBucket
from flows.errors import error_context
from flows.month.outcome import MonthOutcome
from flows.request import configured_destination, with_blocks
from flows.runtime import Layout, atomic_write, file_lock, reporter
from flows.settings import get_settings
from flows.staging import write_parquet
from transforms.cleaning import apply_row_transforms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.runtime import ProgressCallback
    from flows.staging import StagedMonth
    from transforms.trip_month import TripMonth

BUCKET, WAREHOUSE = "gcs", "bigquery"
BATCH_ROWS = 131_072


def load(
    month: TripMonth, data_dir: Path, row_transforms: tuple[str, ...] = (), *, force: bool = False
) -> MonthOutcome:
    """Bring one month from the bucket into BigQuery.

    Args:
        month: which one.
        data_dir: for the lock, and for the rows if they have to come here.
        row_transforms: names from `transforms.cleaning.ROW_TRANSFORMS`; with any, the month is downloaded,
            changed here and streamed to BigQuery.
        force: load it even if it is there already.

    Raises:
        TaxiError: what is wrong; the month in BigQuery is as it was, or counts as not loaded.
    """
    started, settings = time.perf_counter(), get_settings()
    layout = Layout(data_dir)
    with error_context(month.label), file_lock(layout.lock(month), settings.lock_timeout_seconds):
        months = MonthsInBucket.from_settings(data_dir, with_blocks(settings, [BUCKET]))
        found = months.find(month)
        outcome = MonthOutcome(month, staged=found.as_staged(Path(found.stored.name)))
        with error_context(f"{month.label} -> {WAREHOUSE}"):
            if row_transforms:
                receipt = _through_here(outcome, months, found, layout, row_transforms, force=force)
            else:
                jobs = LoadJobs.from_settings(data_dir, with_blocks(settings, [WAREHOUSE]))
                receipt = jobs.load(found, is_current=lambda: months.is_current(found), force=force)
                reporter(month.label, "load")(receipt.rows, receipt.rows)
    outcome.receipts[WAREHOUSE] = receipt
    outcome.seconds = time.perf_counter() - started
    return outcome


def _through_here(
    outcome: MonthOutcome,
    months: MonthsInBucket,
    found: MonthInBucket,
    layout: Layout,
    row_transforms: tuple[str, ...],
    *,
    force: bool,
) -> Receipt:
    """Download, transform, and publish through the Storage Write API, unless that has been done."""
    month, started = found.month, time.perf_counter()
    destination = configured_destination(WAREHOUSE, layout.data_dir)
    there = None if force else destination.loaded(month)
    wanted = found.as_staged(Path(found.stored.name), more=row_transforms)
    if there and there.is_of(wanted.source_sha256, wanted.schema_version, wanted.row_transforms):
        return Receipt(WAREHOUSE, there.row_count, "unchanged", time.perf_counter() - started)
    directory = layout.data_dir / "gcs_to_bq" / month.color
    download = reporter(month.label, "download")
    outcome.staged = transformed(months, found, directory, row_transforms, download)
    return destination.publish(outcome.staged, force=force, report=reporter(month.label, WAREHOUSE))


def transformed(
    months: MonthsInBucket,
    found: MonthInBucket,
    directory: Path,
    row_transforms: Sequence[str],
    report: ProgressCallback | None = None,
) -> StagedMonth:
    """Download a month, apply the named transforms, and write the result as a staged file.

    Memory does not grow with the file; the disk holds the month twice while this runs, and once afterwards.

    Args:
        months: the bucket.
        found: the object.
        directory: where the file goes, `{stem}.parquet`; replaced.
        row_transforms: names from `transforms.cleaning.ROW_TRANSFORMS`, in order.
        report: called with (bytes downloaded, bytes in all).

    Raises:
        DestinationBusy: the object was replaced meanwhile.
        LocalStorageError: the disk refused.
    """
    original = directory / f"{found.month.stem}.original.parquet"
    path = directory / f"{found.month.stem}.parquet"
    schema = found.month.dataset.arrow_schema(found.new_columns)
    try:
        months.download(found, original, report)
        frame = apply_row_transforms(pl.scan_parquet(original), row_transforms)
        with atomic_write(path) as temporary:
            parts = frame.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
            written = write_parquet(temporary, schema, parts, {})
    finally:
        original.unlink(missing_ok=True)
    return found.as_staged(path, written.rows, tuple(row_transforms))
