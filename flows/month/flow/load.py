"""One month within a flow run: its steps as tasks, and its page in the UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.month.flow.artifacts import month_page
from flows.month.flow.tasks import TaskSteps
from flows.month.from_source import load_from_source

if TYPE_CHECKING:
    from flows.month.outcome import MonthOutcome
    from flows.request import LoadRequest
    from transforms.trip_month import TripMonth


def load_with_tasks(month: TripMonth, request: LoadRequest) -> MonthOutcome:
    """Extract, stage and publish one month; a destination that fails does not stop the others.

    Args:
        month: which one.
        request: what is asked for.

    Returns:
        What became of the month.

    Raises:
        MonthFailed: with the outcome; what could be published is published.
    """
    with month_page(month, request.to, request.directory) as page:
        page.outcome = load_from_source(month, request, TaskSteps(page))
    return page.outcome
