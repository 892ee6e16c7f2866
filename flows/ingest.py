"""The tutorial's "Ingest Data": one month from a URL into one Postgres table.

    python flows/ingest.py --url https://.../yellow_tripdata_2021-01.csv.gz

The password comes from `PGPASSWORD` or a prompt, never from the command line, where every user of the
machine could read it. Without `--host` and the like, the Postgres of `TAXI_POSTGRES_URL` or of the block
`postgres-connector` is used.
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
import getpass
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from flows.cli import (
    check_directory,
    command_parser,
    console_output,
    exit_with,
    import_flow,
    prefect_session,
    run_command_line,
    signals_deferred,
)
from flows.errors import UsageError
from flows.month import MonthFailed, MonthOutcome, RunSummary
from flows.request import check_measures, with_blocks
from flows.settings import get_settings, override_settings
from flows.sources import redact
from transforms.datasets import DATASETS
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from flows.destinations.postgres import Postgres

TUTORIAL_URL = (
    "https://github.com/DataTalksClub/nyc-tlc-data/releases/download/yellow/yellow_tripdata_2021-01.csv.gz"
)
TUTORIAL_TABLE = "yellow_taxi_trips"
TUTORIAL_SERVER = {"host": "localhost", "port": 5432, "user": "root", "db": "ny_taxi"}
_MONTH_IN_NAME = re.compile(rf"({'|'.join(DATASETS)})_tripdata_(\d{{4}})-(0[1-9]|1[0-2])")


def month_of(url: str) -> TripMonth:
    """The month of the dataset that a file holds, by the file's name.

    Args:
        url: of the file.

    Raises:
        UsageError: the name does not say.
    """
    name = urlsplit(url).path.rpartition("/")[2]
    match = _MONTH_IN_NAME.search(name)
    if not match:
        raise UsageError(
            f"--url {name!r} does not say which month it is; a file name such as "
            "yellow_tripdata_2021-01.csv.gz does"
        )
    return TripMonth(match[1], int(match[2]), int(match[3]))


def parser() -> argparse.ArgumentParser:
    """Every option of `flows/ingest.py`."""
    parser = command_parser(
        "flows/ingest.py",
        "Load one month from a URL into one Postgres table.",
        *("--data-dir", "--force", "--accept"),
        data_dir="files that land and are staged; default: %(default)s",
        force="fetch, stage and load even what is unchanged",
    )
    add = parser.add_argument
    add("--url", default=TUTORIAL_URL, help="CSV, CSV.gz or Parquet file; default: yellow 2021-01")
    add("--table-name", default=TUTORIAL_TABLE, help="default: %(default)s")
    add("--keep-zero-passengers", action="store_true", help="keep trips with passenger_count 0")
    server = parser.add_argument_group(
        "server",
        "Default: TAXI_POSTGRES_URL, then the block postgres-connector. With any of these options the "
        "others have the tutorial's values (localhost, 5432, root, ny_taxi); the password comes from "
        "PGPASSWORD, from .pgpass, or is asked for.",
    )
    server.add_argument("--host", help="default: localhost")
    server.add_argument("--port", type=int, help="default: 5432")
    server.add_argument("--user", help="default: root")
    server.add_argument("--db", help="default: ny_taxi")
    return parser


def server_url(given: argparse.Namespace) -> SecretStr | None:
    """The URL of the server that the options name.

    Args:
        given: as parsed.

    Returns:
        The URL, its password from the environment or a prompt; None if no option names a server.
    """
    named = {key: getattr(given, key) for key in TUTORIAL_SERVER if getattr(given, key) is not None}
    if not named:
        return None
    server = {key: quote(str(value), safe="") for key, value in {**TUTORIAL_SERVER, **named}.items()}
    if "PGPASSWORD" in os.environ:
        password = os.environ["PGPASSWORD"]
    elif sys.stdin.isatty():
        password = getpass.getpass(f"Password of {server['user']} (empty for none): ")
    else:
        password = ""
    login = server["user"] + (f":{quote(password, safe='')}" if password else "")
    return SecretStr(f"postgresql://{login}@/{server['db']}?host={server['host']}&port={server['port']}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: of the call; None: this process's own.

    Returns:
        The exit code: 0 loaded, 1 failed, 2 wrong usage.
    """

    def call() -> int:
        given = parser().parse_args(arguments)
        check_measures(given.accept, month_of(given.url).color)
        check_directory("--data-dir", given.data_dir)
        url = server_url(given)
        with override_settings(postgres_url=url) if url else override_settings():
            with signals_deferred():
                _postgres(given.data_dir, given.table_name)
            with console_output(given.data_dir) as console:
                return console.conclude(lambda: _ingest(given, console.server_log))

    return run_command_line(call, loads_months=True)


def _ingest(given: argparse.Namespace, server_log: Path) -> RunSummary:
    try:
        with prefect_session(server_log) as api:
            flow = import_flow("flows.ingest:ingest_data")
            api.wait_until_ready()
            outcome: MonthOutcome = flow(
                redact(given.url),
                given.table_name,
                given.data_dir,
                keep_zero_passengers=given.keep_zero_passengers,
                force=given.force,
                accept=given.accept,
            )
    except MonthFailed as error:
        outcome = error.outcome
    return RunSummary(outcome.month.color, (outcome,))


def _postgres(data_dir: Path, table_name: str) -> Postgres:
    from flows.destinations.postgres import Postgres  # late, because `--help` does without the engine

    settings = with_blocks(get_settings(), ["postgres"])
    return Postgres.from_settings(data_dir, settings, table=table_name)


if __name__ == "__main__":
    exit_with(main())  # before Prefect is imported; see flows/parent.py

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows.alerts import alert_on_crash, alert_on_failure
from flows.destinations import Receipt
from flows.errors import error_context
from flows.month import Gates, track_month
from flows.month.flow import RETRY_OPTIONS, extract, stage_month
from flows.runtime import Layout, begin_run, reporter
from flows.sources import locate_source
from flows.staging import StagedMonth, StagingOptions, count_rows


@flow(name="Subflow")
def log_subflow(table_name: str) -> None:
    """Log which table is loaded: the tutorial's example of a subflow.

    Args:
        table_name: of the table.
    """
    get_run_logger().info("Logging Subflow for: %s", table_name)


@task(name="load", task_run_name="load {table_name}", cache_policy=NO_CACHE, **RETRY_OPTIONS)
def load(staged: StagedMonth, table_name: str, data_dir: Path, *, force: bool) -> Receipt:
    """Load a staged month into its partition of a Postgres table; retried three times.

    Args:
        staged: the month.
        table_name: any name.
        data_dir: of the embedded server, if that is configured.
        force: replace the month even if it is there already.

    Raises:
        TaxiError: see `flows.destinations.Destination.publish`.
    """
    label = staged.month.label
    with error_context(f"{label} -> postgres table {table_name}"):
        destination = _postgres(data_dir, table_name)
        return destination.publish(staged, force=force, report=reporter(label, "postgres"))


@flow(
    name="Ingest Data",
    flow_run_name="{table_name}",
    on_failure=[alert_on_failure],
    on_crashed=[alert_on_crash],
)
def ingest_data(
    url: str = TUTORIAL_URL,
    table_name: str = TUTORIAL_TABLE,
    data_dir: Path | None = None,
    *,
    keep_zero_passengers: bool = False,
    force: bool = False,
    accept: Sequence[str] = (),
) -> MonthOutcome:
    """Load the month that a URL names into a Postgres table.

    Args:
        url: CSV, CSV.gz or Parquet; its file name says which month of which dataset it is.
        table_name: any name; the table is created if it does not exist.
        data_dir: where files land; None: the setting.
        keep_zero_passengers: keep the trips with passenger_count 0, which the tutorial drops.
        force: fetch, stage and load even what is unchanged.
        accept: measures that do not keep the month from being loaded; see docs/reference/gates.md.

    Returns:
        What became of the month.

    Raises:
        UsageError: the file name does not say which month it is.
        MonthFailed: with the outcome; the table is as it was.
    """
    month, settings = month_of(url), get_settings()
    layout = Layout(data_dir or settings.data_dir)
    source = locate_source(url, month, settings)
    drops = "passenger_count" in month.dataset.column and not keep_zero_passengers
    options = StagingOptions(
        row_transforms=("drop-zero-passengers",) if drops else (),
        max_reject_ratio=settings.max_reject_ratio,
    )
    begin_run(1)
    log_subflow(table_name)
    with track_month(month, layout.lock(month), settings.lock_timeout_seconds) as outcome:
        landed = extract(month, source, layout.raw(month.color), force=force)
        # Beside the parent flow's staged files, which have all rows.
        staged = stage_month(landed, month, layout.ingest(month.color), options, force=force)
        outcome.staged = staged
        destinations = [partial(_postgres, layout.data_dir, table_name)]
        with Gates(month, layout.ingest(month.color), destinations) as gates:
            outcome.staged = gates.check(staged, count_rows(staged), accept, force=force)
        outcome.receipts["postgres"] = load(outcome.staged, table_name, layout.data_dir, force=force)
    return outcome
