"""Which month is loaded where, how many rows, from which file, and what is missing.

    python flows/status.py --color yellow --since 2019-01 --until 2021-07 --to duckdb postgres

The ledgers are asked, and the rows counted, once for each destination. Nothing is fetched or written, and a
Prefect server is needed only if a destination is configured by a block.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.settings import temporary_settings
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli import (
    MonthInDestination,
    OneLineParser,
    add_month_options,
    check_directory,
    print_usage_error,
    selected,
    server_defaults,
    take_inventory,
)
from flows.destinations import DEFAULT_DESTINATION, DESTINATIONS
from flows.errors import UsageError
from flows.request import Selection, check_color, check_destinations, configured_destination
from flows.settings import get_settings
from flows.sources import SYNTHETIC
from transforms.datasets import DATASETS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Sequence

    from flows.cli import Inventory, MonthInventory

FINE, NOT_FINE = 0, 1
"""Exit codes, beside 2 for wrong usage."""

STYLES = {"loaded": "", "differs": "bold red", "missing": "yellow", "unknown": "red"}


def parser() -> argparse.ArgumentParser:
    """Every option of `flows/status.py`."""
    made = OneLineParser(
        prog="python flows/status.py",
        description="Say which months are loaded where, by the ledgers. Without any months: all that one of "
        "the destinations knows.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--color", required=True, choices=list(DATASETS), help="dataset")
    add_month_options(made)
    add(
        "--to",
        nargs="+",
        choices=list(DESTINATIONS),
        default=[DEFAULT_DESTINATION],
        help="where to look; default: duckdb",
    )
    add("--data-dir", type=Path, default=get_settings().data_dir, metavar="DIR", help="default: %(default)s")
    add("--json", action="store_true", help="print JSON instead of a table")
    return made


def inventory_of(given: argparse.Namespace) -> Inventory:
    """Check a call, and ask.

    Raises:
        UsageError: what is wrong, and the legal values.
    """
    check_directory("--data-dir", given.data_dir)
    check_color(given.color)
    asked = selected(given)
    if asked == Selection():
        asked = None
    else:
        asked.check(given.color)
    names = tuple(dict.fromkeys(given.to))
    check_destinations(names, given.data_dir)
    destinations = [configured_destination(name, given.data_dir) for name in names]
    return take_inventory(given.color, None if asked == Selection() else asked, destinations, given.data_dir)


def inventory_table(inventory: Inventory) -> Table:
    """The matrix: a row for each month, a column for each destination."""
    table = Table(title=f"{inventory.color}: rows and time (UTC) of each load", title_justify="left")
    table.add_column("month")
    for name in inventory.destinations:
        table.add_column(name, overflow="fold")
    table.add_column("from", overflow="fold")
    for month in inventory.months:
        cells = [_cell(month.there[name]) for name in inventory.destinations]
        table.add_row(month.month.iso, *cells, escape(_origin(month)))
    return table


def _cell(there: MonthInDestination) -> str:
    load, style = there.load, STYLES[there.status]
    if there.status == "loaded" and load:
        text = f"{there.rows:>11,}  {load.loaded_at:%Y-%m-%d %H:%M}"
    else:
        text = f"{there.status}: {there.reason}" if there.reason else there.status
    return f"[{style}]{escape(text)}[/]" if style else escape(text)


def _origin(month: MonthInventory) -> str:
    """The files it was loaded from, by their names; one if all are the same."""
    files = {name: _file_name(there.load.source) for name, there in month.there.items() if there.load}
    if len({*files.values()}) <= 1:
        return next(iter(files.values()), "")
    return ", ".join(f"{name}: {file}" for name, file in files.items())


def _file_name(source: str) -> str:
    return SYNTHETIC if source.startswith(f"{SYNTHETIC}:") else source.rpartition("/")[2]


def _in_all(inventory: Inventory) -> str:
    """Such as `31 months: duckdb 31 loaded; postgres 29 loaded, 2 missing`."""
    said = (
        f"{name} " + ", ".join(f"{count} {status}" for status, count in inventory.counts(name).items())
        for name in inventory.destinations
    )
    months = len(inventory.months)
    return f"{months} month{'s' if months != 1 else ''}: {'; '.join(said)}"


def show(inventory: Inventory) -> None:
    """Print the matrix, and what it comes to."""
    out = Console(width=None if sys.stdout.isatty() else 160)
    if not inventory.months:
        asked = [name for name in inventory.destinations if name not in inventory.refusals]
        if asked:
            out.print(f"no month of {inventory.color} in {', '.join(asked)}", highlight=False)
        return
    out.print(inventory_table(inventory))
    out.print(_in_all(inventory), highlight=False)


@contextlib.contextmanager
def _messages_to_stderr() -> Generator[None]:
    """Say it when a warehouse is waited for."""
    ours, lines = logging.getLogger("flows"), logging.StreamHandler()
    before = ours.level
    ours.addHandler(lines)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(lines)
        ours.setLevel(before)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0 fine, 1 something is missing or differs, 2 wrong usage)."""
    with temporary_settings(server_defaults()), _messages_to_stderr():
        try:
            given = parser().parse_args(arguments)
            inventory = inventory_of(given)
        except UsageError as error:
            return print_usage_error(error)
    if given.json:
        print(json.dumps(inventory.to_json(), indent=2))
    else:
        show(inventory)
    for name, refusal in inventory.refusals.items():
        print(f"error: {name}: {refusal}", file=sys.stderr)
    return FINE if inventory.is_fine else NOT_FINE


if __name__ == "__main__":
    sys.exit(main())
