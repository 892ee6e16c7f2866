"""How the months of a run are run: side by side here, on a Dask cluster, or as runs of a deployment.

`threads` (here) needs nothing. `dask` and `deployment` give each month, whole, to one worker that has its own
scratch space and its own settings (`TAXI_*`). What comes back is a small `MonthOutcome`, and the destinations
are asked whether they have what it says. docs/scaling.md says which to choose when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect.exceptions import TerminationSignal
from prefect.task_runners import ThreadPoolTaskRunner

from flows.runners.month_task import MonthRequest, outcome_of, result_of, run_month
from flows.runtime import request_stop
from flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.tasks import Task

    from flows.month import MonthOutcome
    from flows.request import Runner
    from transforms.trip_month import TripMonth


def run_months(runner: Runner, months: Sequence[TripMonth], request: MonthRequest) -> list[MonthOutcome]:
    """Run the months of a parent flow; a month that fails does not stop the others.

    Returns:
        One outcome for each month, in the same order.
    """
    # Imported when chosen: whoever runs months here need not wait for Dask.
    if runner.name == "dask" and runner.dask_address:
        from flows.runners.dask import run_on_dask

        return run_on_dask(months, request, runner.dask_address)
    if runner.name == "deployment":
        from flows.runners.deployment import run_as_deployment

        return run_as_deployment(months, request)
    return run_in_threads(months, request, runner.concurrency or get_settings().concurrency)


def run_in_threads(
    months: Sequence[TripMonth], request: MonthRequest, concurrency: int
) -> list[MonthOutcome]:
    """Months side by side in this process, at most `concurrency` at once."""
    results = run_concurrently(run_month, months, {"request": request}, concurrency)
    return [outcome_of(month, result) for month, result in zip(months, results, strict=True)]


def run_concurrently(
    task: Task[..., MonthOutcome], months: Sequence[TripMonth], parameters: dict[str, Any], concurrency: int
) -> list[Any]:
    """Run a task for each month in threads of this process, at most `concurrency` at once.

    Args:
        task: takes `month` and the parameters.
        months: one task run each.
        parameters: the same for all.
        concurrency: how many at once.

    Returns:
        An outcome or an exception for each month, in the same order.
    """
    with ThreadPoolTaskRunner(max_workers=concurrency) as pool:
        try:
            futures = [pool.submit(task, {"month": month, **parameters}) for month in months]
            return [result_of(future) for future in futures]
        except (KeyboardInterrupt, TerminationSignal):  # Ctrl-C, and SIGTERM as Prefect raises it
            request_stop()  # the months under way end at their next report, the others do not begin
            raise
