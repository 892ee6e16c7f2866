"""One month as a Prefect task run, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.errors import TaxiError
from flows.month import MonthFailed, MonthOutcome, describe_error, etl_month
from flows.request import LoadRequest
from flows.runtime import check_stopped
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture

POLL_SECONDS = 0.2


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
    # The parent's heartbeat covers this process. A subflow with one of its own would wait up to a second at
    # its end for the heartbeat thread.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return etl_month(month, request)


def wait_for_result(future: PrefectFuture[Any]) -> Any:  # noqa: ANN401 - an outcome or an exception
    """Wait for a task run in slices: a wait without end would not notice Ctrl-C before it is over.

    Args:
        future: of the task run.

    Returns:
        Its result, or the exception it ended with.
    """
    while True:
        try:
            return future.result(timeout=POLL_SECONDS, raise_on_failure=False)
        except TimeoutError:
            continue
        except Exception as error:  # noqa: BLE001 - a result that cannot be read concerns its month alone
            return error


def to_outcome(month: TripMonth, result: MonthOutcome | BaseException) -> MonthOutcome:
    """The outcome of a month, also when its run ended abnormally.

    Args:
        month: which one.
        result: what its task run returned or raised.
    """
    if isinstance(result, MonthFailed):
        return result.outcome
    if isinstance(result, BaseException):
        text = describe_error(result)
        has_place = isinstance(result, TaxiError) and result.where
        return MonthOutcome(month, error=text if has_place else f"{month.label}: {text}")
    return result
