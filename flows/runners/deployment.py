"""`--runner deployment`: each month as a flow run of its own, on whichever worker of the pool takes it.

The parent creates the runs, nested under its own, waits for them, and reads their receipts. A run that
crashes (its process was killed, its worker stopped) is started again; a month that failed is not, because its
tasks have retried what was worth it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, WorkerStatus
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from flows.errors import TaxiError, Terminal
from flows.month import MonthOutcome
from flows.runners.remote import portable_source, verify_outcome
from flows.runners.worker_flow import read_receipt
from flows.runtime import RetryPolicy, retry_transient
from flows.settings import get_settings

if TYPE_CHECKING:
    from flows.request import LoadRequest
    from transforms.trip_month import TripMonth

logger = logging.getLogger("flows.runners")

Result = TypeVar("Result")

MAX_ATTEMPTS = 3
POLL_SECONDS = 1.0
LONGEST_SILENCE_SECONDS = 300.0

RETRIED_STATUS = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
"""Answers of a server, or of the proxy before it, worth another try; a server on SQLite often says 503."""

MAX_RUNS_PER_QUERY = 200
"""The most that a Prefect server answers with."""


class NotDeployed(Terminal):
    """The server does not know the deployment."""


@dataclass
class _Waiting:
    """A month that is not done.

    Attributes:
        run_id: of its flow run.
        attempt: 1 for the first.
    """

    run_id: UUID
    attempt: int = 1


@dataclass
class _Months:
    """The runs of one parent.

    Attributes:
        client: of the server.
        deployment: that runs a month.
        parameters: the same for all runs.
        data_dir: of this machine.
        waiting: months that are not done.
        done: outcomes of the finished months.
    """

    client: SyncPrefectClient
    deployment: str
    parameters: dict[str, Any]
    data_dir: Path
    waiting: dict[TripMonth, _Waiting] = field(default_factory=dict)
    done: dict[TripMonth, MonthOutcome] = field(default_factory=dict)

    def start(self, month: TripMonth, attempt: int = 1) -> None:
        """Create the run of a month; a worker takes it when it can."""
        context = FlowRunContext.get()
        parent = context.flow_run.id if context and context.flow_run else "none"
        create = partial(
            run_deployment,
            self.deployment,
            parameters={**asdict(month), **self.parameters},
            flow_run_name=f"{month.color}-{month.iso}",
            # A parent that is retried itself finds its runs instead of starting second ones.
            idempotency_key=f"{parent}/{month.label}/{attempt}",
            timeout=0,
        )
        run: Any = _retry_server(create)
        self.waiting[month] = _Waiting(run.id, attempt)

    def poll(self) -> None:
        """Ask the server what became of the runs, and conclude those that have ended."""
        months = {waiting.run_id: month for month, waiting in self.waiting.items()}
        ids = list(months)
        for start in range(0, len(ids), MAX_RUNS_PER_QUERY):
            some = ids[start : start + MAX_RUNS_PER_QUERY]
            query = FlowRunFilter(id=FlowRunFilterId(any_=some))
            runs = {run.id: run for run in self.client.read_flow_runs(flow_run_filter=query)}
            for run_id in some:
                self._conclude(months[run_id], runs.get(run_id))

    def _conclude(self, month: TripMonth, run: FlowRun | None) -> None:
        """Note what became of a month, or start it again; nothing while its run goes on."""
        attempt = self.waiting[month].attempt
        if run is None:
            self.done[month] = MonthOutcome(month, error=f"{month.label}: somebody deleted its run")
        elif not run.state or not run.state.is_final():
            return
        elif run.state.is_crashed() and attempt < MAX_ATTEMPTS:
            logger.warning("%s: its run crashed (%s); starting it again", month.label, run.state.message)
            self.start(month, attempt + 1)
            return
        else:
            self.done[month] = verify_outcome(self._outcome(month, run), self.data_dir)
        del self.waiting[month]

    def _outcome(self, month: TripMonth, run: FlowRun) -> MonthOutcome:
        try:
            outcome = read_receipt(self.client, run.id)
        except TaxiError as error:
            return MonthOutcome(month, error=f"{month.label}: {error.message}")
        state: Any = run.state
        if outcome is None or (outcome.error is None and not state.is_completed()):
            message = " ".join((state.message or "").split())
            return MonthOutcome(
                month,
                error=f"{month.label}: its run {run.name} ended as {state.name} ({message}); see its page",
            )
        return outcome

    def cancel(self) -> None:
        """Ask the workers to end what is under way; what has not begun does not begin."""
        for waiting in self.waiting.values():
            self.client.set_flow_run_state(waiting.run_id, Cancelling(message="its parent was interrupted"))


def run_as_deployment(months: Sequence[TripMonth], request: LoadRequest) -> list[MonthOutcome]:
    """Run months as flow runs of the deployment, as many at once as the workers of its pool take.

    Args:
        months: which ones.
        request: what is asked for.

    Returns:
        One outcome for each month, in the same order, verified with the destinations.

    Raises:
        NotDeployed: the server does not know the deployment.
    """
    deployment = get_settings().month_deployment
    parameters = {
        "to": list(request.to),
        "source": portable_source(request.source),
        "force": request.force,
        **asdict(request.staging),
    }
    with get_client(sync_client=True) as client:
        check_deployed(client, deployment)
        runs = _Months(client, deployment, parameters, request.directory)
        try:
            for month in months:
                runs.start(month)
            _wait(runs)
        except BaseException:
            runs.cancel()
            raise
    return [runs.done[month] for month in months]


def _wait(runs: _Months) -> None:
    """Poll until no month is waiting."""
    while runs.waiting:
        time.sleep(POLL_SECONDS)
        _retry_server(runs.poll)


def _retry_server(call: Callable[[], Result]) -> Result:
    """Call the server, for a while: one that is busy or being restarted does not end hours of work."""
    policy = RetryPolicy(
        first_pause_seconds=POLL_SECONDS,
        longest_pause_seconds=POLL_SECONDS,
        total_seconds=LONGEST_SILENCE_SECONDS,
    )

    def announce(error: BaseException, _: float) -> None:
        logger.warning("the Prefect server does not answer (%s); asking again", error)

    return retry_transient(call, policy, retry_on=_is_transient, before_pause=announce)


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in RETRIED_STATUS
    return isinstance(error, httpx.TransportError)


def check_deployed(client: SyncPrefectClient, name: str) -> None:
    """Log which pool works on the months, and warn if it has no worker yet.

    Args:
        client: of the server.
        name: of the deployment, `flow/deployment`.

    Raises:
        NotDeployed: the server does not know the deployment.
    """
    try:
        deployment = client.read_deployment_by_name(name)
    except ObjectNotFound:
        raise NotDeployed(
            f"this Prefect server has no deployment {name}; `taxi-etl deploy` puts it there, "
            "`taxi-etl worker` starts a worker for it, and TAXI_MONTH_DEPLOYMENT names another one"
        ) from None
    pool = deployment.work_pool_name
    workers = client.read_workers_for_work_pool(pool) if pool else []
    if any(worker.status == WorkerStatus.ONLINE for worker in workers):
        logger.info("months as runs of %s on the pool %s", name, pool)
    else:
        logger.warning("no worker of the pool %s is there; the months wait for one: `taxi-etl worker`", pool)
