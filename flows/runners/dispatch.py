"""How the months of a run are worked on: side by side here, on a Dask cluster, or as runs of a deployment.

`threads` works here, and `direct` does so without Prefect. `dask` and `deployment` give each whole month to
one worker with its own scratch space and settings (`TAXI_*`). A small `MonthOutcome` comes back and is
verified with the destinations. docs/explanation/scaling.md says when to choose which.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.month import RunSummary
from flows.runtime import begin_run

if TYPE_CHECKING:
    from flows.month import MonthOutcome
    from flows.request import LoadRequest
    from transforms.trip_month import TripMonth

logger = logging.getLogger("flows.runners")


def run_request(request: LoadRequest) -> RunSummary:
    """Find out which months a request means, and run them.

    Args:
        request: what is asked for, checked.

    Returns:
        One outcome for each month.

    Raises:
        SourceNotFound, SourceUnreachable, SourceBusy, SourceCorrupt: the source cannot tell which months it
            has; nothing was started.
        ClusterUnreachable, NotDeployed: nobody can work on them; nothing was started.
        MonthsFailed: with the summary; the other months are published.
    """
    months = request.selection.resolve(request.color, request.source)
    return RunSummary.concluded(request.color, run_months(months, request))


def run_months(months: Sequence[TripMonth], request: LoadRequest) -> list[MonthOutcome]:
    """Run months; a month that fails does not stop the others.

    Args:
        months: which ones.
        request: what is asked for; its `runner` says who works on them.

    Returns:
        One outcome for each month, in the same order.

    Raises:
        ClusterUnreachable, NotDeployed: nobody can work on them; nothing was started.
    """
    begin_run(len(months))
    at_once = request.runner.months_at_once
    if len(months) > 1 and not request.runner.is_remote:
        logger.info("%d months, %d at once; --concurrency changes it", len(months), min(at_once, len(months)))
    # Imported when chosen: a direct run need not wait for Prefect, nor a run in threads for Dask.
    match request.runner.name:
        case "direct":
            from flows.runners.direct import run_directly

            return run_directly(months, request)
        case "dask":
            from flows.runners.dask import run_on_dask

            return run_on_dask(months, request)
        case "deployment":
            from flows.runners.deployment import run_as_deployment

            return run_as_deployment(months, request)
        case "threads":
            from flows.runners.threads import run_as_tasks

            return run_as_tasks(months, request)
