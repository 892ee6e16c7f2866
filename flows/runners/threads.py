"""`--runner threads`: each month as a subflow in a thread of this process.

The runs of the next months are created while the current ones are worked on: when several threads write at
once, a Prefect server on SQLite often refuses to create a run, and Prefect's client then waits for seconds.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from prefect import Flow, Task
from prefect.context import FlowRunContext, SyncClientContext
from prefect.exceptions import MissingContextError
from prefect.flow_engine import run_flow_sync
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Cancelled, Pending

from flows.month import MonthOutcome, landing_ahead, seems_unchanged
from flows.month.flow import etl_month
from flows.runners.direct import run_month_directly
from flows.runners.prefect_requests import retry_server
from flows.runners.side_by_side import run_side_by_side
from flows.runtime import CONTENTION, RetryPolicy

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from flows.request import LoadRequest
    from transforms.trip_month import TripMonth

SOON = RetryPolicy(
    first_pause_seconds=0.05, longest_pause_seconds=1.0, total_seconds=300.0, jitter=CONTENTION
)
"""Pauses after a refusal; Prefect's client would wait 2 s, then 4 s, and so on."""


def run_as_subflows(months: Sequence[TripMonth], request: LoadRequest) -> list[MonthOutcome]:
    """Run months as subflows of the current flow, as many at once as the request says.

    A month for which there is nothing to do has no run of its own, only a line in the log of the flow.

    Args:
        months: which ones.
        request: what is asked for.

    Returns:
        One outcome for each month, in the same order.
    """
    with landing_ahead(months, request), _RunsAhead(months, request) as runs:
        return run_side_by_side(runs.run, months, request)


class _RunsAhead:
    """Creates the runs of months in their order, twice as many ahead as are worked on at once."""

    def __init__(self, months: Sequence[TripMonth], request: LoadRequest) -> None:
        self._request = request
        self._remaining = iter(months)
        self._pool = ThreadPoolExecutor(1, "create-run")
        self._runs: dict[TripMonth, Future[FlowRun | None]] = {}
        for _ in range(2 * request.runner.months_at_once):
            self._create_next()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the runs that no month has begun; there are some if the flow ends early."""
        self._pool.shutdown(cancel_futures=True)
        for future in self._runs.values():
            with contextlib.suppress(Exception), SyncClientContext.get_or_create() as context:
                if run := future.result(0):
                    state = Cancelled(message="The run ended before this month began.")
                    context.client.set_flow_run_state(run.id, state, force=True)

    def run(self, month: TripMonth, request: LoadRequest) -> MonthOutcome:
        """Run a month, once."""
        self._create_next()
        run = self._runs[month].result()
        del self._runs[month]
        if run is None:
            outcome = run_month_directly(month, request)
            get_run_logger().info("%s: %s", month.label, outcome.status)
            return outcome
        # The parent's heartbeat covers this process. A subflow with one of its own would wait up to a
        # second at its end for the heartbeat thread.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            outcome: Any = run_flow_sync(etl_month, run, {"month": month, "request": request})
            return outcome

    def _create_next(self) -> None:
        if month := next(self._remaining, None):
            self._runs[month] = self._pool.submit(copy_context().run, self._create, month)

    def _create(self, month: TripMonth) -> FlowRun | None:
        """Create the run of a month below the current one; None if there is nothing to do for the month."""
        if seems_unchanged(month, self._request):
            return None
        parameters = {"month": month, "request": self._request}
        create = partial(create_subflow_run, etl_month, parameters, month.label)
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            return retry_server(create, SOON, logging.DEBUG)


def create_subflow_run(flow: Flow[..., Any], parameters: dict[str, Any], key: str) -> FlowRun:
    """Create the run of a subflow without running it, as Prefect does when a subflow is called.

    Args:
        flow: the subflow.
        parameters: of the run.
        key: no other run of the subflow below the current run has it.

    Returns:
        The run, pending.

    Raises:
        MissingContextError: there is no current run.
    """
    parent = FlowRunContext.get()
    if not (parent and parent.flow_run):
        raise MissingContextError("a subflow needs a flow run above it")
    tracking: Task[..., Any] = Task(flow.fn, name=flow.name)
    with SyncClientContext.get_or_create() as context:
        client = context.client
        below = client.create_task_run(tracking, parent.flow_run.id, key, name=key, state=Pending())
        return client.create_flow_run(
            flow,
            parameters=flow.serialize_parameters(parameters),
            parent_task_run_id=below.id,
            state=Pending(),
        )
