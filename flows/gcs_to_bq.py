"""The tutorial's "GCS to BigQuery": months from the bucket into BigQuery by load jobs.

    python flows/gcs_to_bq.py --color yellow --months 1 2 3 --year 2021

BigQuery reads the bucket itself, free of charge, and replaces a month's partition in one step; nothing goes
through this machine but a few requests. With `--transform` the rows do: docs/reference/google.md
says what that costs.
"""

from __future__ import annotations

try:
    from flows import start_script
except ImportError:
    raise SystemExit(
        "error: this Python has none of the project's packages; use .venv/bin/python (`make setup`)"
    ) from None

if __name__ == "__main__":
    start_script()  # first, because the imports below take a while

import argparse
from collections.abc import Sequence
from typing import Any

from flows.cli import (
    MONTH_OPTIONS,
    LoadCommand,
    command_parser,
    exit_with,
    request_from,
    run_load_command,
    signals_deferred,
)
from flows.month import BUCKET, WAREHOUSE
from flows.request import LoadRequest, check_destinations
from transforms.row_transforms import ROW_TRANSFORMS


def check(request: LoadRequest) -> None:
    """Refuse a request that makes no sense; the bucket is not asked for anything.

    Args:
        request: as given.

    Raises:
        UsageError: what is wrong, and the legal values.
    """
    request.check_rows()
    check_destinations((BUCKET, WAREHOUSE), request.directory)


def parser() -> argparse.ArgumentParser:
    """Every option with its legal values and default."""
    parser = command_parser(
        "flows/gcs_to_bq.py",
        "Load months of NYC TLC trips from the bucket into BigQuery.",
        *(
            "--color",
            *MONTH_OPTIONS,
            "--latest",
            "--data-dir",
            "--concurrency",
            "--force",
            "--dry-run",
            "--summary",
            "--accept",
            "--transform",
        ),
        until="... to this one, or to the newest in the bucket",
        latest="instead: the N newest months in the bucket",
        data_dir="locks, logs, and rows that are transformed here; default: %(default)s",
        concurrency="months at once; default: %(default)s",
        force="load even what is unchanged",
        transform=f"change rows on the way: {', '.join(ROW_TRANSFORMS)}; default: none. It costs: the month "
        "is downloaded, changed here and sent back (traffic out of the bucket, paid Write API bytes, "
        "minutes), where a load job moves nothing and is free",
    )
    parser.set_defaults(to=[WAREHOUSE])
    return parser


def parse(arguments: Sequence[str]) -> LoadCommand:
    """Read a call and check it.

    Args:
        arguments: without the program's name.

    Raises:
        UsageError: in one line, before anything has started.
    """
    given: Any = parser().parse_args(arguments)
    request = request_from(given)
    check(request)
    return LoadCommand(request, given.dry_run, given.summary)


def _plan(request: LoadRequest) -> int:
    with signals_deferred():
        from flows.cli import print_bucket_plan  # late, because `--help` does without the engine
    return print_bucket_plan(request)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: of the call; None: this process's own.

    Returns:
        The exit code: 0 all loaded, 1 a month failed, 2 wrong usage.
    """
    return run_load_command("flows.gcs_to_bq:gcs_to_bq", arguments, parse, _plan)


if __name__ == "__main__":
    exit_with(main())  # before Prefect is imported; see flows/parent.py

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.alerts import alert_on_crash, alert_on_failure
from flows.month import MonthOutcome, RunSummary, load_from_bucket, months_in_bucket
from flows.month.flow import RETRY_OPTIONS, run_in_threads
from flows.parent import run_name
from flows.request import Color, Count, IsoMonth, Month, Year, checked_request
from flows.runtime import begin_run, check_stopped
from transforms.trip_month import TripMonth


@task(name="load", task_run_name="{month.color}-{month.iso}", cache_policy=NO_CACHE, **RETRY_OPTIONS)
def load_month(month: TripMonth, request: LoadRequest) -> MonthOutcome:
    """Bring one month from the bucket into BigQuery.

    Args:
        month: which one.
        request: what is asked for.

    Returns:
        What became of the month.

    Raises:
        TaxiError: see `flows.month.load_from_bucket`.
    """
    check_stopped()
    return load_from_bucket(month, request.directory, request.staging, force=request.force)


@flow(
    name="gcs-to-bq",
    flow_run_name=run_name,
    log_prints=False,
    on_failure=[alert_on_failure],
    on_crashed=[alert_on_crash],
)
def gcs_to_bq(
    color: Color = "yellow",
    months: Sequence[Month] | None = None,
    year: Year | None = None,
    data_dir: Path | None = None,
    concurrency: Count | None = None,
    *,
    since: IsoMonth | None = None,
    until: IsoMonth | None = None,
    latest: Count | None = None,
    force: bool = False,
    accept: Sequence[str] = (),
    row_transforms: Sequence[str] = (),
) -> RunSummary:
    """Bring months of one dataset from the bucket into BigQuery, side by side.

    Args:
        color: dataset.
        months: 1 to 12; without any months, those of the tutorial, January to March.
        year: of all of `months`; None: 2021.
        data_dir: for locks, logs, and rows that are transformed here; None: the setting.
        concurrency: months at once; None: the setting.
        since: first month, such as `2019-01`.
        until: last month; None: the newest in the bucket.
        latest: how many of the newest months in the bucket.
        force: load even what is unchanged.
        accept: measures that do not keep a month from being loaded; see docs/reference/gates.md.
        row_transforms: names from `transforms.row_transforms.ROW_TRANSFORMS`.

    Returns:
        One outcome for each month.

    Raises:
        UsageError: the request makes no sense, or a bucket, a project or credentials are not named.
        SourceNotFound: the bucket does not have the months that are asked for; nothing was started.
        MonthsFailed: with the summary; the other months are loaded.
    """
    parameters = locals()  # by name, so that an option is listed in the signature alone
    request = checked_request(check, **parameters, to=(WAREHOUSE,))
    months_to_load = months_in_bucket(request)
    begin_run(len(months_to_load))
    outcomes = run_in_threads(load_month, months_to_load, request, request.runner.months_at_once)
    for outcome in outcomes:
        if outcome.error and not outcome.failures:  # the run of the month ended abnormally
            outcome.failures[WAREHOUSE] = outcome.error
    return RunSummary.concluded(color, outcomes)
