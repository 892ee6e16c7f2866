"""One month from its source to every destination: extract, stage, publish."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flows.errors import GateFailed
from flows.month import steps
from flows.month.ahead import landed_ahead
from flows.month.gates import Gates
from flows.month.outcome import MonthOutcome, describe_error, track_month
from flows.month.unchanged import destinations_of
from flows.runtime import Layout
from flows.settings import get_settings
from flows.sources import locate_source
from flows.staging import count_rows

if TYPE_CHECKING:
    from flows.month.steps import Pending, Steps
    from flows.request import LoadRequest
    from flows.staging import QualityReport
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)


def load_from_source(month: TripMonth, request: LoadRequest, runs: Steps) -> MonthOutcome:
    """Extract, stage and publish one month; a destination that fails does not stop the others.

    A month that fails a gate is not published anywhere. The destinations and the quality report need the
    staged file and not each other: they run side by side.

    Args:
        month: which one.
        request: what is asked for.
        runs: says how the steps are run.

    Returns:
        What became of the month.

    Raises:
        MonthFailed: with the outcome; what could be published is published.
    """
    settings, force = get_settings(), request.force
    layout = Layout(request.directory)
    ahead = landed_ahead(month)
    with track_month(month, layout.lock(month), settings.lock_timeout_seconds) as outcome:
        outcome.ahead_seconds = ahead.seconds
        source = locate_source(request.source, month, settings)
        landed = runs.run(
            steps.extract, month, source, layout.raw(month.color), force=force, ahead=ahead.file
        )
        with Gates(month, layout.staged(month.color), destinations_of(request)) as gates:
            staged = runs.run(
                steps.stage, landed, month, layout.staged(month.color), request.staging, force=force
            )
            outcome.staged = staged
            counts = count_rows(staged)
            try:
                staged = gates.check(staged, counts, request.staging.accept, force=force)
            except GateFailed:
                outcome.quality = _counts(month, runs.start(steps.quality, staged, counts))
                raise
        outcome.staged = staged
        publishing = {
            name: runs.start(steps.publish, staged, name, layout.data_dir, force=force)
            for name in dict.fromkeys(request.to)
        }
        report = runs.start(steps.quality, staged, counts)
        for name, receipt in publishing.items():
            with outcome.publishing_to(name):
                outcome.receipts[name] = receipt.result()
        outcome.quality = _counts(month, report)
    return outcome


def _counts(month: TripMonth, report: Pending[QualityReport]) -> dict[str, int]:
    """What the report counts; a report that cannot be made does not fail a published month."""
    try:
        return report.result().counts
    except Exception as error:
        logger.warning("%s: published without a quality report (%s)", month.label, describe_error(error))
        logger.debug("quality report of %s", month.label, exc_info=error)
        return {}
