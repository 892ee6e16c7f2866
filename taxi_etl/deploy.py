"""`taxi-etl deploy`: everything in prefect.yaml to the Prefect server, with its work pool."""

from __future__ import annotations

from flows import start_script

if __name__ == "__main__":
    start_script()

import argparse
import subprocess
import sys

from flows.cli import PROJECT_FILES, command_parser, exit_with, require_prefect_server, run_command_line
from flows.errors import UsageError

POOL = "taxi"
PREFECT = (sys.executable, "-m", "prefect")


def parser() -> argparse.ArgumentParser:
    """The options of `taxi-etl deploy`: none of its own."""
    return command_parser(
        "taxi_etl/deploy.py",
        f"Bring everything in prefect.yaml to the server of PREFECT_API_URL, with its work pool {POOL!r}.",
    )


def ensure_pool() -> None:
    """Create the work pool unless it exists.

    Raises:
        UsageError: the server does not answer.
    """
    create = (*PREFECT, "work-pool", "create", POOL, "--type", "process")
    inspect = (*PREFECT, "work-pool", "inspect", POOL)
    for command in (inspect, create):
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        if done.returncode == 0:
            return
    last_line = next(reversed(done.stderr.strip().splitlines()), "")
    raise UsageError(f"no work pool {POOL!r} can be made ({last_line}); is PREFECT_API_URL right?")


def main() -> int:
    """Deploy.

    Returns:
        The exit code: that of Prefect, or 2 for wrong usage.
    """

    def command() -> int:
        parser().parse_args()
        require_prefect_server()
        ensure_pool()
        call = (*PREFECT, "--no-prompt", "deploy", "--all", "--prefect-file", PROJECT_FILES / "prefect.yaml")
        return subprocess.run(call, check=False).returncode  # noqa: S603 - our own words

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main())
