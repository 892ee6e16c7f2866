"""Which months are asked for, and what is refused before anybody is asked."""

from __future__ import annotations

import argparse
import datetime as dt

import pytest

from flows.errors import UsageError
from flows.request import Selection, month_numbers
from flows.request import selection as module


@pytest.fixture(autouse=True)
def _in_november(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "today", lambda: dt.date(2026, 11, 20))


def isos(asked: Selection) -> list[str]:
    asked.check("yellow")
    return [month.iso for month in asked.known_months("yellow")]


def test_months_are_of_2021_unless_a_year_is_given() -> None:
    assert isos(Selection((3, 1, 3))) == ["2021-01", "2021-03"]
    assert isos(Selection((12,), year=2019)) == ["2019-12"]


def test_without_anything_they_are_the_tutorials() -> None:
    assert isos(Selection().or_tutorial_months()) == ["2021-01", "2021-02", "2021-03"]
    assert isos(Selection(year=2019).or_tutorial_months()) == ["2019-01", "2019-02", "2019-03"]


def test_a_range_goes_over_the_turn_of_a_year() -> None:
    assert isos(Selection(since="2019-11", until="2020-02")) == [
        "2019-11",
        "2019-12",
        "2020-01",
        "2020-02",
    ]
    assert isos(Selection(since="2026-11", until="2026-11")) == ["2026-11"]


@pytest.mark.parametrize(
    ("asked", "label", "is_open_ended"),
    [
        (Selection(months=(1,)), "2021", False),
        (Selection(months=(1,), year=2019), "2019", False),
        (Selection(since="2019-01", until="2021-07"), "2019-01 to 2021-07", False),
        (Selection(since="2019-01"), "since 2019-01", True),
        (Selection(latest=3), "latest 3", True),
    ],
)
def test_a_selection_says_what_it_is(asked: Selection, label: str, is_open_ended: bool) -> None:
    asked.check("yellow")
    assert (asked.label, asked.is_open_ended) == (label, is_open_ended)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Selection(), "no months"),
        (Selection(months=()), "no months"),
        (Selection(months=(0, 13)), "not 0, 13"),
        (Selection(months=(1,), year=0), "year 0"),
        (Selection(months=(1,), since="2019-01"), "--months and --since"),
        (Selection(months=(1,), since="2019-01", latest=1), "--months and --since and --latest"),
        (Selection(latest=1, until="2019-01"), "--until 2019-01 needs --since"),
        (Selection(latest=-1), "--latest -1"),
        (Selection(since="2019-01", year=2019), "--year 2019"),
        (Selection(since="2019-1"), "--since '2019-1'"),
        (Selection(since="2019-01", until="2019-13"), "--until '2019-13'"),
        (Selection(since="2019-02", until="2019-01"), "swap"),
        (Selection(since="2026-12"), "future; this month is 2026-11"),
        (Selection(since="2019-02", until="2026-12"), "future"),
        (Selection(since="2008-12", until="2019-01"), "yellow starts with 2009-01"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(asked: Selection, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        asked.check("yellow")
    assert said in refused.value.message
    assert "\n" not in refused.value.message


def test_the_command_line_knows_numbers_and_ranges() -> None:
    assert [list(month_numbers(text)) for text in ("7", "3-5", "1-12", "4-4", "-1", "13")] == [
        [7],
        [3, 4, 5],
        list(range(1, 13)),
        [4],
        [-1],  # refused as a month, with the legal ones
        [13],
    ]


@pytest.mark.parametrize("text", ["5-3", "0-3", "1-13", "1-", "1-999999999999", "1-2-3", "x", "", "1.5", "²"])
def test_the_command_line_refuses_what_is_no_range(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        month_numbers(text)
