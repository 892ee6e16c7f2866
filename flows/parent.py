"""The parent flow, and the command line: months -> `etl_month`, side by side."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from flows.alerts import alert_on_crash, alert_on_failure
from flows.cli import Command, console_output, exit_with, parse_command, print_plan, run_command_line
from flows.month import MonthsFailed, RunSummary
from flows.request import FIRST_YEAR, LAST_YEAR, Runner, RunnerName, check_request, select_months
from flows.runners import MonthRequest, run_months
from flows.settings import get_settings
from flows.staging import StagingOptions
from transforms.trip_month import ISO_MONTH

Color = Literal["yellow", "green", "fhv", "fhvhv"]
Month = Annotated[int, Field(ge=1, le=12)]
Year = Annotated[int, Field(ge=FIRST_YEAR, le=LAST_YEAR)]
IsoMonth = Annotated[str, Field(pattern=ISO_MONTH, examples=["2019-01"])]
Count = Annotated[int, Field(ge=1)]


def run_name() -> str:
    """What a run is called in the UI: `yellow-2021`, `yellow-2019-01-to-2021-07`, `yellow-latest-3`."""
    given = flow_run.get_parameters()
    names = ("months", "year", "since", "until", "latest")
    asked = select_months(**{name: given.get(name) for name in names})
    return f"{given['color']}-{asked.label.replace(' ', '-')}"


@flow(
    name="etl-parent",
    flow_run_name=run_name,
    log_prints=False,
    on_failure=[alert_on_failure],
    on_crashed=[alert_on_crash],
)
def etl_parent_flow(
    color: Color = "yellow",
    months: Sequence[Month] | None = None,
    year: Year | None = None,
    to: Sequence[str] = ("duckdb",),
    source: str = "dtc",
    data_dir: Path | None = None,
    concurrency: Count | None = None,
    *,
    since: IsoMonth | None = None,
    until: IsoMonth | None = None,
    latest: Count | None = None,
    force: bool = False,
    allow_new_columns: bool = False,
    row_transforms: Sequence[str] = (),
    runner: RunnerName = "threads",
    dask_address: str | None = None,
) -> RunSummary:
    """Load months of one dataset, side by side; a month that fails does not stop the others.

    The months are said in one way: `months` (and `year`), `since` (and `until`), or `latest`. Without any of
    them they are the tutorial's, January to March.

    Args:
        color: dataset.
        months: 1 to 12.
        year: of all of `months`; None: 2021.
        to: destinations by name.
        source: `dtc`, `tlc`, `synthetic` or a template.
        data_dir: files and local warehouse; None: the setting.
        concurrency: months at once, with `threads`; None: the setting.
        since: first month, such as `2019-01`.
        until: last month; None: the newest that the source has.
        latest: so many of the newest months that the source has.
        force: fetch, stage and publish even what is unchanged.
        allow_new_columns: carry undeclared columns along as text.
        row_transforms: names from `transforms.cleaning.ROW_TRANSFORMS`.
        runner: `threads` here, `dask` on its workers, `deployment` on the workers of a pool.
        dask_address: of the scheduler, for `dask`.

    Returns:
        One outcome for each month.

    Raises:
        UsageError: the request makes no sense; nothing was started.
        SourceNotFound, SourceUnreachable, SourceBusy, SourceCorrupt: the source cannot say which months it
            has; nothing was started.
        MonthsFailed: with the summary; the other months are published.
    """
    started, settings = time.perf_counter(), get_settings()
    data_dir = data_dir or settings.data_dir
    asked = select_months(months, year, since, until, latest)
    check_request(color, asked, to=to, source=source, data_dir=data_dir, row_transforms=row_transforms)
    how = Runner(runner, concurrency, dask_address)
    how.check(to)
    trips = asked.find(color, source)
    options = StagingOptions(tuple(row_transforms), allow_new_columns, settings.max_reject_ratio)
    request = MonthRequest(tuple(to), source, data_dir, force, options)
    outcomes = run_months(how, trips, request)
    summary = RunSummary(color, tuple(outcomes), time.perf_counter() - started)
    if summary.failed:
        raise MonthsFailed(summary)
    return summary


def run_command(command: Command) -> RunSummary:
    """Run the parent flow for a command line, on the server that is configured or a temporary one."""
    try:
        summary: Any = etl_parent_flow(**command.parameters())
    except MonthsFailed as error:
        return error.summary
    return summary


def main(
    arguments: Sequence[str] | None = None,
    parse: Callable[[Sequence[str]], Command] = parse_command,
    run: Callable[[Command], RunSummary] = run_command,
) -> int:
    """The command line; returns the exit code (0 all published, 1 a month failed, 2 wrong usage).

    Args:
        arguments: of the call; None: this process's own.
        parse: reads and checks them.
        run: does what they ask for.
    """

    def call() -> int:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        if command.dry_run:
            return print_plan(command)
        with console_output(command.data_dir, command.summary) as console:
            return console.conclude(lambda: run(command))

    return run_command_line(call)


if __name__ == "__main__":
    exit_with(main())
