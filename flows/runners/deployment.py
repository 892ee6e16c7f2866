"""`--runner deployment`: each month as a flow run of its own, on whichever worker of the pool takes it.

The parent creates the runs, nested under its own, waits for them, and reads their receipts. A run that
crashes (its process was killed, its worker stopped) is started again; a month that failed is not, because its
tasks have tried again what was worth it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import WorkerStatus
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_fixed

from flows.errors import TaxiError, Terminal
from flows.month import MonthOutcome
from flows.runners.remote import confirmed, portable_source
from flows.runners.worker_flow import read_receipt
from flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from flows.runners.month_task import MonthRequest
    from transforms.trip_month import TripMonth

logger = logging.getLogger("flows.runners")

Result = TypeVar("Result")

MOST_ATTEMPTS = 3
POLL_SECONDS = 1.0
LONGEST_SILENCE_SECONDS = 300.0
BUSY = {429, 502, 503, 504}
"""What a server, or the proxy before it, answers that is worth another try; one on SQLite says 503 often."""

RUNS_ASKED_AT_ONCE = 200
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
        parameters: what all runs have in common.
        data_dir: of this machine.
        waiting: months that are not done.
        done: what became of the others.
    """

    client: SyncPrefectClient
    deployment: str
    parameters: dict[str, Any]
    data_dir: Path
    waiting: dict[TripMonth, _Waiting] = field(default_factory=dict)
    done: dict[TripMonth, MonthOutcome] = field(default_factory=dict)

    def start(self, month: TripMonth, attempt: int = 1) -> None:
        """Create the run of a month; a worker takes it when it can."""
        which = {"color": month.color, "year": month.year, "month": month.month}
        context = FlowRunContext.get()
        parent = context.flow_run.id if context and context.flow_run else "none"
        run: Any = _patiently(
            run_deployment,
            self.deployment,
            parameters={**which, **self.parameters},
            flow_run_name=f"{month.color}-{month.iso}",
            # A parent that is itself tried again finds its runs instead of starting a second one.
            idempotency_key=f"{parent}/{month.label}/{attempt}",
            timeout=0,
        )
        self.waiting[month] = _Waiting(run.id, attempt)

    def look(self) -> None:
        """Ask the server what has become of the runs, and conclude those that are over."""
        months = {waiting.run_id: month for month, waiting in self.waiting.items()}
        ids = list(months)
        for at in range(0, len(ids), RUNS_ASKED_AT_ONCE):
            some = ids[at : at + RUNS_ASKED_AT_ONCE]
            asked = FlowRunFilter(id=FlowRunFilterId(any_=some))
            found = {run.id: run for run in self.client.read_flow_runs(flow_run_filter=asked)}
            for run_id in some:
                self._conclude(months[run_id], found.get(run_id))

    def _conclude(self, month: TripMonth, run: FlowRun | None) -> None:
        """Note what became of a month, or start it again; nothing if its run goes on."""
        attempt = self.waiting[month].attempt
        if run is None:
            self.done[month] = MonthOutcome(month, error=f"{month.label}: somebody deleted its run")
        elif not run.state or not run.state.is_final():
            return
        elif run.state.is_crashed() and attempt < MOST_ATTEMPTS:
            logger.warning("%s: its run crashed (%s); starting it again", month.label, run.state.message)
            self.start(month, attempt + 1)
            return
        else:
            self.done[month] = confirmed(self._outcome(month, run), self.data_dir)
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
        """Let the workers end what is under way; what has not begun does not begin."""
        for waiting in self.waiting.values():
            self.client.set_flow_run_state(waiting.run_id, Cancelling(message="its parent was interrupted"))


def run_as_deployment(months: Sequence[TripMonth], request: MonthRequest) -> list[MonthOutcome]:
    """Months as flow runs of the deployment, as many at once as the workers of its pool take.

    Raises:
        NotDeployed: the server does not know the deployment.
    """
    settings = get_settings()
    parameters = {
        "to": list(request.to),
        "source": portable_source(request.source),
        "force": request.force,
        "allow_new_columns": request.options.allow_new_columns,
        "row_transforms": list(request.options.row_transforms),
        "max_reject_ratio": request.options.max_reject_ratio,
    }
    with get_client(sync_client=True) as client:
        check_deployed(client, settings.month_deployment)
        data_dir = request.data_dir or settings.data_dir
        runs = _Months(client, settings.month_deployment, parameters, data_dir)
        try:
            for month in months:
                runs.start(month)
            _wait(runs)
        except BaseException:
            runs.cancel()
            raise
    return [runs.done[month] for month in months]


def _wait(runs: _Months) -> None:
    """Look until no month is waiting."""
    while runs.waiting:
        time.sleep(POLL_SECONDS)
        _patiently(runs.look)


def _patiently(ask: Callable[..., Result], *arguments: Any, **named: Any) -> Result:  # noqa: ANN401 - passed on
    """Ask the server, again if need be: one that is restarted, or busy, does not end hours of work."""

    def say(state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        logger.warning("the Prefect server does not answer (%s); asking again", error)

    attempts = Retrying(
        retry=retry_if_exception(_is_passing),
        wait=wait_fixed(POLL_SECONDS),
        stop=stop_after_delay(LONGEST_SILENCE_SECONDS),
        before_sleep=say,
        reraise=True,
    )
    return attempts(ask, *arguments, **named)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in BUSY
    return isinstance(error, httpx.TransportError)


def check_deployed(client: SyncPrefectClient, name: str) -> None:
    """Say which pool will do it, and warn if nobody works there yet.

    Raises:
        NotDeployed: the server does not know the deployment.
    """
    try:
        deployment = client.read_deployment_by_name(name)
    except ObjectNotFound:
        raise NotDeployed(
            f"this Prefect server has no deployment {name}; `make deploy` puts it there, `make worker` "
            "starts a worker for it, and TAXI_MONTH_DEPLOYMENT names another one"
        ) from None
    pool = deployment.work_pool_name
    workers = client.read_workers_for_work_pool(pool) if pool else []
    if any(worker.status == WorkerStatus.ONLINE for worker in workers):
        logger.info("months as runs of %s on the pool %s", name, pool)
    else:
        logger.warning("no worker of the pool %s is there; the months wait for one: `make worker`", pool)
