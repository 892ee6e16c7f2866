"""`taxi-etl gates`: the gates in force, by dataset and measure; with months, what their staged files measure.

    taxi-etl gates --color yellow --months 1 2 3 --year 2021

Nothing is fetched or published. docs/reference/gates.md says what each measure is.
"""

from __future__ import annotations

from flows import start_script

if __name__ == "__main__":
    start_script()

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from flows.cli import (
    MONTH_OPTIONS,
    check_directory,
    command_parser,
    exit_with,
    run_command_line,
    selection_from,
    signals_deferred,
    table_console,
)
from flows.errors import UsageError
from flows.request import Selection
from flows.runtime import Layout
from flows.settings import get_settings
from transforms.datasets import DATASETS
from transforms.gates import Gate, gates_in_force, judge
from transforms.trip_month import TripMonth

Measured = Mapping[TripMonth, Mapping[str, float] | None]


def parser() -> argparse.ArgumentParser:
    """The options of `taxi-etl gates`."""
    parser = command_parser(
        "taxi_etl/gates.py",
        "Print the gates in force: beyond which value of a measure a month is warned about or not published. "
        "With months: what their staged files measure; exit code 1 if one fails, or is not staged.",
        *("--color", *MONTH_OPTIONS, "--data-dir"),
        required=(),
        color="dataset; default: all of them",
        data_dir="with the staged files; default: %(default)s",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _months(options: argparse.Namespace) -> list[TripMonth]:
    selection = selection_from(options)
    if selection == Selection():
        return []
    if not options.color:
        raise UsageError(f"months need --color; legal are {', '.join(DATASETS)}")
    selection.check(options.color)
    if selection.is_open_ended:
        raise UsageError("--since needs --until: the source is not asked for its newest month")
    return selection.known_months(options.color)


def _measure(month: TripMonth, layout: Layout) -> Mapping[str, float] | None:
    """What a staged month measures, by its neighbours' staged files; None if it is not staged."""
    with signals_deferred():
        from flows.month import Gates, measures_of  # late, because `--help` does without the engine
        from flows.staging import count_rows, read_staged
    directory = layout.staged(month.color)
    if not (staged := read_staged(directory / f"{month.stem}.parquet", month)):
        return None
    with Gates(month, directory, ()) as gates:
        return measures_of(staged, count_rows(staged), gates.neighbours())


def _verdict(name: str, value: float, gates: Mapping[str, Gate]) -> str:
    failures, warnings = judge({name: value}, gates)
    return "fail" if failures else "warn" if warnings else "pass"


def _gates_table(dataset: str) -> Table:
    table = Table(title=f"{dataset}: gates", title_justify="left")
    for name in ("measure", "warn", "fail"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    for name, gate in gates_in_force(dataset, get_settings().gates).items():
        table.add_row(
            escape(name), *("" if value is None else f"{value:g}" for value in (gate.warn, gate.fail))
        )
    return table


def _measures_table(measured: Measured) -> Table:
    """One row per measure that has a gate or is not 0, one column per month."""
    color = next(iter(measured)).color
    gates, styles = gates_in_force(color, get_settings().gates), {"fail": "red", "warn": "yellow"}
    table = Table(title=f"{color}: measures of the staged months", title_justify="left")
    table.add_column("measure")
    for month in measured:
        table.add_column(month.iso, justify="right")
    names = dict.fromkeys(name for measures in measured.values() for name in measures or ())
    for name in names:
        values = [(measures or {}).get(name) for measures in measured.values()]
        if name not in gates and not any(values):
            continue
        cells: list[str] = []
        for value in values:
            verdict = "pass" if value is None else _verdict(name, value, gates)
            text = "-" if value is None else f"{value:.4g}" + (f" {verdict}" if verdict in styles else "")
            cells.append(f"[{styles[verdict]}]{text}[/]" if verdict in styles else text)
        table.add_row(escape(name), *cells)
    return table


def _to_json(datasets: Sequence[str], measured: Measured) -> dict[str, Any]:
    settings = get_settings().gates
    in_force = {name: gates_in_force(name, settings) for name in datasets}
    return {
        "gates": {
            dataset: {name: {"warn": gate.warn, "fail": gate.fail} for name, gate in gates.items()}
            for dataset, gates in in_force.items()
        },
        "months": [
            {
                "dataset": month.color,
                "month": month.iso,
                "measures": measures
                and {
                    name: {"value": value, "verdict": _verdict(name, value, in_force[month.color])}
                    for name, value in measures.items()
                },
            }
            for month, measures in measured.items()
        ],
    }


def _passes(measured: Measured) -> bool:
    given = get_settings().gates
    return all(
        measures is not None and not judge(measures, gates_in_force(month.color, given))[0]
        for month, measures in measured.items()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        The exit code: 0 if every month passes, 1 if one fails or is not staged, 2 for wrong usage.
    """

    def command() -> int:
        options = parser().parse_args(arguments)
        check_directory("--data-dir", options.data_dir)
        months, layout = _months(options), Layout(options.data_dir)
        measured = {month: _measure(month, layout) for month in months}
        datasets = [options.color] if options.color else list(DATASETS)
        if options.json:
            print(json.dumps(_to_json(datasets, measured), indent=2))
            return 0 if _passes(measured) else 1
        out = table_console()
        for dataset in datasets:
            out.print(_gates_table(dataset))
        if measured:
            out.print(_measures_table(measured))
            if absent := [month.iso for month, measures in measured.items() if measures is None]:
                out.print(f"not staged: {', '.join(absent)}", highlight=False)
        return 0 if _passes(measured) else 1

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main())
