"""The unit of work: one month of one dataset."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transforms.datasets import DATASETS

if TYPE_CHECKING:
    from transforms.dataset import Dataset


@dataclass(frozen=True, slots=True, order=True)
class TripMonth:
    """One month of one dataset, by the month of the *file*, not of the pick-up.

    Attributes:
        color: `yellow`, `green`, `fhv` or `fhvhv`.
        year: such as 2021.
        month: 1 to 12.
    """

    color: str
    year: int
    month: int

    @property
    def dataset(self) -> Dataset:
        """The declaration of its columns."""
        return DATASETS[self.color]

    @property
    def first_day(self) -> dt.date:
        """The value of `file_month` in every row."""
        return dt.date(self.year, self.month, 1)

    @property
    def iso(self) -> str:
        """Such as `2021-01`."""
        return f"{self.year:04}-{self.month:02}"

    @property
    def label(self) -> str:
        """What people read: `yellow 2021-01`."""
        return f"{self.color} {self.iso}"

    @property
    def stem(self) -> str:
        """What its files are called, without an ending: `yellow_tripdata_2021-01`."""
        return f"{self.color}_tripdata_{self.iso}"
