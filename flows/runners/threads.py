"""`--runner threads`: each month as a Prefect task run in a thread of this process, its steps within it."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.month import MonthOutcome, landing_ahead, seems_unchanged
from flows.month.flow import load_with_tasks, run_in_threads
from flows.request import LoadRequest
from flows.runners.direct import run_month_directly
from flows.runtime import check_stopped
from transforms.trip_month import TripMonth


# A task and not a subflow: creating a subflow takes requests that a server on SQLite refuses for a while
# (503) when months run side by side.
@task(name="month", task_run_name="{month.label}", cache_policy=NO_CACHE)
def run_month(month: TripMonth, request: LoadRequest) -> MonthOutcome:
    """Run one month.

    Args:
        month: which one.
        request: what is asked for.

    Returns:
        What became of the month.

    Raises:
        MonthFailed: with the outcome.
    """
    check_stopped()
    if seems_unchanged(month, request):  # verified all the same, but without steps to show
        return run_month_directly(month, request)
    return load_with_tasks(month, request)


def run_as_tasks(months: Sequence[TripMonth], request: LoadRequest) -> list[MonthOutcome]:
    """Run months as task runs of the current flow, as many at once as the request says.

    Args:
        months: which ones.
        request: what is asked for.

    Returns:
        One outcome for each month, in the same order.
    """
    with landing_ahead(months, request):
        return run_in_threads(run_month, months, request, request.runner.months_at_once)
