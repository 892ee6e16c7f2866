"""What a run has done, as tables: every month, or every year where the months would not fit the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from flows.month import MonthOutcome, RunSummary

FULL_MONTHS = 10
"""Months that a table by year lists beside the years."""

LINES_AROUND = 4
"""Of the table of months: the title, the names of the columns, the rule below them, and the next prompt."""


def summary_tables(summary: RunSummary, seconds: float, screen: Console) -> RenderableType:
    """What the months' rows are like, and what became of the months.

    The months come last, nearest to the next prompt. On a terminal that they would scroll out of, there is a
    row for each year instead, and only the months that failed or have rejected rows or warnings are listed.

    Args:
        summary: of the run.
        seconds: that it took.
        screen: where the tables go; a file or a pipe has room for every month.
    """
    months = summary.months
    quality = _quality(months)
    fits = not screen.is_terminal or len(months) + LINES_AROUND <= screen.height
    if fits or len(months) <= FULL_MONTHS:
        return Group(*quality, _title(summary, seconds), _month_table(months))
    unusual = [outcome for outcome in months if _is_unusual(outcome)]
    unusual.sort(key=lambda outcome: (outcome.status != "failed", -_rejected(outcome)))
    shown = sorted(unusual[:FULL_MONTHS], key=lambda outcome: outcome.month.first_day)
    if shown:
        more = len(unusual) - len(shown)
        rest = f" ({more} more: see --summary)" if more else ""
        quality += [
            Text(f"months that failed, or have rejected rows or warnings{rest}"),
            _month_table(shown),
            Text(),
        ]
    return Group(*quality, _title(summary, seconds), _year_table(months))


def _rejected(outcome: MonthOutcome) -> int:
    return outcome.staged.rejected_rows if outcome.staged else 0


def _is_unusual(outcome: MonthOutcome) -> bool:
    warned = outcome.staged and outcome.staged.warnings
    return bool(outcome.status == "failed" or _rejected(outcome) or warned)


def _title(summary: RunSummary, seconds: float) -> Text:
    loaded = sum(o.staged.rows for o in summary.months if o.staged and o.status == "published")
    rate = f" ({loaded / seconds:,.0f} rows/s)" if loaded else ""
    return Text(f"{summary.label}: {loaded:,} rows loaded in {seconds:.1f} s{rate}", style="bold")


def _table(first: str, *numbers: str, last: str) -> Table:
    """A table without a frame, so that it fits into 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(last)
    return table


def _month_table(months: Sequence[MonthOutcome]) -> Table:
    """One row per month; the columns `dropped` and `warnings` only if there are any."""
    dropped = ["dropped"] if _has_dropped(months) else []
    warnings = [", ".join(outcome.staged.warnings) if outcome.staged else "" for outcome in months]
    table = _table(
        "month",
        "source rows",
        "staged",
        "rejected",
        *dropped,
        "seconds",
        "rows/s",
        last=_destinations(months),
    )
    if any(warnings):
        table.add_column("warnings")
    for outcome, warning in zip(months, warnings, strict=True):
        # An unchanged month was not loaded, so it has no speed.
        loaded = outcome.staged if outcome.status == "published" else None
        rate = f"{loaded.rows / outcome.seconds:,.0f}" if loaded and outcome.seconds else "-"
        counts = _counts([outcome], has_dropped=bool(dropped))
        style = "red" if outcome.status == "failed" else None
        cells = (outcome.month.iso, *counts, f"{outcome.seconds:.1f}", rate, _published(outcome))
        table.add_row(*cells, *([escape(warning)] if any(warnings) else []), style=style)
    return table


def _year_table(months: Sequence[MonthOutcome]) -> Table:
    """One row per year."""
    dropped = ["dropped"] if _has_dropped(months) else []
    table = _table("year", "months", "source rows", "staged", "rejected", *dropped, last="status")
    for year, group in groupby(months, lambda outcome: outcome.month.year):
        of_year = list(group)
        counts = Counter(outcome.status for outcome in of_year)
        status = ", ".join(f"{count} {status}" for status, count in counts.items())
        style = "red" if counts["failed"] else None
        numbers = (str(len(of_year)), *_counts(of_year, has_dropped=bool(dropped)))
        table.add_row(str(year), *numbers, status, style=style)
    return table


def _has_dropped(months: Iterable[MonthOutcome]) -> bool:
    return any(outcome.staged and outcome.staged.dropped_rows for outcome in months)


def _counts(months: Sequence[MonthOutcome], *, has_dropped: bool) -> list[str]:
    """Rows in the source, staged, rejected and, if wanted, dropped; a dash if no month has been staged."""
    staged = [outcome.staged for outcome in months if outcome.staged]
    names = ("source_rows", "rows", "rejected_rows", *(("dropped_rows",) if has_dropped else ()))
    return [f"{sum(getattr(month, name) for month in staged):,}" if staged else "-" for name in names]


def _destinations(months: Iterable[MonthOutcome]) -> str:
    """Such as `duckdb, postgres`."""
    names = dict.fromkeys(name for outcome in months for name in (*outcome.receipts, *outcome.failures))
    return ", ".join(names) or "destinations"


def _published(outcome: MonthOutcome) -> str:
    """Such as `published`, or `duckdb: published, postgres: failed`."""
    statuses = {name: str(receipt.status) for name, receipt in outcome.receipts.items()}
    statuses |= dict.fromkeys(outcome.failures, "failed")
    if len(set(statuses.values())) > 1:
        return ", ".join(f"{name}: {status}" for name, status in statuses.items())
    return next(iter(statuses.values()), "failed")


def _quality(months: Sequence[MonthOutcome]) -> list[RenderableType]:
    """One row per measure that found any rows: how many, their share, and the month with the most of them."""
    checked = [(outcome, outcome.staged.rows) for outcome in months if outcome.quality and outcome.staged]
    if not checked:
        return []
    table = _table("unusual rows, loaded all the same", "rows", "share", last="most in")
    for measure in dict.fromkeys(name for outcome, _ in checked for name in outcome.quality):
        counts = [(outcome.quality.get(measure, 0), rows, outcome.month.iso) for outcome, rows in checked]
        if total := sum(count for count, *_ in counts):
            most, of_rows, month = max(counts, key=lambda each: each[0] / each[1])
            share = total / sum(rows for _, rows, _ in counts)
            table.add_row(measure, f"{total:,}", f"{share:.3%}", f"{month}, {most / of_rows:.3%}")
    return [table, Text()] if table.row_count else [Text("no unusual rows")]
