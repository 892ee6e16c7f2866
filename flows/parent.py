"""The parent flow, and the command line: months -> `etl_month`, side by side."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.settings import temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.command_line import DEFAULT_YEAR, Command, parse_command
from flows.console import console_output, say_usage_error
from flows.errors import LocalStorageError, UsageError
from flows.month import etl_month
from flows.outcome import MonthFailed, MonthOutcome, MonthsFailed, RunSummary, describe
from flows.plan import print_plan
from flows.progress import check_stopped, stop
from flows.request import checked_months
from flows.server import server_defaults
from flows.settings import get_settings
from flows.staging import StagingOptions
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture

Color = Literal["yellow", "green", "fhv", "fhvhv"]
Month = Annotated[int, Field(ge=1, le=12)]


@task(name="month", task_run_name="{month.label}", cache_policy=NO_CACHE)
def run_month(month: TripMonth, request: dict[str, Any]) -> MonthOutcome:
    """One month as a subflow; a task, so that months can run side by side and nest in the UI.

    Args:
        month: which one.
        request: the other parameters of `etl_month`.
    """
    check_stopped()
    outcome: Any = etl_month(month.color, month.year, month.month, **request)
    return outcome


@flow(name="etl-parent", flow_run_name="{color}-{year}", log_prints=False)
def etl_parent_flow(
    color: Color = "yellow",
    months: Sequence[Month] = (1, 2, 3),
    year: int = DEFAULT_YEAR,
    to: Sequence[str] = ("duckdb",),
    source: str = "dtc",
    data_dir: Path | None = None,
    concurrency: Annotated[int, Field(ge=1)] | None = None,
    *,
    force: bool = False,
    allow_new_columns: bool = False,
    row_transforms: Sequence[str] = (),
) -> RunSummary:
    """Load months of one dataset, side by side; a month that fails does not stop the others.

    Args:
        color: dataset.
        months: 1 to 12.
        year: of all of them.
        to: destinations by name.
        source: `dtc`, `tlc`, `synthetic` or a template.
        data_dir: files and local warehouse; None: the setting.
        concurrency: months at once; None: the setting.
        force: fetch, stage and publish even what is unchanged.
        allow_new_columns: carry undeclared columns along as text.
        row_transforms: names from `transforms.cleaning.ROW_TRANSFORMS`.

    Returns:
        One outcome for each month.

    Raises:
        UsageError: the request makes no sense; nothing was started.
        MonthsFailed: with the summary; the other months are published.
    """
    started, settings = time.perf_counter(), get_settings()
    data_dir = data_dir or settings.data_dir
    trips = checked_months(
        color, year, months, to=to, source=source, data_dir=data_dir, row_transforms=row_transforms
    )
    request = {
        "to": tuple(to),
        "source": source,
        "data_dir": data_dir,
        "force": force,
        "options": StagingOptions(tuple(row_transforms), allow_new_columns, settings.max_reject_ratio),
    }
    with ThreadPoolTaskRunner(max_workers=concurrency or settings.concurrency) as runner:
        try:
            futures = [runner.submit(run_month, {"month": month, "request": request}) for month in trips]
            results = [_result(future) for future in futures]
        except KeyboardInterrupt:
            stop()  # the months under way end at their next report, the others do not begin
            raise
    outcomes = map(_outcome, trips, results)
    summary = RunSummary(color, year, tuple(outcomes), time.perf_counter() - started)
    if summary.failed:
        raise MonthsFailed(summary)
    return summary


def _result(future: PrefectFuture[Any]) -> Any:  # noqa: ANN401 - an outcome or an exception
    """Wait for a month, in slices: a wait without end would not hear Ctrl-C before it is over."""
    while True:
        with contextlib.suppress(TimeoutError):
            return future.result(timeout=0.2, raise_on_failure=False)


def _outcome(month: TripMonth, result: MonthOutcome | BaseException) -> MonthOutcome:
    """What became of a month, also when its run was cut down from outside."""
    if isinstance(result, MonthFailed):
        return result.outcome
    if isinstance(result, BaseException):
        return MonthOutcome(month, error=f"{month.label}: {describe(result)}")
    return result


def run_command(command: Command) -> RunSummary:
    """Run the parent flow for a command line, on the server that is configured or a temporary one."""
    first = command.months[0]
    color: Any = first.color
    try:
        return etl_parent_flow(
            color=color,
            months=[trips.month for trips in command.months],
            year=first.year,
            to=command.to,
            source=command.source,
            data_dir=command.data_dir,
            concurrency=command.concurrency,
            force=command.force,
            allow_new_columns=command.allow_new_columns,
            row_transforms=command.row_transforms,
        )
    except MonthsFailed as error:
        return error.summary


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0 all published, 1 a month failed, 2 wrong usage)."""
    with temporary_settings(server_defaults()):
        try:
            command = parse_command(arguments)
            if command.dry_run:
                return print_plan(command)
            with console_output(command.data_dir, command.summary) as console:
                return console.conclude(lambda: run_command(command))
        except (UsageError, LocalStorageError) as error:
            return say_usage_error(error)


if __name__ == "__main__":
    sys.exit(main())
