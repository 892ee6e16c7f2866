"""Which month is loaded where, how many rows, from which file, what is odd about it, and what is missing.

    python flows/status.py --color yellow --since 2019-01 --until 2021-07 --to duckdb postgres

Each destination gets one query, for its ledger and its number of rows. Nothing is fetched or written, and a
Prefect server is needed only if a block configures a destination.
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
import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli import (
    MONTH_OPTIONS,
    check_directory,
    command_parser,
    exit_with,
    messages_to,
    print_line,
    run_command_line,
    selection_from,
    signals_deferred,
    table_console,
)
from flows.request import Selection, check_color, check_destinations, configured_destination
from flows.sources import SYNTHETIC
from transforms.datasets import DATASETS

if TYPE_CHECKING:
    from flows.cli import Inventory, MonthInDestination, MonthInventory

STYLES = {"loaded": "", "differs": "bold red", "missing": "yellow", "unknown": "red"}


def parser() -> argparse.ArgumentParser:
    """The options of `flows/status.py`."""
    parser = command_parser(
        "flows/status.py",
        "Say which months are loaded where, by the ledgers. Without any months: all that one of the "
        "destinations knows.",
        *("--color", *MONTH_OPTIONS, "--to", "--data-dir"),
        required=(),
        color="dataset; default: all of them",
        to="where to look; default: where months go (TAXI_TO)",
        data_dir="default: %(default)s",
    )
    parser.add_argument(
        "--complete",
        action="store_true",
        help="exit with 1 also if a month between the first and the last is missing",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _inventories(options: argparse.Namespace) -> list[Inventory]:
    """Check the options and query the destinations: one inventory for each dataset."""
    check_directory("--data-dir", options.data_dir)
    selection = selection_from(options)
    if options.color:
        check_color(options.color)
        selections = {options.color: selection}
    else:
        selections = {color: selection.since_first_month(color) for color in DATASETS}
    if selection != Selection():
        for color, months in selections.items():
            if months:
                months.check(color)
    names = tuple(dict.fromkeys(options.to))
    check_destinations(names, options.data_dir)
    with signals_deferred():
        from flows.cli import take_inventory  # late, because `--help` does without the engine

        destinations = [configured_destination(name, options.data_dir) for name in names]
    return [
        take_inventory(color, None if months == Selection() else months, destinations, options.data_dir)
        for color, months in selections.items()
        if months
    ]


def _table(inventory: Inventory) -> Table:
    """One row per month; one column per destination, with rows and time of the load or what is wrong.

    The columns `rejected` and `warnings` are there only if there is anything in them.
    """
    table = Table(title=f"{inventory.color}: rows and time (UTC) of each load", title_justify="left")
    table.add_column("month")
    columns = {"from": _origin, "rejected": _rejected, "warnings": _warnings}
    texts = {name: [text_of(month) for month in inventory.months] for name, text_of in columns.items()}
    texts = {name: column for name, column in texts.items() if any(column)}
    for name in (*inventory.destinations, *texts):
        table.add_column(name, overflow="fold", justify="right" if name == "rejected" else "left")
    for at, month in enumerate(inventory.months):
        cells = [_cell(month.destinations[name]) for name in inventory.destinations]
        table.add_row(month.month.iso, *cells, *(escape(column[at]) for column in texts.values()))
    return table


def _rejected(month: MonthInventory) -> str:
    counts = {f"{load.rejected_rows:,}" for load in month.loads if load.rejected_rows}
    return " or ".join(sorted(counts))


def _warnings(month: MonthInventory) -> str:
    """What the ledgers say is odd about a month, and the gates that a staged file fails."""
    warnings = dict.fromkeys(load.warnings for load in month.loads if load.warnings)
    failed = [f"not published: {month.failed_gates}"] if month.failed_gates else []
    return "; ".join([*warnings, *failed])


def _cell(state: MonthInDestination) -> str:
    load, style = state.load, STYLES[state.status]
    if state.status == "loaded" and load:
        text = f"{state.rows:>11,}  {load.loaded_at:%Y-%m-%d %H:%M}"
    else:
        text = f"{state.status}: {state.reason}" if state.reason else state.status
    return f"[{style}]{escape(text)}[/]" if style else escape(text)


def _origin(month: MonthInventory) -> str:
    """The names of the files the month was loaded from; only one name if all are the same."""
    files = {name: _file_name(state.load.source) for name, state in month.destinations.items() if state.load}
    if len({*files.values()}) <= 1:
        return next(iter(files.values()), "")
    return ", ".join(f"{name}: {file}" for name, file in files.items())


def _file_name(source: str) -> str:
    return SYNTHETIC if source.startswith(f"{SYNTHETIC}:") else source.rpartition("/")[2]


def _totals(inventory: Inventory) -> str:
    """Such as `31 months: duckdb 31 loaded; postgres 29 loaded, 2 missing`."""
    by_destination: list[str] = []
    for name in inventory.destinations:
        counts = Counter(month.destinations[name].status for month in inventory.months)
        by_destination.append(f"{name} " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    months = len(inventory.months)
    return f"{months} month{'s' if months != 1 else ''}: {'; '.join(by_destination)}"


def _print(inventory: Inventory) -> None:
    out = table_console()
    if inventory.months:
        out.print(_table(inventory))
        out.print(_totals(inventory), highlight=False)
        if gaps := inventory.gaps:
            out.print(f"gaps: {', '.join(month.iso for month in gaps)}", highlight=False)
    elif empty := [name for name in inventory.destinations if name not in inventory.refusals]:
        out.print(f"no month of {inventory.color} in {', '.join(empty)}", highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        The exit code: 0 if all is loaded, 1 if a month is missing or differs (with `--complete` also one in a
        gap), 2 for wrong usage.
    """

    def command() -> int:
        options = parser().parse_args(arguments)
        with messages_to(Console(stderr=True)):  # such as a warehouse that another process has locked
            inventories = _inventories(options)
        if options.json:
            found = [inventory.to_json() for inventory in inventories]
            print(json.dumps(found[0] if options.color else found, indent=2))
        else:
            for inventory in inventories:
                _print(inventory)
        refusals = {name: reason for inventory in inventories for name, reason in inventory.refusals.items()}
        for name, reason in refusals.items():
            print_line(f"error: {name}: {reason}")
        is_fine = all(one.is_fine and not (options.complete and one.gaps) for one in inventories)
        return 0 if is_fine else 1

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main())
