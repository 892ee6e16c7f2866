"""`--runner dask`: each month whole on one worker of a Dask cluster, the worker's own disk as scratch space.

A worker that dies costs a retry: Dask gives its months to the others. Only a `MonthOutcome` comes back.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.context import SyncClientContext, TaskRunContext
from prefect.states import Crashed

from flows.errors import Terminal
from flows.month import MonthFailed, MonthOutcome, describe_error
from flows.runners.month_task import MonthRequest, as_subflow, wait_for
from flows.runners.remote import check_source_on_worker, confirmed, portable_source
from flows.settings import get_settings
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect_dask.task_runners import DaskTaskRunner

logger = logging.getLogger("flows.runners")

CONNECT_SECONDS = 15


class ClusterUnreachable(Terminal):
    """No Dask scheduler answers."""


@task(name="month", task_run_name="{month.label}", cache_policy=NO_CACHE)
def run_month_on_worker(month: TripMonth, request: MonthRequest) -> MonthOutcome:
    """What a Dask worker does: one month, as anywhere else.

    Raises:
        MonthFailed: with the outcome.
    """
    # Dask sends this function by value, with what it refers to. Imported here, the rest is the worker's own,
    # and the flow's annotations are found where it was declared.
    from flows.runners.dask import close_abandoned_runs, run_month_here

    close_abandoned_runs(month)
    return run_month_here(month, request)


def run_month_here(month: TripMonth, request: MonthRequest) -> MonthOutcome:
    """Run a month for a parent on another machine.

    Raises:
        MonthFailed: with the outcome; nothing else, because not every exception survives the journey.
    """
    try:
        check_source_on_worker(month, request.source)
        return as_subflow(month, request)
    except MonthFailed:
        raise
    except Exception as error:
        logger.exception("%s failed", month.label)
        outcome = MonthOutcome(month, error=f"{month.label}: {describe_error(error)}")
        raise MonthFailed(str(outcome.error), outcome) from error


def close_abandoned_runs(month: TripMonth) -> None:
    """Say of the runs that a dead worker has left behind that they crashed; nobody else would.

    Dask gives the task of a month to another worker as it is, and the parent would show the month twice, once
    running for ever.
    """
    context = TaskRunContext.get()
    parent = context.task_run.flow_run_id if context else None
    if not parent:
        return
    abandoned = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent]),
        name=FlowRunFilterName(any_=[f"{month.color}-{month.iso}"]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])),
    )
    with SyncClientContext.get_or_create() as connection:
        for run in connection.client.read_flow_runs(flow_run_filter=abandoned):
            state = Crashed(message="its Dask worker died; another one has the month")
            connection.client.set_flow_run_state(run.id, state, force=True)
            logger.warning("%s: its worker died; starting it again", month.label)


def run_on_dask(months: Sequence[TripMonth], request: MonthRequest, address: str) -> list[MonthOutcome]:
    """Months on the workers of the scheduler at `address`, as many at once as the workers have threads.

    After Ctrl-C the months under way end on their workers, and the others do not begin.

    Raises:
        ClusterUnreachable: no scheduler answers.
    """
    from prefect_dask.task_runners import DaskTaskRunner

    data_dir = request.data_dir or get_settings().data_dir
    travelling = replace(request, source=portable_source(request.source), data_dir=None)
    with DaskTaskRunner(address=address, client_kwargs={"timeout": CONNECT_SECONDS}) as pool:
        _greet(pool, address)
        futures = {
            month: pool.submit(run_month_on_worker, {"month": month, "request": travelling})
            for month in months
        }
        return wait_for(futures, functools.partial(confirmed, data_dir=data_dir))


def _greet(pool: DaskTaskRunner, address: str) -> None:
    try:
        threads: Any = pool.client.nthreads()
    except OSError as error:
        raise ClusterUnreachable(
            f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`, or correct "
            "--dask-address"
        ) from error
    if threads:
        logger.info("%d Dask workers, %d months at once", len(threads), sum(threads.values()))
    else:
        logger.warning("no worker has come to %s yet; start one with `dask worker %s`", address, address)
