"""One month, from its source to every destination: extract, stage, publish."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.month import tasks
from flows.month.artifacts import month_page
from flows.month.outcome import MonthOutcome, track_month
from flows.runtime import Layout
from flows.settings import get_settings
from flows.sources import locate_source
from flows.staging import StagingOptions
from transforms.trip_month import TripMonth


@flow(name="etl-month", flow_run_name="{color}-{year}-{month:02}")
def etl_month(
    color: str,
    year: int,
    month: int,
    to: tuple[str, ...] = ("duckdb",),
    source: str = "dtc",
    data_dir: Path | None = None,
    *,
    force: bool = False,
    options: StagingOptions | None = None,
) -> MonthOutcome:
    """Extract, stage and publish one month; a destination that fails does not stop the others.

    Raises:
        MonthFailed: with the outcome; what could be published is published.
    """
    trips, settings = TripMonth(color, year, month), get_settings()
    layout = Layout(data_dir or settings.data_dir)
    options = options or StagingOptions(max_reject_ratio=settings.max_reject_ratio)
    with (
        month_page(trips, to, layout.data_dir) as page,
        track_month(trips, layout.lock(trips), settings.lock_timeout_seconds) as page.outcome,
    ):
        outcome = page.outcome
        file = locate_source(source, trips, settings)
        landed = tasks.extract_cached(trips, file, layout.raw(color), force=force)
        staged = tasks.stage(landed, trips, layout.staged(color), options, force=force)
        outcome.staged = staged
        for destination in to:
            with outcome.publishing_to(destination):
                outcome.receipts[destination] = tasks.publish(
                    staged, destination, layout.data_dir, force=force
                )
        report = tasks.quality(staged)
        page.quality(report)
        outcome.quality = report.headline
    return outcome
