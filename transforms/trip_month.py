"""The unit of work: one month of one dataset."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from transforms.datasets import DATASETS

if TYPE_CHECKING:
    from transforms.dataset import Dataset

ISO_MONTH = r"^[0-9]{4}-(0[1-9]|1[0-2])$"
"""The pattern of a month such as `2021-01`."""


@dataclass(frozen=True, slots=True, order=True)
class TripMonth:
    """One month of one dataset: the month of the *file*, not of the pick-up.

    Attributes:
        color: `yellow`, `green`, `fhv` or `fhvhv`.
        year: such as 2021.
        month: 1 to 12.
    """

    color: str
    year: int
    month: int

    @classmethod
    def of_iso(cls, color: str, iso: str) -> Self:
        """Parse a month.

        Args:
            color: the dataset's name.
            iso: such as `2021-01`.

        Returns:
            The month.

        Raises:
            ValueError: it is not written like that, or there is no such month.
        """
        if not re.fullmatch(ISO_MONTH, iso):
            raise ValueError(f"{iso!r} is no month; a month is written as 2021-01")
        return cls(color, int(iso[:4]), int(iso[5:]))

    @classmethod
    def of_date(cls, color: str, day: dt.date) -> Self:
        """Find the month of a day.

        Args:
            color: the dataset's name.
            day: any day of the month.

        Returns:
            The month.
        """
        return cls(color, day.year, day.month)

    @property
    def dataset(self) -> Dataset:
        """The declaration of its columns."""
        return DATASETS[self.color]

    @property
    def first_day(self) -> dt.date:
        """The first day of the month, the value of `file_month` in every row."""
        return dt.date(self.year, self.month, 1)

    @property
    def last_day(self) -> dt.date:
        """The last day of the month."""
        return self.later(1).first_day - dt.timedelta(days=1)

    @property
    def iso(self) -> str:
        """The month alone, such as `2021-01`."""
        return f"{self.year:04}-{self.month:02}"

    @property
    def label(self) -> str:
        """The name for people, such as `yellow 2021-01`."""
        return f"{self.color} {self.iso}"

    @property
    def stem(self) -> str:
        """The name of its files without an ending, such as `yellow_tripdata_2021-01`."""
        return f"{self.color}_tripdata_{self.iso}"

    def later(self, months: int) -> TripMonth:
        """Add months.

        Args:
            months: how many; negative for an earlier month.

        Returns:
            The month of the same dataset.
        """
        years, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        return TripMonth(self.color, years, month + 1)


def months_between(first: TripMonth, last: TripMonth) -> list[TripMonth]:
    """List the months from one to another.

    Args:
        first: of any dataset.
        last: of the same dataset.

    Returns:
        The months in order, both included; none if `last` is before `first`.
    """
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    return [first.later(months) for months in range(count)]
