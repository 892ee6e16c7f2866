"""How the months of a run are worked on: side by side here, on a Dask cluster, or as runs of a deployment.

`threads` (here) needs nothing. `dask` and `deployment` give each whole month to one worker with its own
scratch space and settings (`TAXI_*`). A small `MonthOutcome` comes back and is verified with the
destinations. docs/scaling.md says when to choose which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect.exceptions import TerminationSignal
from prefect.task_runners import ThreadPoolTaskRunner

from flows.runners.month_task import run_month, to_outcome, wait_for_result
from flows.runtime import request_stop
from flows.settings import get_settings

if TYPE_CHECKING:
    from prefect.tasks import Task

    from flows.month import MonthOutcome
    from flows.request import LoadRequest
    from transforms.trip_month import TripMonth


def run_months(months: Sequence[TripMonth], request: LoadRequest) -> list[MonthOutcome]:
    """Run the months of a parent flow; a month that fails does not stop the others.

    Args:
        months: which ones.
        request: what is asked for; its `runner` says who works on them.

    Returns:
        One outcome for each month, in the same order.

    Raises:
        ClusterUnreachable, NotDeployed: nobody can work on them; nothing was started.
    """
    # Imported when chosen: a run in threads need not wait for Dask.
    if request.runner.name == "dask":
        from flows.runners.dask import run_on_dask

        return run_on_dask(months, request)
    if request.runner.name == "deployment":
        from flows.runners.deployment import run_as_deployment

        return run_as_deployment(months, request)
    return run_concurrently(run_month, months, request)


def run_concurrently(
    task: Task[..., MonthOutcome], months: Sequence[TripMonth], request: LoadRequest
) -> list[MonthOutcome]:
    """Run a task for each month in threads of this process, as many at once as the request says.

    Args:
        task: takes a month and the request.
        months: one task run each.
        request: what is asked for.

    Returns:
        One outcome for each month, in the same order.
    """
    concurrency = request.runner.concurrency or get_settings().concurrency
    with ThreadPoolTaskRunner(max_workers=concurrency) as pool:
        try:
            futures = [pool.submit(task, {"month": month, "request": request}) for month in months]
            results: list[Any] = [wait_for_result(future) for future in futures]
        except (KeyboardInterrupt, TerminationSignal):  # Ctrl-C, and SIGTERM as Prefect raises it
            request_stop()  # months under way end at their next progress report, the others do not begin
            raise
    return [to_outcome(month, result) for month, result in zip(months, results, strict=True)]
