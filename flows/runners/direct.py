"""`--runner direct`: the same steps without Prefect: no server, no history, no page in the UI.

For cron, for containers and for a first try. Nothing here imports Prefect.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

from flows.month import DirectSteps, MonthFailed, MonthOutcome, landing_ahead, load_from_source
from flows.request import without_blocks
from flows.runtime import check_stopped, request_stop

if TYPE_CHECKING:
    from flows.request import LoadRequest
    from transforms.trip_month import TripMonth

logger = logging.getLogger("flows.runners")


def run_directly(months: Sequence[TripMonth], request: LoadRequest) -> list[MonthOutcome]:
    """Run months in threads of this process, as many at once as the request says.

    Args:
        months: which ones.
        request: what is asked for.

    Returns:
        One outcome for each month, in the same order.
    """

    def run(month: TripMonth) -> MonthOutcome:
        check_stopped()
        return run_month_directly(month, request)

    with (
        without_blocks(),
        landing_ahead(months, request),
        ThreadPoolExecutor(request.runner.months_at_once, "month") as pool,
    ):
        try:
            futures = [pool.submit(copy_context().run, run, month) for month in months]
            return [
                MonthOutcome.of(month, future.exception() or future.result())
                for month, future in zip(months, futures, strict=True)
            ]
        except BaseException:  # Ctrl-C
            request_stop()  # months under way end at their next progress report, the others do not begin
            raise


def run_month_directly(month: TripMonth, request: LoadRequest) -> MonthOutcome:
    """Run one month without Prefect.

    Args:
        month: which one.
        request: what is asked for.

    Returns:
        What became of the month.

    Raises:
        MonthFailed: with the outcome.
    """
    try:
        with DirectSteps() as steps:
            return load_from_source(month, request, steps)
    except MonthFailed as failed:
        logger.debug("%s failed", month.label, exc_info=failed)  # as Prefect would
        raise
