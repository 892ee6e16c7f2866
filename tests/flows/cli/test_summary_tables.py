"""The tables at the end of a run, as they are on a screen and in a file."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from flows.cli.summary_tables import summary_tables
from flows.destinations import Receipt
from flows.month import MonthOutcome, RunSummary
from flows.staging import StagedMonth
from transforms.trip_month import TripMonth


def outcome(year: int, month: int, rejected: int = 0, error: str | None = None) -> MonthOutcome:
    trip_month = TripMonth("yellow", year, month)
    if error:
        return MonthOutcome(trip_month, 0.5, error=error)
    staged = staged_month(trip_month, rows=1_000_000, rejected=rejected)
    receipts = {name: Receipt(name, 1_000_000, "published", 1.0) for name in ("duckdb", "postgres")}
    return MonthOutcome(trip_month, 2.0, staged=staged, receipts=receipts, quality={"negative_fare": 1_000})


def staged_month(month: TripMonth, rows: int, rejected: int) -> StagedMonth:
    source_rows = rows + rejected
    return StagedMonth(month, Path("month"), rows, source_rows, rejected, 0, None, "file:///month", "0", "1")


def shown(months: list[MonthOutcome], *, lines: int | None) -> list[str]:
    file = io.StringIO()
    width = 160 if lines is None else 80  # as `table_console` chooses them
    console = Console(
        file=file, width=width, height=lines, force_terminal=lines is not None, color_system=None
    )
    console.print(summary_tables(RunSummary("yellow", tuple(months)), 125.0, console))
    return [line.rstrip() for line in file.getvalue().rstrip().split("\n")]


YEARS = [2017, 2018, 2019, 2020, 2021]
QUALITY = """
unusual rows, loaded all the same    rows   share  most in
──────────────────────────────────────────────────────────────────
negative_fare                      60,000  0.100%  2017-01, 0.100%
""".strip().split("\n")


def test_sixty_months_are_a_row_for_each_year_on_a_screen() -> None:
    months = [outcome(year, month) for year in YEARS for month in range(1, 13)]
    lines = shown(months, lines=24)
    assert lines[:3] == QUALITY
    assert lines[4] == "yellow 2017-01 to 2021-12: 60,000,000 rows loaded in 125.0 s (480,000 rows/s)"
    assert lines[-5:] == [
        f"{year}      12   12,000,000  12,000,000         0  12 published" for year in YEARS
    ]
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80


def test_months_out_of_the_ordinary_are_listed_beside_the_years() -> None:
    months = [outcome(year, month) for year in YEARS for month in range(1, 13)]
    months[13] = outcome(2018, 2, rejected=7)
    months[30] = outcome(2019, 7, error="yellow 2019-07: no such file")
    lines = shown(months, lines=24)
    listed = lines.index("months that failed, or have rejected rows or warnings")
    assert [line.split() for line in lines[listed + 3 : listed + 5]] == [
        ["2018-02", "1,000,007", "1,000,000", "7", "2.0", "500,000", "published"],
        ["2019-07", "-", "-", "-", "0.5", "-", "failed"],
    ]
    assert "2019      12   11,000,000  11,000,000         0  11 published, 1 failed" in lines
    assert len(lines) < 24


def test_no_more_than_ten_months_are_listed_beside_the_years() -> None:
    months = [outcome(year, month, rejected=month) for year in YEARS for month in range(1, 13)]
    lines = shown(months, lines=24)
    listed = lines.index("months that failed, or have rejected rows or warnings (50 more: see --summary)")
    assert [line[:7] for line in lines[listed + 3 : listed + 13]] == [
        f"{year}-{month}" for year in YEARS for month in (11, 12)
    ]


def test_a_file_has_room_for_every_month() -> None:
    months = [outcome(year, month) for year in YEARS for month in range(1, 13)]
    assert [line[:7] for line in shown(months, lines=None)[-60:]] == [each.month.iso for each in months]


def test_a_month_that_one_destination_lacks_says_which() -> None:
    month = outcome(2021, 1)
    del month.receipts["postgres"]
    month.failures["postgres"] = "yellow 2021-01 -> postgres: no"
    month.error = month.failures["postgres"]
    [*_, header, _, row] = shown([month], lines=None)
    assert header.endswith("duckdb, postgres")
    assert row.endswith("duckdb: published, postgres: failed")


def test_dropped_rows_have_a_column_only_if_there_are_any() -> None:
    month = outcome(2021, 1)
    assert "dropped" not in "".join(shown([month], lines=None))
    month.staged = replace(month.staged, dropped_rows=17) if month.staged else None
    assert "  dropped  " in "".join(shown([month], lines=None))


def test_months_without_unusual_rows_say_so() -> None:
    month = outcome(2021, 1)
    month.quality = {"negative_fare": 0}
    assert shown([month], lines=None)[0] == "no unusual rows"
