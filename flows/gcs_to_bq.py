"""The tutorial's "GCS to BigQuery": months from the bucket into BigQuery by load jobs.

    python flows/gcs_to_bq.py --color yellow --months 1 2 3 --year 2021

BigQuery reads the bucket itself, free of charge, and replaces a month's partition in one step; nothing goes
through this machine but a few requests. With `--transform` it does: see docs/google.md for what that costs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows.alerts import alert_on_crash, alert_on_failure
from flows.cli import OneLineParser, check_common_options, console_output, exit_with, run_command_line
from flows.month import (
    BUCKET,
    RETRY_OPTIONS,
    WAREHOUSE,
    MonthOutcome,
    MonthsFailed,
    RunSummary,
    describe_error,
    load,
)
from flows.parent import Color, Month
from flows.request import DEFAULT_YEAR, Selection, check_color, check_destinations, month_numbers
from flows.runners import run_concurrently
from flows.runtime import check_stopped
from flows.settings import get_settings
from flows.staging import check_row_transforms
from transforms.cleaning import ROW_TRANSFORMS
from transforms.datasets import DATASETS
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    import argparse


@task(name="load", task_run_name="{month.color}-{month.iso}", cache_policy=NO_CACHE, **RETRY_OPTIONS)
def load_month(
    month: TripMonth, data_dir: Path, row_transforms: tuple[str, ...] = (), *, force: bool = False
) -> MonthOutcome:
    """One month from the bucket into BigQuery; see `load`."""
    check_stopped()
    return load(month, data_dir, row_transforms, force=force)


@flow(
    name="gcs-to-bq",
    flow_run_name="{color}-{year}",
    log_prints=False,
    on_failure=[alert_on_failure],
    on_crashed=[alert_on_crash],
)
def gcs_to_bq(
    color: Color = "yellow",
    months: Sequence[Month] = (1, 2, 3),
    year: int = DEFAULT_YEAR,
    data_dir: Path | None = None,
    concurrency: Annotated[int, Field(ge=1)] | None = None,
    *,
    force: bool = False,
    row_transforms: Sequence[str] = (),
) -> RunSummary:
    """Bring months of one dataset from the bucket into BigQuery, side by side.

    Args:
        color: dataset.
        months: 1 to 12.
        year: of all of them.
        data_dir: for locks, logs, and rows that are transformed here; None: the setting.
        concurrency: months at once; None: the setting.
        force: load even what is unchanged.
        row_transforms: names from `transforms.cleaning.ROW_TRANSFORMS`.

    Returns:
        One outcome for each month.

    Raises:
        UsageError: the request makes no sense, or a bucket, a project or credentials are not named.
        MonthsFailed: with the summary; the other months are loaded.
    """
    started, settings = time.perf_counter(), get_settings()
    directory = data_dir or settings.data_dir
    trips = checked(color, year, months, directory, row_transforms)
    request = {"data_dir": directory, "row_transforms": tuple(row_transforms), "force": force}
    results = run_concurrently(load_month, trips, request, concurrency or settings.concurrency)
    outcomes = map(_outcome, trips, results)
    summary = RunSummary(color, tuple(outcomes), time.perf_counter() - started)
    if summary.failed:
        raise MonthsFailed(summary)
    return summary


def checked(
    color: str, year: int, months: Sequence[int], data_dir: Path, row_transforms: Sequence[str]
) -> list[TripMonth]:
    """The months asked for, in calendar order and each once, if the request makes sense.

    Raises:
        UsageError: what is wrong, and the legal values.
    """
    check_color(color)
    selection = Selection(months=tuple(months), year=year)
    selection.check(color)
    check_row_transforms(row_transforms, color, tuple(DATASETS[color].column))
    check_destinations((BUCKET, WAREHOUSE), data_dir)
    return selection.known(color)


def _outcome(month: TripMonth, result: MonthOutcome | BaseException) -> MonthOutcome:
    """What became of a month, also when its run was cut down from outside."""
    if isinstance(result, BaseException):
        failed = MonthOutcome(month, error=describe_error(result))
        failed.failures[WAREHOUSE] = failed.error or ""
        return failed
    return result


@dataclass(frozen=True, slots=True)
class Command:
    """A checked call; see `--help` for the meaning of each field."""

    color: str
    year: int
    months: list[int]
    data_dir: Path
    concurrency: int
    force: bool
    row_transforms: tuple[str, ...]
    summary: Path | None


def parser() -> argparse.ArgumentParser:
    """Every option with its legal values and default."""
    settings = get_settings()
    made = OneLineParser(
        prog="python flows/gcs_to_bq.py",
        description="Load months of NYC TLC trips from the bucket into BigQuery.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--color", required=True, choices=list(DATASETS), help="dataset")
    add(
        "--months", required=True, nargs="+", type=month_numbers, metavar="M", help="1 to 12, or such as 1-12"
    )
    add("--year", type=int, default=DEFAULT_YEAR, help="default: %(default)s")
    add(
        "--data-dir",
        type=Path,
        default=settings.data_dir,
        metavar="DIR",
        help="locks, logs, and rows that are transformed here; default: %(default)s",
    )
    add(
        "--concurrency",
        type=int,
        default=settings.concurrency,
        metavar="N",
        help="months at once; default: %(default)s",
    )
    add("--force", action="store_true", help="load even what is unchanged")
    add("--summary", type=Path, metavar="FILE", help="write what was done as JSON")
    add(
        "--transform",
        nargs="+",
        default=[],
        choices=list(ROW_TRANSFORMS),
        metavar="NAME",
        help=f"change rows on the way: {', '.join(ROW_TRANSFORMS)}; default: none. It costs: the month is "
        "downloaded, changed here and sent back (traffic out of the bucket, paid Write API bytes, minutes), "
        "where a load job moves nothing and is free",
    )
    return made


def parse(arguments: Sequence[str]) -> Command:
    """Read a call and check it.

    Raises:
        UsageError: in one line, before anything has started.
    """
    given = parser().parse_args(arguments)
    check_common_options(given)
    numbers = list(chain.from_iterable(given.months))
    months = checked(given.color, given.year, numbers, given.data_dir, given.transform)
    return Command(
        color=given.color,
        year=given.year,
        months=[month.month for month in months],
        data_dir=given.data_dir,
        concurrency=min(given.concurrency, len(months)),
        force=given.force,
        row_transforms=tuple(given.transform),
        summary=given.summary,
    )


def run(command: Command) -> RunSummary:
    """Run the flow for a command line, on the server that is configured or a temporary one."""
    color: Any = command.color
    try:
        return gcs_to_bq(
            color=color,
            months=command.months,
            year=command.year,
            data_dir=command.data_dir,
            concurrency=command.concurrency,
            force=command.force,
            row_transforms=command.row_transforms,
        )
    except MonthsFailed as error:
        return error.summary


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0 all loaded, 1 a month failed, 2 wrong usage)."""

    def call() -> int:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        with console_output(command.data_dir, command.summary) as console:
            return console.conclude(lambda: run(command))

    return run_command_line(call)


if __name__ == "__main__":
    exit_with(main())
