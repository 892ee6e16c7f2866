"""One month as a task run: what every runner hands over, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.month import MonthFailed, MonthOutcome, describe_error, etl_month
from flows.runtime import check_stopped
from flows.staging import StagingOptions
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from prefect.futures import PrefectFuture

POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class MonthRequest:
    """What all months of a run have in common; see `flows.parent.etl_parent_flow`.

    Attributes:
        to: destinations by name.
        source: `dtc`, `tlc`, `synthetic` or a template.
        data_dir: files and local warehouse; None: the setting of whoever runs the month.
        force: fetch, stage and publish even what is unchanged.
        options: of the staging.
    """

    to: tuple[str, ...]
    source: str
    data_dir: Path | None
    force: bool = False
    options: StagingOptions = field(default_factory=StagingOptions)


@task(name="month", task_run_name="{month.label}", cache_policy=NO_CACHE)
def run_month(month: TripMonth, request: MonthRequest) -> MonthOutcome:
    """One month as a subflow; a task, so that months can run side by side and nest in the UI.

    Raises:
        MonthFailed: with the outcome.
    """
    check_stopped()
    # The run around it says that this process is alive. A subflow that said so too would wait up to a second
    # at its end for the thread that says it.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return as_subflow(month, request)


def as_subflow(month: TripMonth, request: MonthRequest) -> MonthOutcome:
    """Call `etl_month` for a month of a request.

    Raises:
        MonthFailed: with the outcome.
    """
    outcome: Any = etl_month(
        month.color,
        month.year,
        month.month,
        request.to,
        request.source,
        request.data_dir,
        force=request.force,
        options=request.options,
    )
    return outcome


def wait_for(
    futures: Mapping[TripMonth, PrefectFuture[Any]],
    checked: Callable[[MonthOutcome], MonthOutcome] | None = None,
) -> list[MonthOutcome]:
    """The outcome of each month, when all are done.

    Args:
        futures: of the task runs.
        checked: has the last word on each outcome.
    """
    outcomes = (outcome_of(month, result_of(future)) for month, future in futures.items())
    return [checked(outcome) if checked else outcome for outcome in outcomes]


def result_of(future: PrefectFuture[Any]) -> Any:  # noqa: ANN401 - an outcome or an exception
    """Wait for a month, in slices: a wait without end would not hear Ctrl-C before it is over."""
    while True:
        try:
            return future.result(timeout=POLL_SECONDS, raise_on_failure=False)
        except TimeoutError:
            continue
        except Exception as error:  # noqa: BLE001 - a result that cannot be had is the month's misfortune alone
            return error


def outcome_of(month: TripMonth, result: MonthOutcome | BaseException) -> MonthOutcome:
    """What became of a month, also when its run was cut down from outside."""
    if isinstance(result, MonthFailed):
        return result.outcome
    if isinstance(result, BaseException):
        return MonthOutcome(month, error=f"{month.label}: {describe_error(result)}")
    return result
