"""`taxi-etl report`: what is in a warehouse, as one page of pictures.

    taxi-etl report --to postgres --out report.html

The warehouse aggregates, and nothing in it is changed. docs/reference/report.md says what is on the page.
"""

from __future__ import annotations

from flows import start_script

if __name__ == "__main__":
    start_script()

import argparse
from collections.abc import Sequence

from flows.cli import (
    check_directory,
    command_parser,
    exit_with,
    path_argument,
    run_command_line,
    write_report,
)
from flows.destinations import WAREHOUSES
from flows.errors import UsageError
from flows.runtime import Layout
from flows.settings import get_settings


def parser() -> argparse.ArgumentParser:
    """The options of `taxi-etl report`."""
    parser = command_parser(
        "taxi_etl/report.py",
        "Write one HTML page of pictures: what is loaded, trips and revenue, hours, zones, payments, "
        "distances, tips, what is odd and what was rejected.",
        "--data-dir",
        required=(),
        data_dir="with the local warehouse; default: %(default)s",
    )
    parser.add_argument(
        "--to",
        choices=WAREHOUSES,
        default=next((name for name in get_settings().to if name in WAREHOUSES), WAREHOUSES[0]),
        help="the warehouse to ask; default: the first one that months go to (TAXI_TO), or duckdb",
    )
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="FILE",
        help="where the page goes; default: report.html in the data directory",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and print where it is.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        The exit code: 0, or 1 if the warehouse cannot be read, 2 for wrong usage.
    """

    def command() -> int:
        options = parser().parse_args(arguments)
        check_directory("--data-dir", options.data_dir)
        path = options.out or Layout(options.data_dir).report
        if path.is_dir():
            raise UsageError(f"--out {path} is a directory; name a file, such as {path / 'report.html'}")
        check_directory("--out", path.parent)
        write_report(options.to, options.data_dir, path)
        print(f"report: {path}")
        return 0

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main())
