"""Months: written, counted, and in order."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.trip_month import TripMonth, months_between

months = st.builds(TripMonth, st.just("yellow"), st.integers(2009, 2099), st.integers(1, 12))


@given(months)
def test_a_month_is_read_as_it_is_written(month: TripMonth) -> None:
    assert TripMonth.of_iso("yellow", month.iso) == month
    assert TripMonth.of_date("yellow", month.last_day) == month
    assert TripMonth.of_date("yellow", month.last_day + dt.timedelta(days=1)) == month.later(1)


@pytest.mark.parametrize(
    "text",
    ["2021-13", "2021-00", "2021-1", "21-01", "2021-01-01", "2021/01", "", "2021-01\n", "\u0662021-01"],
)
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="written as 2021-01"):
        TripMonth.of_iso("yellow", text)


@given(months, st.integers(-300, 300))
def test_later_and_back_again_is_the_same_month(month: TripMonth, count: int) -> None:
    assert month.later(count).later(-count) == month
    assert (month.later(count) > month) is (count > 0)


@given(months, months)
def test_between_two_months_is_each_month_once(first: TripMonth, last: TripMonth) -> None:
    between = months_between(first, last)
    days = [dt.date(year, month, 1) for year in range(2009, 2100) for month in range(1, 13)]
    assert [month.first_day for month in between] == [
        day for day in days if first.first_day <= day <= last.first_day
    ]
