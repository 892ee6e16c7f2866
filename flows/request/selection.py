"""Which months to load: by number in one year, from one month to another, or the newest."""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from flows.errors import UsageError
from flows.settings import get_settings
from transforms.datasets import DATASETS
from transforms.trip_month import TripMonth, months_between

logger = logging.getLogger(__name__)

FIRST_YEAR, LAST_YEAR = 2009, 2099
DEFAULT_YEAR = 2021
THREE_WAYS = "--months 1 2 3 --year 2021, or --since 2019-01 --until 2021-07, or --latest 3"

NewestMonths = Callable[[int, TripMonth | None], list[TripMonth]]


def today() -> dt.date:
    """The current day in UTC, from which the newest months are looked for."""
    return dt.datetime.now(dt.UTC).date()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which months to load; exactly one of `months`, `since` and `latest` is given.

    Attributes:
        months: 1 to 12, of `year`.
        year: of all of `months`; None: 2021.
        since, until: first and last month, such as `2019-01`; without `until`, up to the newest month
            that the source has.
        latest: how many of the newest months that the source has.
    """

    months: tuple[int, ...] | None = None
    year: int | None = None
    since: str | None = None
    until: str | None = None
    latest: int | None = None

    @property
    def label(self) -> str:
        """Such as `2021`, `2019-01 to 2021-07`, `since 2019-01`, `latest 3`."""
        if self.latest is not None:
            return f"latest {self.latest}"
        if self.since is not None:
            return f"{self.since} to {self.until}" if self.until else f"since {self.since}"
        return str(self.one_year)

    @property
    def one_year(self) -> int:
        """The year of `months`."""
        return DEFAULT_YEAR if self.year is None else self.year

    @property
    def is_open_ended(self) -> bool:
        """Whether only the source can tell which months they are."""
        return self.latest is not None or (self.since is not None and self.until is None)

    def or_tutorial_months(self) -> Selection:
        """This selection; without any months those of the tutorial, January to March."""
        has_months = any(given is not None for given in (self.months, self.since, self.until, self.latest))
        return self if has_months else replace(self, months=(1, 2, 3))

    def since_first_month(self, color: str) -> Selection | None:
        """The months of this selection that there can be of a dataset; None if there are none.

        Args:
            color: dataset.
        """
        first = DATASETS[color].first_month
        if self.since is not None and self.since < first:
            is_over = self.until is not None and self.until < first
            return None if is_over else replace(self, since=first)
        months = self.months and tuple(n for n in self.months if f"{self.one_year:04}-{n:02}" >= first)
        return None if self.months and not months else replace(self, months=months)

    def check(self, color: str) -> None:
        """Refuse a selection that makes no sense, without asking the source.

        Args:
            color: dataset.

        Raises:
            UsageError: what is wrong, and the legal values.
        """
        ways = {"--months": self.months, "--since": self.since, "--latest": self.latest}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise UsageError(
                f"{' and '.join(given)} are two ways to say which months; give one: {THREE_WAYS}"
            )
        if self.until is not None and self.since is None:
            raise UsageError(f"--until {self.until} needs --since: the first month, such as --since 2019-01")
        if not given:
            raise UsageError(f"no months; say which: {THREE_WAYS}")
        if self.year is not None and self.months is None:
            raise UsageError(f"--year {self.year} goes with --months, not with {given[0]}")
        if self.latest is not None and self.latest < 1:
            raise UsageError(f"--latest {self.latest}: at least 1 month")
        if self.since is not None:
            self._check_range(color)
        elif self.months is not None:
            self._check_numbers()
        for month in self.known_months(color)[:1]:
            if month.iso < (first := month.dataset.first_month):
                raise UsageError(f"there is no {month.label}: {color} starts with {first}")

    def known_months(self, color: str) -> list[TripMonth]:
        """The months that are known without asking the source.

        Args:
            color: dataset.

        Returns:
            All of them in calendar order, each once. Of an open-ended selection: the first of a range, none
            of the newest.
        """
        if self.months is not None:
            return [TripMonth(color, self.one_year, month) for month in sorted({*self.months})]
        if self.since is None:
            return []
        first = TripMonth.of_iso(color, self.since)
        return months_between(first, TripMonth.of_iso(color, self.until or self.since))

    def resolve(self, color: str, source: str) -> list[TripMonth]:
        """All months in calendar order, each once; the source is asked if the selection is open-ended.

        Args:
            color: dataset.
            source: see `flows.sources.locate_source`.

        Raises:
            SourceNotFound, SourceUnreachable, SourceBusy, SourceCorrupt: see `newest_months`.
        """

        def newest(count: int, since: TripMonth | None) -> list[TripMonth]:
            from flows.sources import newest_months  # late: httpx takes a tenth of a second

            return newest_months(source, color, count, get_settings(), today=today(), since=since)

        return self.resolve_by(color, newest)

    def resolve_by(self, color: str, newest: NewestMonths) -> list[TripMonth]:
        """All months in calendar order, each once; `newest` is asked if the selection is open-ended.

        Args:
            color: dataset.
            newest: finds the newest months, in calendar order, given how many and the oldest to consider.
        """
        if not self.is_open_ended:
            return self.known_months(color)
        if self.latest is not None:
            months = newest(self.latest, None)
        else:
            [first] = self.known_months(color)
            months = months_between(first, newest(1, first)[-1])
        logger.info("%s, %s: %s to %s", color, self.label, months[0].iso, months[-1].iso)
        return months

    def _check_numbers(self) -> None:
        if not FIRST_YEAR <= self.one_year <= LAST_YEAR:
            raise UsageError(f"year {self.year} is not between {FIRST_YEAR} and {LAST_YEAR}")
        if wrong := sorted(month for month in {*(self.months or ())} if not 1 <= month <= 12):
            raise UsageError(f"months are 1 to 12, not {', '.join(map(str, wrong))}")
        if not self.months:
            raise UsageError("no months; give at least one of 1 to 12")

    def _check_range(self, color: str) -> None:
        bounds = {"--since": self.since, "--until": self.until}
        months = {name: _read_month(color, name, iso) for name, iso in bounds.items() if iso is not None}
        this_month = TripMonth.of_date(color, today())
        for name, month in months.items():
            if month > this_month:
                raise UsageError(f"{name} {month.iso} is in the future; this month is {this_month.iso}")
        if months["--since"] > months.get("--until", this_month):
            raise UsageError(f"--since {self.since} is after --until {self.until}; swap them")


def _read_month(color: str, option: str, iso: str) -> TripMonth:
    try:
        return TripMonth.of_iso(color, iso)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from None


def month_numbers(text: str) -> Sequence[int]:
    """Read `3` or `1-12` from the command line.

    Args:
        text: as the user typed it.

    Returns:
        Numbers of months, in order. A single number is not checked against 1 to 12.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    match = re.fullmatch(r"(-?\d{1,9})(?:-(\d{1,9}))?", text, re.ASCII)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a month (1 to 12) nor a range such as 3-5")
    if match[2] is None:
        return (int(match[1]),)
    first, last = int(match[1]), int(match[2])
    if not 1 <= first <= last <= 12:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no range of months: the first is at least 1, the last at most 12 and not before "
            "it; over the turn of a year, use --since and --until"
        )
    return range(first, last + 1)
