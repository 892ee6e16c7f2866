"""The tutorial's "web to GCS": months from the web as Parquet into the bucket.

    python flows/web_to_gcs.py --color yellow --months 1 2 3 --year 2021

It is `flows/parent.py --to gcs` under a name of its own, with the same options, checks and exit codes. The
bucket comes from `TAXI_GCS_BUCKET` or the block `de-gcs`, the credentials from `TAXI_GCP_KEY_FILE`, the block
`gcp-credentials` or the application default; see docs/google.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from flows import parent
from flows.alerts import alert_on_crash, alert_on_failure
from flows.cli import Command, command_line, exit_with, parse_command
from flows.errors import UsageError
from flows.month import MonthsFailed, RunSummary
from flows.parent import Color, Count, IsoMonth, Month, Year, etl_parent_flow, run_name
from flows.request import RunnerName

DESTINATION = "gcs"


@flow(
    name="web-to-gcs",
    flow_run_name=run_name,
    log_prints=False,
    on_failure=[alert_on_failure],
    on_crashed=[alert_on_crash],
)
def web_to_gcs(
    color: Color = "yellow",
    months: Sequence[Month] | None = None,
    year: Year | None = None,
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
    """Bring months of one dataset into the bucket, side by side; see `flows.parent.etl_parent_flow`.

    Returns:
        One outcome for each month.

    Raises:
        UsageError: the request makes no sense, or no bucket or no credentials are named.
        MonthsFailed: with the summary; the other months are in the bucket.
    """
    # Its function, not the flow: the months are this run's own, not those of a parent below it.
    summary: Any = etl_parent_flow.fn(
        color,
        months,
        year,
        (DESTINATION,),
        source,
        data_dir,
        concurrency,
        since=since,
        until=until,
        latest=latest,
        force=force,
        allow_new_columns=allow_new_columns,
        row_transforms=row_transforms,
        runner=runner,
        dask_address=dask_address,
    )
    return summary


def parser() -> argparse.ArgumentParser:
    """Every option: those of `flows/parent.py` without `--to`."""
    made = command_line.parser()
    made.prog = "python flows/web_to_gcs.py"
    made.description = "Bring months of NYC TLC trips from the web into the bucket, as Parquet."
    for action in made._actions:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - there is no other way to take one out
        if action.dest == "to":
            action.help = argparse.SUPPRESS
    return made


def parse(arguments: Sequence[str]) -> Command:
    """Read a call and check it.

    Raises:
        UsageError: in one line, before anything has started.
    """
    if {"-h", "--help"} & set(arguments):
        parser().parse_args(["--help"])
    if any(argument.partition("=")[0] == "--to" for argument in arguments):
        raise UsageError("--to: flows/web_to_gcs.py goes to the bucket only; flows/parent.py has --to")
    return parse_command([*arguments, "--to", DESTINATION])


def run(command: Command) -> RunSummary:
    """Run the flow for a command line, on the server that is configured or a temporary one."""
    parameters = command.parameters()
    del parameters["to"]
    try:
        summary: Any = web_to_gcs(**parameters)
    except MonthsFailed as error:
        return error.summary
    return summary


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0 all published, 1 a month failed, 2 wrong usage)."""
    return parent.main(arguments, parse, run)


if __name__ == "__main__":
    exit_with(main())
