"""`taxi-etl worker`: a Prefect worker for what `taxi-etl deploy` has brought to the server."""

from __future__ import annotations

from flows import start_script

if __name__ == "__main__":
    start_script()

import argparse
import os
import sys

from flows.cli import command_parser, exit_with, require_prefect_server, run_command_line


def parser() -> argparse.ArgumentParser:
    """The options of `taxi-etl worker`; all others are Prefect's."""
    made = command_parser(
        "taxi_etl/worker.py",
        "Work on what is deployed to the server of PREFECT_API_URL, until Ctrl-C. Other options go to "
        "`prefect worker start`, such as --limit 2 for at most two runs at once.",
    )
    made.add_argument("--pool", default="taxi", metavar="NAME", help="work pool; default: %(default)s")
    return made


def main() -> int:
    """Become a Prefect worker.

    Returns:
        The exit code: that of Prefect, or 2 for wrong usage.
    """

    def command() -> int:
        given, others = parser().parse_known_args()
        require_prefect_server()
        start = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process"]
        os.execv(sys.executable, [*start, "--pool", given.pool, *others])  # noqa: S606 - there is no shell

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main())
