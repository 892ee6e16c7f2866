"""`taxi-etl psql`: open the Postgres that months are loaded into, the embedded one too."""

from __future__ import annotations

from flows import start_script

if __name__ == "__main__":
    start_script()

import argparse
import logging
import signal
import subprocess

from flows.cli import command_parser, exit_with, print_line, run_command_line
from flows.destinations.postgres import psql_call
from flows.settings import get_settings


def parser() -> argparse.ArgumentParser:
    """The options of `taxi-etl psql`; all others are psql's."""
    return command_parser(
        "taxi_etl/psql.py",
        "Open psql on the server of TAXI_POSTGRES_URL; without it, on the embedded server of the data "
        "directory, which runs until psql ends. Other options go to psql, such as -c 'SELECT ...'.",
        "--data-dir",
        data_dir="where the embedded server is; default: %(default)s",
    )


def main() -> int:
    """Run psql.

    Returns:
        The exit code: that of psql, or 2 for wrong usage.
    """

    def command() -> int:
        given, others = parser().parse_known_args()
        call, environment, url = psql_call(given.data_dir, get_settings())
        print_line(f"psql {url}", logging.INFO)
        # Ctrl-C is for psql, which cancels a query; its end ends this command.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return subprocess.run([*call, *others], env=environment, check=False).returncode  # noqa: S603 - psql's own options

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main())
