"""Task runs side by side, and waiting for them so that Ctrl-C is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect.exceptions import TerminationSignal
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from flows.month.outcome import MonthOutcome
from flows.runtime import request_stop

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture
    from prefect.tasks import Task

    from flows.request import LoadRequest
    from transforms.trip_month import TripMonth

POLL_SECONDS = 0.2


def run_in_threads(
    task: Task[..., MonthOutcome], months: Sequence[TripMonth], request: LoadRequest, threads: int
) -> list[MonthOutcome]:
    """Run a task for each month in threads of this process.

    Args:
        task: takes a month and the request.
        months: one task run each.
        request: what is asked for.
        threads: task runs at once.

    Returns:
        One outcome for each month, in the same order.
    """
    with ThreadPoolTaskRunner(max_workers=threads) as pool:
        try:
            futures = [
                pool.submit(task, {"month": quoted(month), "request": quoted(request)}) for month in months
            ]
            results: list[Any] = [wait_for_result(future) for future in futures]
        except (KeyboardInterrupt, TerminationSignal):  # Ctrl-C, and SIGTERM as Prefect raises it
            request_stop()  # months under way end at their next progress report, the others do not begin
            raise
    return [MonthOutcome.of(month, result) for month, result in zip(months, results, strict=True)]


def quoted(value: Any) -> Any:  # noqa: ANN401 - any argument of a task
    """A value in which Prefect does not look for what other tasks have returned.

    It would find strings and tuples that all months share, and take the months to depend on each other.

    Args:
        value: an argument of a task.
    """
    return quote(value)


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
