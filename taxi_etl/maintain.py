"""`taxi-etl maintain`: remove expired snapshots of Iceberg tables, and the files that only these name.

    taxi-etl maintain --keep-days 30

A month that is loaded again leaves its earlier snapshot and file behind, so that they can still be read; see
docs/reference/iceberg.md. The newest snapshot always stays. Other destinations keep nothing that has to be
removed.
"""

from __future__ import annotations

from flows import start_script

if __name__ == "__main__":
    start_script()

import argparse
import datetime as dt
from collections.abc import Sequence

from flows.cli import check_directory, command_parser, exit_with, run_command_line
from flows.destinations import REJECTS
from flows.settings import get_settings
from transforms.datasets import DATASETS


def parser() -> argparse.ArgumentParser:
    """The options of `taxi-etl maintain`."""
    parser = command_parser(
        "taxi_etl/maintain.py",
        "Remove expired snapshots of Iceberg tables, and the files that nothing names any more.",
        *("--color", "--data-dir"),
        required=(),
        color="only the trips of this dataset; default: all, and the rejects",
        data_dir="default: %(default)s",
    )
    parser.add_argument(
        "--keep-days",
        type=_days,
        metavar="N",
        help="how long snapshots are kept; 0: only the newest; default: the table's property "
        "history.expire.max-snapshot-age-ms, or 5 days",
    )
    return parser


def _days(text: str) -> dt.timedelta:
    try:
        days = dt.timedelta(days=float(text))
    except (ValueError, OverflowError):
        days = dt.timedelta(-1)
    if days < dt.timedelta(0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days; legal are 0 and more, such as 30")
    return days


def main(arguments: Sequence[str] | None = None) -> int:
    """Maintain the tables and print what was removed, a line for each table.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        The exit code: 0, or 1 if a table cannot be maintained, 2 for wrong usage.
    """

    def command() -> int:
        options = parser().parse_args(arguments)
        check_directory("--data-dir", options.data_dir)
        from flows.destinations.iceberg import Iceberg  # late: `--help` needs none of it

        tables = Iceberg.from_settings(options.data_dir, get_settings())
        datasets = [DATASETS[options.color]] if options.color else [*DATASETS.values(), None]
        for dataset in datasets:
            if done := tables.maintain(dataset, options.keep_days):
                table = dataset.table if dataset else REJECTS
                print(f"taxi.{table}: {done.snapshots} snapshots expired, {done.files} files removed")
        return 0

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main())
