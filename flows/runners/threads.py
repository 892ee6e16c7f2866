"""`--runner threads`: each month as a Prefect task run in a thread of this process."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.month import MonthOutcome, landing_ahead, seems_unchanged
from flows.month.flow import etl_month, run_in_threads
from flows.request import LoadRequest
from flows.runners.direct import run_month_directly
from flows.runtime import check_stopped
from transforms.trip_month import TripMonth


@task(name="month", task_run_name="{month.label}", cache_policy=NO_CACHE)
def run_month(month: TripMonth, request: LoadRequest) -> MonthOutcome:
    """Run the subflow of one month; in a task, so that months run side by side and nest in the UI.

    Args:
        month: which one.
        request: what is asked for.

    Returns:
        What became of the month.

    Raises:
        MonthFailed: with the outcome.
    """
    check_stopped()
    if seems_unchanged(month, request):
        # There is nothing to do, and so nothing to show: a subflow and its tasks would take longer than that.
        return run_month_directly(month, request)
    # The parent's heartbeat covers this process. A subflow with one of its own would wait up to a second at
    # its end for the heartbeat thread.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return etl_month(month, request)


def run_as_subflows(months: Sequence[TripMonth], request: LoadRequest) -> list[MonthOutcome]:
    """Run months as task runs of the current flow, as many at once as the request says.

    Args:
        months: which ones.
        request: what is asked for.

    Returns:
        One outcome for each month, in the same order.
    """
    with landing_ahead(months, request):
        return run_in_threads(run_month, months, request, request.runner.months_at_once)
