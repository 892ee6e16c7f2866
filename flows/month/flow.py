"""One month, from its source to every destination: extract, stage, publish."""

from __future__ import annotations

from prefect import flow

from flows.month import tasks
from flows.month.artifacts import month_page
from flows.month.outcome import MonthOutcome, track_month
from flows.request import LoadRequest
from flows.runtime import Layout
from flows.settings import get_settings
from flows.sources import locate_source
from transforms.trip_month import TripMonth


@flow(name="etl-month", flow_run_name="{month.color}-{month.iso}", validate_parameters=False)
def etl_month(month: TripMonth, request: LoadRequest) -> MonthOutcome:
    """Extract, stage and publish one month; a destination that fails does not stop the others.

    Args:
        month: which one.
        request: what is asked for.

    Returns:
        What became of the month.

    Raises:
        MonthFailed: with the outcome; what could be published is published.
    """
    settings, force = get_settings(), request.force
    layout = Layout(request.directory)
    with (
        month_page(month, request.to, layout.data_dir) as page,
        track_month(month, layout.lock(month), settings.lock_timeout_seconds) as page.outcome,
    ):
        outcome = page.outcome
        source = locate_source(request.source, month, settings)
        landed = tasks.extract_cached(month, source, layout.raw(month.color), force=force)
        staged = tasks.stage_month(landed, month, layout.staged(month.color), request.staging, force=force)
        outcome.staged = staged
        for destination in request.to:
            with outcome.publishing_to(destination):
                receipt = tasks.publish_month(staged, destination, layout.data_dir, force=force)
                outcome.receipts[destination] = receipt
        report = tasks.quality(staged)
        page.quality(report)
        outcome.quality = report.headline
    return outcome
