"""Months side by side in threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

from flows.month import MonthOutcome, landing_ahead
from flows.runtime import check_stopped, request_stop

if TYPE_CHECKING:
    from flows.request import LoadRequest
    from transforms.trip_month import TripMonth


def run_side_by_side(
    run_month: Callable[[TripMonth, LoadRequest], MonthOutcome],
    months: Sequence[TripMonth],
    request: LoadRequest,
) -> list[MonthOutcome]:
    """Run months in threads, as many at once as the request says; their files land ahead of them.

    Args:
        run_month: runs one month.
        months: which ones.
        request: what is asked for.

    Returns:
        One outcome for each month, in the same order.
    """

    def run(month: TripMonth) -> MonthOutcome:
        check_stopped()
        return run_month(month, request)

    with (
        landing_ahead(months, request),
        ThreadPoolExecutor(request.runner.months_at_once, "month") as pool,
    ):
        try:
            futures = [pool.submit(copy_context().run, run, month) for month in months]
            return [
                MonthOutcome.of(month, future.exception() or future.result())
                for month, future in zip(months, futures, strict=True)
            ]
        except BaseException:  # Ctrl-C, and SIGTERM as Prefect raises it within a flow
            request_stop()  # months under way end at their next progress report, the others do not begin
            raise
