"""One month from the bucket to BigQuery: by a load job, or through this machine if rows are transformed."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from flows.destinations import ALL_MONTHS, Receipt
from flows.errors import SourceNotFound, TaxiError, error_context
from flows.month.ends import BUCKET, WAREHOUSE
from flows.month.gates import Neighbours, pass_gates
from flows.month.outcome import MonthOutcome
from flows.request import LoadRequest, configured_destination, with_blocks
from flows.runtime import Layout, ProgressCallback, atomic_write, file_lock, reporter
from flows.settings import get_settings
from flows.staging import StagedMonth, StagingOptions, count_rows, metadata_of, write_parquet
from transforms.datasets import DATASETS
from transforms.gates import LEAST_ROWS, RowCounts
from transforms.row_transforms import apply_row_transforms
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from flows.destinations.gcs import MonthInBucket, MonthsInBucket

logger = logging.getLogger(__name__)

BATCH_ROWS = 131_072


def load_from_bucket(
    month: TripMonth, data_dir: Path, staging: StagingOptions | None = None, *, force: bool = False
) -> MonthOutcome:
    """Load one month from the bucket into BigQuery.

    Args:
        month: the month.
        data_dir: for the lock, and for the rows if they are transformed here.
        staging: its row transforms, with any of which the month is downloaded, transformed here and streamed
            to BigQuery, and the measures that are accepted.
        force: load the month even if BigQuery already has it.

    Returns:
        The outcome, with BigQuery's receipt.

    Raises:
        TaxiError: what is wrong; the month in BigQuery is as it was before, or counts as not loaded.
    """
    # Imported here, because Google's libraries would add a second to the start of every other command.
    from flows.destinations.bigquery import LoadJobs
    from flows.destinations.gcs import MonthsInBucket

    started, settings = time.perf_counter(), get_settings()
    layout, staging = Layout(data_dir), staging or StagingOptions()
    row_transforms = staging.row_transforms
    with error_context(month.label), file_lock(layout.lock(month), settings.lock_timeout_seconds):
        months = MonthsInBucket.from_settings(data_dir, with_blocks(settings, [BUCKET]))
        in_bucket = _pass_gates(months, months.find(month), layout, staging, force=force)
        outcome = MonthOutcome(month, staged=in_bucket.as_staged(Path(in_bucket.stored.name)))
        with error_context(f"{month.label} -> {WAREHOUSE}"):
            if row_transforms:
                receipt = _transform_locally(outcome, months, in_bucket, layout, row_transforms, force=force)
            else:
                jobs = LoadJobs.from_settings(data_dir, with_blocks(settings, [WAREHOUSE]))
                receipt = jobs.load(in_bucket, is_current=lambda: months.is_current(in_bucket), force=force)
                reporter(month.label, "load")(receipt.rows, receipt.rows)
    outcome.receipts[WAREHOUSE] = receipt
    outcome.seconds = time.perf_counter() - started
    outcome.finish()
    return outcome


def months_in_bucket(request: LoadRequest) -> list[TripMonth]:
    """The months that a request selects; the bucket is listed if only it can tell.

    Args:
        request: what is asked for.

    Returns:
        The months in calendar order.

    Raises:
        SourceNotFound: the bucket has no such month.
        DestinationBusy, DestinationRefused: the bucket cannot be listed.
    """
    color = request.color

    def newest(count: int, since: TripMonth | None) -> list[TripMonth]:
        first_day = since.first_day if since else ALL_MONTHS[0]
        bucket = configured_destination(BUCKET, request.directory)
        held = bucket.holdings(DATASETS[color], (first_day, ALL_MONTHS[1]))
        if not held:
            raise SourceNotFound(
                f"the bucket has no month of {color}{f' from {since.iso} on' if since else ''}; upload some "
                f"first: taxi-etl web-to-gcs --color {color} ..."
            )
        if len(held) < count:
            logger.warning("%s: the bucket has %d months, not %d", color, len(held), count)
        return [TripMonth.of_date(color, holding.file_month) for holding in held[-count:]]

    return request.selection.resolve_by(color, newest)


def _pass_gates(
    months: MonthsInBucket,
    in_bucket: MonthInBucket,
    layout: Layout,
    staging: StagingOptions,
    *,
    force: bool,
) -> MonthInBucket:
    """Hold the month against its gates; the result has its warnings."""
    month, load = in_bucket.month, in_bucket.load
    staged = in_bucket.as_staged(Path(in_bucket.stored.name), more=staging.row_transforms)
    odd: Mapping[str, int] = dict(staged.odd)
    nulls_before = None
    if load.row_count >= LEAST_ROWS:
        odd = odd or _count_odd_rows(months, in_bucket, layout)
        with contextlib.suppress(TaxiError):  # there is no month before
            before = months.find(month.later(-1))
            nulls_before = before.load.row_count, before.nulls
    counts = RowCounts(load.row_count, load.source_rows, load.rejected_rows, odd, in_bucket.nulls)
    held = months.holdings(month.dataset, (month.later(-1).first_day, month.later(1).first_day))
    rows = {
        TripMonth.of_date(month.color, one.file_month): one.rows
        for one in held
        if one.rows and one.file_month != month.first_day
    }
    warehouse = [] if force else [partial(configured_destination, WAREHOUSE, layout.data_dir)]
    judged = pass_gates(staged, counts, Neighbours(rows, nulls_before), staging.accept, warehouse)
    return replace(in_bucket, load=replace(load, warnings="; ".join(judged.warnings) or None))


def _count_odd_rows(months: MonthsInBucket, in_bucket: MonthInBucket, layout: Layout) -> Mapping[str, int]:
    """Count what the object does not say, because an earlier version has uploaded it."""
    path = layout.transformed(in_bucket.month.color) / f"{in_bucket.month.stem}.original.parquet"
    try:
        months.download(in_bucket.stored, path)
        return count_rows(in_bucket.as_staged(path)).odd
    finally:
        path.unlink(missing_ok=True)


def _transform_locally(
    outcome: MonthOutcome,
    months: MonthsInBucket,
    in_bucket: MonthInBucket,
    layout: Layout,
    row_transforms: tuple[str, ...],
    *,
    force: bool,
) -> Receipt:
    """Download, transform, and publish through the Storage Write API, unless that has been done."""
    month, started = in_bucket.month, time.perf_counter()
    destination = configured_destination(WAREHOUSE, layout.data_dir)
    loaded = None if force else destination.loaded(month)
    staged = in_bucket.as_staged(Path(in_bucket.stored.name), more=row_transforms)
    if loaded and loaded.is_of(staged.source_sha256, staged.schema_version, staged.row_transforms):
        return Receipt(WAREHOUSE, loaded.row_count, "unchanged", time.perf_counter() - started)
    directory = layout.transformed(month.color)
    download = reporter(month.label, "download")
    outcome.staged = transformed(months, in_bucket, directory, row_transforms, download)
    return destination.publish(outcome.staged, force=force, report=reporter(month.label, WAREHOUSE))


def transformed(
    months: MonthsInBucket,
    in_bucket: MonthInBucket,
    directory: Path,
    row_transforms: Sequence[str],
    report: ProgressCallback | None = None,
) -> StagedMonth:
    """Download a month, apply row transforms, and write the result as a staged file.

    Memory use does not depend on the size of the file. The disk holds the month twice meanwhile, and once
    afterwards.

    Args:
        months: the bucket.
        in_bucket: the object of the month.
        directory: for the result, `{stem}.parquet`; an existing file is replaced.
        row_transforms: names from `transforms.row_transforms.ROW_TRANSFORMS`, in order.
        report: called with (bytes downloaded, bytes in total).

    Returns:
        The staged month, with the number of rows after the transforms.

    Raises:
        DestinationBusy: the object was replaced during the download.
        LocalStorageError: the disk cannot be read or written.
    """
    original = directory / f"{in_bucket.month.stem}.original.parquet"
    path = directory / f"{in_bucket.month.stem}.parquet"
    rejects = directory / f"{in_bucket.month.stem}.rejects.parquet"
    schema = in_bucket.month.dataset.arrow_schema(in_bucket.new_columns)
    try:
        months.download(in_bucket.stored, original, report)
        if in_bucket.rejects:
            months.download(in_bucket.rejects, rejects)
        frame = apply_row_transforms(pl.scan_parquet(original), row_transforms)
        with atomic_write(path) as temporary:
            parts = frame.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
            planned = in_bucket.as_staged(path, more=tuple(row_transforms))
            written = write_parquet(temporary, schema, parts, metadata_of(planned))
    finally:
        original.unlink(missing_ok=True)
    return in_bucket.as_staged(
        path, written.rows, tuple(row_transforms), rejects if in_bucket.rejects else None
    )
