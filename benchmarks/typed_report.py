"""Table and bars of the group `as typed`."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from charts import Bar, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from results import Group, Process

LEADING = ("plain server", "direct")  # of our sides: as most people run it, and without Prefect
DRAWN = (("postgres", 12), ("postgres", 1), ("duckdb", 12), ("duckdb", 1))
FIRST_LOAD = "first load"
SHORT = (
    ("postgres", 1, "tutorial", "the course's pandas script"),
    ("postgres", 1, "psql", "`curl | gunzip | psql \\copy`"),
    ("postgres", 12, "psql", "`curl | gunzip | psql \\copy`"),
    ("postgres", 12, "dlt", "dlt"),
    ("duckdb", 1, "duckdb", "DuckDB's `read_csv`"),
    ("duckdb", 12, "duckdb", "DuckDB's `read_csv`"),
)
"""What the README shows: destination, months, rival, and words for it."""


def about(group: Group) -> str:
    """What is measured."""
    rows = short(group.processes[0].rows // group.processes[0].months)
    return (
        "As typed: whole processes, from the start of the command to its exit. The months come from an HTTP\n"
        "server on the same machine, Postgres is durable with its defaults, and each turn is a first\n"
        f"load. A month has {rows} rows ({group.source}). Seconds are medians; CPU seconds are in brackets."
    )


def typed_table(group: Group, sides: Sequence[str] | None) -> list[str]:
    """Our sides against the rivals of the same destination and months.

    The first of our sides that was measured stands beside every rival, the others beside the first rival.

    Args:
        group: the group `as typed`.
        sides: only these of ours; None: all of them, and those that have no rival.
    """
    lines = [
        "| months, to | ours | instead | its seconds (CPU) | ours (CPU) | ours : its (rounds) |",
        "|---|---|---|--:|--:|---|",
    ]
    parts = dict.fromkeys((one.months, one.to, one.case) for one in group.processes)
    for part in parts:
        here = [one for one in group.processes if (one.months, one.to, one.case) == part]
        rivals = [one for one in here if not one.ours]
        ours = [one for one in here if one.ours and (sides is None or one.side in sides)]
        where = f"{part[0]}, {part[1]}" + (f", {part[2]}" if part[2] != FIRST_LOAD else "")
        pairs = [(mine, rival) for mine in ours for rival in (rivals if mine is ours[0] else rivals[:1])]
        for mine, rival in pairs:
            found = mine.against(rival)
            spread = f"{found.ratio:.2f} ({found.lowest:.2f} to {found.highest:.2f}, {len(mine.seconds)})"
            costs = f"{_cost(rival)} | {_cost(mine)}"
            lines.append(f"| {where} | {mine.side} | {cell(rival.what)} | {costs} | {spread} |")
        if sides is None and not rivals:
            lines += [f"| {where} | {mine.side} | | | {_cost(mine)} | |" for mine in ours]
    return lines


def limits_table(group: Group) -> list[str]:
    """Sides that are compared with each other, with their memory if it was measured."""
    lines = ["| months, to | rows | side | seconds (CPU) | peak memory |", "|---|--:|---|--:|--:|"]
    for one in group.processes:
        memory = f"{max(one.peak_megabytes)} MB" if one.peak_megabytes else ""
        where = f"{one.months}, {one.to} | {short(one.rows)}"
        lines.append(f"| {where} | {cell(one.what or one.side)} | {_cost(one)} | {memory} |")
    return lines


def short_table(group: Group) -> list[str]:
    """Seconds of whole commands, ours and theirs, for a reader who wants the verdict only.

    Args:
        group: the group `as typed`; what was not measured has no row.
    """
    rows = short(group.processes[0].rows // group.processes[0].months)
    lines = [
        f"| months of {rows} rows, to | instead | its seconds | taxi-etl | taxi-etl, `--runner direct` |",
        "|---|---|--:|--:|--:|",
    ]
    found = {(one.to, one.months, one.side): one for one in group.processes if one.case == FIRST_LOAD}
    for to, months, rival, words in SHORT:
        seconds = [_seconds(found.get((to, months, side))) for side in (rival, *LEADING)]
        if seconds[0] and seconds[1]:
            lines.append(f"| {months}, {to} | {cell(words)} | {' | '.join(seconds)} |")
    return lines


def _seconds(process: Process | None) -> str:
    if process is None:
        return ""
    return f"{statistics.median(process.full_seconds):.1f}" + (
        " (extrapolated)" if process.extrapolated else ""
    )


def _cost(process: Process) -> str:
    seconds = f"{statistics.median(process.full_seconds):.1f}"
    if process.extrapolated:
        return f"{seconds}, extrapolated from {short(process.rows_loaded)} rows"
    return f"{seconds} ({statistics.median(process.cpu_seconds):.1f})"


def typed_ways(group: Group, sides: Sequence[str] | None) -> list[str]:
    """What our sides are; see `typed_table`."""
    ours = [one for one in group.processes if one.ours and (sides is None or one.side in sides)]
    return list(dict.fromkeys(f"* {one.side}: {one.what}" for one in ours))


def typed_notes(group: Group) -> list[str]:
    """What is not in the numbers, and the server's settings."""
    notes = [f"* {note}" for note in group.notes]
    settings = ", ".join(f"{name} {value}" for name, value in group.settings.items())
    return [*notes, *([f"* Postgres: {settings}"] if settings else [])]


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return text.replace("|", "\\|")


def typed_panels(group: Group) -> list[tuple[str, list[Bar]]]:
    """For the chart: a panel for each destination with 12 months and with one."""
    panels = []
    for to, months in DRAWN:
        here = [one for one in group.processes if (one.to, one.months, one.case) == (to, months, FIRST_LOAD)]
        if here:
            panels.append((f"as typed: {months} {'months' if months > 1 else 'month'} to {to}", _bars(here)))
    return panels


def _bars(processes: Sequence[Process]) -> list[Bar]:
    bars = []
    for process in processes:
        pace_ = process.rows / statistics.median(process.full_seconds)
        note = " (extrapolated)" if process.extrapolated else ""
        label = f"taxi-etl, {process.side}" if process.ours else process.side
        bars.append(Bar(label, pace_, f"{pace_:,.0f}{note}", "ours" if process.ours else "other"))
    return sorted(bars, key=lambda bar: -bar.value)
