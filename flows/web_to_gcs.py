"""The tutorial's "web to GCS": months from the web as Parquet into the bucket.

    python flows/web_to_gcs.py --color yellow --months 1 2 3 --year 2021

It is `flows/parent.py --to gcs` under a name of its own, with the same options, checks and exit codes. The
bucket comes from `TAXI_GCS_BUCKET` or the block `de-gcs`, the credentials from `TAXI_GCP_KEY_FILE`, the block
`gcp-credentials` or the application default; see docs/reference/google.md.
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

from flows.cli import LOAD_OPTIONS, LoadCommand, command_parser, exit_with, parse_command, run_load_command
from flows.errors import UsageError

DESTINATION = "gcs"


def parser() -> argparse.ArgumentParser:
    """Every option: those of `flows/parent.py` without `--to`."""
    parser = command_parser(
        "flows/web_to_gcs.py",
        "Bring months of NYC TLC trips from the web into the bucket, as Parquet.",
        *(option for option in LOAD_OPTIONS if option != "--to"),
    )
    parser.set_defaults(to=[DESTINATION])
    return parser


def parse(arguments: Sequence[str]) -> LoadCommand:
    """Read a call and check it.

    Args:
        arguments: without the program's name.

    Raises:
        UsageError: in one line, before anything has started.
    """
    if any(argument.partition("=")[0] == "--to" for argument in arguments):
        raise UsageError("--to: web-to-gcs goes to the bucket only; load (flows/parent.py) has --to")
    return parse_command(arguments, parser())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: of the call; None: this process's own.

    Returns:
        The exit code: 0 all published, 1 a month failed, 2 wrong usage.
    """
    return run_load_command("flows.web_to_gcs:web_to_gcs", arguments, parse)


if __name__ == "__main__":
    exit_with(main())  # before Prefect is imported; see flows/parent.py

from typing import Any

from prefect import flow

from flows.alerts import alert_on_crash, alert_on_failure
from flows.month import RunSummary
from flows.parent import etl_parent_flow, run_name
from flows.request import with_parameters_of


@flow(
    name="web-to-gcs",
    flow_run_name=run_name,
    log_prints=False,
    on_failure=[alert_on_failure],
    on_crashed=[alert_on_crash],
)
@with_parameters_of(etl_parent_flow.fn, without=("to",))
def web_to_gcs(**parameters: Any) -> RunSummary:  # noqa: ANN401 - the parent's parameters
    """Bring months of one dataset into the bucket, side by side.

    Args:
        parameters: those of `flows.parent.etl_parent_flow` without `to`.

    Returns:
        One outcome for each month.

    Raises:
        UsageError: the request makes no sense, or no bucket or no credentials are named.
        MonthsFailed: with the summary; the other months are in the bucket.
    """
    # The function, not the flow: the months are this run's own, not those of a parent below it.
    return etl_parent_flow.fn(**parameters, to=(DESTINATION,))
