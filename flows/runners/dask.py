"""`--runner dask`: each whole month on one worker of a Dask cluster and its disk.

A worker that dies costs a retry: Dask gives its months to the others. Only a `MonthOutcome` comes back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prefect import flow, task
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
from flows.month import MonthFailed, MonthOutcome
from flows.month.flow import load_with_tasks, wait_for_result
from flows.request import LoadRequest
from flows.runners.remote import check_source_on_worker, portable_source, verify_outcome
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from prefect_dask.task_runners import DaskTaskRunner

logger = logging.getLogger("flows.runners")

CONNECT_SECONDS = 15


class ClusterUnreachable(Terminal):
    """No Dask scheduler answers."""


@flow(name="etl-month", flow_run_name="{month.color}-{month.iso}", validate_parameters=False)
def etl_month(month: TripMonth, request: LoadRequest) -> MonthOutcome:
    """Run a month as a subflow on a worker: the run of a worker that dies can be found and closed.

    Args:
        month: which one.
        request: what is asked for.

    Returns:
        What became of the month.

    Raises:
        MonthFailed: with the outcome; what could be published is published.
    """
    return load_with_tasks(month, request)


@task(name="month", task_run_name="{month.label}", cache_policy=NO_CACHE)
def run_month_on_worker(month: TripMonth, request: LoadRequest) -> MonthOutcome:
    """What a Dask worker does: one month, as anywhere else.

    Args:
        month: which one.
        request: what is asked for.

    Returns:
        What became of the month.

    Raises:
        MonthFailed: with the outcome.
    """
    # Dask sends this function by value with everything it refers to. Imported here, the rest is the worker's
    # own, and the flow's annotations are resolved where it was declared.
    from flows.runners.dask import close_abandoned_runs, run_subflow

    close_abandoned_runs(month)
    return run_subflow(month, request)


def run_subflow(month: TripMonth, request: LoadRequest) -> MonthOutcome:
    """Run a month for a parent on another machine.

    Args:
        month: which one.
        request: what is asked for.

    Returns:
        What became of the month.

    Raises:
        MonthFailed: with the outcome; nothing else, because not every exception can be pickled.
    """
    try:
        check_source_on_worker(month, request.source)
        return etl_month(month, request)
    except MonthFailed:
        raise
    except Exception as error:
        logger.exception("%s failed", month.label)
        outcome = MonthOutcome.of(month, error)
        raise MonthFailed(str(outcome.error), outcome) from error


def close_abandoned_runs(month: TripMonth) -> None:
    """Mark the runs of a month that a dead worker left behind as crashed; nobody else would.

    Dask gives the task of a month unchanged to another worker, and the parent would show the month twice,
    one of them running forever.

    Args:
        month: which one.
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


def run_on_dask(months: Sequence[TripMonth], request: LoadRequest) -> list[MonthOutcome]:
    """Run months on the workers of a Dask cluster, as many at once as the workers have threads.

    After Ctrl-C the months under way end on their workers, and the others do not begin.

    Args:
        months: which ones.
        request: what is asked for; its `runner` has the scheduler's address.

    Returns:
        One outcome for each month, in the same order, verified with the destinations.

    Raises:
        ClusterUnreachable: no scheduler answers.
    """
    from prefect_dask.task_runners import DaskTaskRunner

    address = request.runner.dask_address
    portable = replace(request, source=portable_source(request.source), data_dir=None)
    with DaskTaskRunner(address=address, client_kwargs={"timeout": CONNECT_SECONDS}) as pool:
        _log_workers(pool, address)
        futures = [
            pool.submit(run_month_on_worker, {"month": month, "request": portable}) for month in months
        ]
        return [
            verify_outcome(MonthOutcome.of(month, wait_for_result(future)), request.directory)
            for month, future in zip(months, futures, strict=True)
        ]


def _log_workers(pool: DaskTaskRunner, address: str | None) -> None:
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
