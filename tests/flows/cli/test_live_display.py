"""The bars of a run: what is shown of it at one moment."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from support.terminal import Terminal

from flows.cli.live_display import LiveDisplay
from flows.runtime import FinishedMonth


class Shown:
    """A display and the terminal that it is drawn on."""

    def __init__(self, lines: int) -> None:
        self._file = io.StringIO()
        self._size = 80, lines
        self.display = LiveDisplay(
            Console(file=self._file, force_terminal=True, width=80, height=lines, color_system=None)
        )

    def bars(self) -> list[str]:
        """What the bars say, without the bars themselves."""
        self._file.truncate(0)
        self.display.bars.console.print(self.display.bars)
        terminal = Terminal(*self._size)
        terminal.feed(self._file.getvalue().strip("\0").replace("\n", "\r\n").encode())
        return [re.sub(" +", " ", re.sub("[━╸╺]+", "|", line)).strip() for line in terminal.lines]


@pytest.fixture
def shown() -> Shown:
    return Shown(lines=24)


def test_before_the_months_are_known_the_run_is_starting(shown: Shown) -> None:
    assert shown.bars() == ["starting |"]


def test_months_at_work_have_a_bar_each_and_the_run_has_one_below_them(shown: Shown) -> None:
    shown.display.begin(31)
    shown.display.update("yellow 2020-02", "stage", 50, 200)
    shown.display.update("yellow 2020-01", "download", 25, 100)
    shown.display.finish(FinishedMonth("yellow 2019-12", "published", 2.0, rows=12_345_678))
    assert shown.bars()[:2] == ["2020-01 download | 25%", "2020-02 stage | 25%"]
    assert re.fullmatch(r"1 of 31 months \| +4% 12.3 M rows(, [\d:]+ left)?", shown.bars()[2])


def test_a_finished_month_has_no_bar_even_if_a_report_comes_late(shown: Shown) -> None:
    shown.display.begin(2)
    shown.display.update("yellow 2020-01", "duckdb", 10, 10)
    shown.display.finish(FinishedMonth("yellow 2020-01", "published", 2.0, rows=10))
    shown.display.update("yellow 2020-01", "duckdb", 10, 10)
    [run] = shown.bars()
    assert run.startswith("1 of 2 months | 50% 10 rows")


def test_a_file_that_has_landed_ahead_has_no_bar_until_its_turn(shown: Shown) -> None:
    shown.display.begin(2)
    shown.display.update("yellow 2020-01", "download", 100, 100)
    assert shown.bars() == ["0 of 2 months | 12%"]
    shown.display.update("yellow 2020-01", "stage", 1, 10)
    assert shown.bars()[0] == "2020-01 stage | 10%"


def test_several_destinations_share_the_bar_of_their_month(shown: Shown) -> None:
    shown.display.begin(2)
    shown.display.update("yellow 2020-01", "stage", 100, 100)
    shown.display.update("yellow 2020-01", "duckdb", 100, 100)
    shown.display.update("yellow 2020-01", "postgres", 20, 100)
    assert shown.bars() == ["2020-01 duckdb, postgres | 60%", "0 of 2 months | 40%"]


def test_the_bar_of_the_run_stays_on_a_small_screen() -> None:
    shown = Shown(lines=10)
    shown.display.begin(60)
    for month in range(1, 13):
        shown.display.update(f"yellow 2020-{month:02}", "stage", 1, 2)
    bars = shown.bars()
    assert len(bars) == 8
    assert bars[-1].startswith("0 of 60 months")


def test_one_month_has_no_bar_of_the_run(shown: Shown) -> None:
    shown.display.begin(1)
    shown.display.update("yellow 2020-01", "stage", 1, 2)
    assert shown.bars() == ["2020-01 stage | 50%"]
