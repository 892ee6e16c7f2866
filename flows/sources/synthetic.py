"""Synthetic trips in the releases' own CSV format, dirt included, for machines without a network.

Every value is a function of the file and the row number alone: a random stream per column, entered at
the row number. So a block can be made without the ones before it, and its size changes nothing.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import polars as pl

from transforms.dataset import TIMESTAMP_FORMAT, ColumnType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from transforms.dataset import Dataset

    Whole: TypeAlias = NDArray[np.int64]

GENERATOR_VERSION = 1
"""Raised with every change of the bytes, so that a file that landed before counts as changed."""

BLOCK_ROWS = 100_000
"""Rows made at a time: about 10 MB of text and 30 MB of numbers on the way to it."""


class Dirt(NamedTuple):
    """Rows with a flaw: numbers `at`, `at + every`, ...

    NOTE: each `every` is a multiple of 100 and no two `at` are equal or neighbours, so that no row has
    two flaws, every kind is in a file of a few thousand rows, and a copy is never copied again.
    """

    every: int
    at: int

    def among(self, rows: Whole) -> NDArray[np.bool_]:
        """Which of the row numbers have the flaw."""
        return rows % self.every == self.at


STRAY_YEARS = Dirt(5_000, 11)  # pick-ups in another year, from a clock that was never set
STRAY_MONTHS = Dirt(2_000, 21)  # pick-ups in the month before or after
REVERSED_TRIPS = Dirt(4_000, 31)  # drop-off before pick-up
UNKNOWN_RATES = Dirt(1_000, 41)  # RatecodeID 99, which no data dictionary had before 2022
DUPLICATES = Dirt(5_000, 51)  # the row above once more
ZERO_PASSENGERS = Dirt(100, 61)  # the driver entered nothing
ZERO_DISTANCES = Dirt(200, 71)  # a fare without a mile, often a flat one
NULL_LOCATIONS = Dirt(100, 81)  # fhv: the base did not say from where to where
NEGATIVE_TWINS = Dirt(500, 91)  # the row above with all its amounts negated: a refund
NULL_BLOCK_PERCENT = 2  # yellow, green: last rows of the file, trips that no meter reported
PANDAS_MONTHS = 3  # in months divisible by this, whole numbers are written as pandas does: `1.0`

MISSING = np.iinfo(np.int64).min  # an empty field, while columns are still arrays of int64
DAY = 86_400  # seconds
JITTER = 3_600  # seconds within which rows are out of order
STRAY_YEAR_RANGE = (2001, 2090)
# Busiest zones: the Upper East Side, Midtown, Penn Station, Lincoln Square, JFK, Union Square, ...
BUSY_ZONES = (237, 161, 236, 162, 186, 230, 48, 132, 170, 142, 234, 163)
ZONES = {zone: 20 if zone in BUSY_ZONES else 1 for zone in range(1, 266)}
# Miles in hundredths, log-normal around 1.6: one table look-up costs less than a logarithm per row.
DISTANCES = np.round(
    160 * np.exp([0.85 * NormalDist().inv_cdf((i + 0.5) / 4096) for i in range(4096)])
).astype(np.int64)
# Share of the day's pick-ups in each hour from midnight, per mille, and its running sum.
DEMAND = (33, 24, 17, 12, 9, 8, 19, 34, 43, 43, 44, 46, 49, 50, 53, 54, 50, 58, 68, 66, 61, 59, 56, 44)
DEMAND_UNTIL = np.cumsum((0, *DEMAND)) / sum(DEMAND)
EXTRA_BY_HOUR = np.repeat([50, 0, 100, 50], [6, 10, 4, 4])  # cents: overnight, day, rush, overnight
BASES = ("B00013", "B00254", "B00356", "B00821", "B01145", "B01509", "B02563", "B02849", "B03153")
HIGH_VOLUME = {"B02510": "HV0005", "B02764": "HV0003", "B02867": "HV0003", "B02879": "HV0003"}
HIGH_VOLUME |= {"B02872": "HV0003", "B02800": "HV0004", "B03035": "HV0002"}


@dataclass(frozen=True, slots=True)
class Column:
    """How one column comes about.

    Attributes:
        make: its values: whole numbers, hundredths (of dollars, of miles), seconds, places in `words`.
        nullable: `make` may answer MISSING.
        negated: an amount, of which a negative twin has the opposite.
        words: what a text column can say.
    """

    make: Callable[[Trips], Whole]
    nullable: bool = False
    negated: bool = False
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """What is known of a file before its first row.

    Attributes:
        dataset: what it holds.
        columns: as the releases spell and order them.
        key: what tells its random numbers from those of other files.
        start, end: the month in seconds since 1970; `end` is the next month's first second.
        rows: how many.
        broken_rows: how many of them are broken.
        null_from: row number with which the null block starts.
    """

    dataset: Dataset
    columns: Mapping[str, Column]
    key: tuple[int, ...]
    start: int
    end: int
    rows: int
    broken_rows: int
    null_from: int


class Trips:
    """The rows `low` to `high - 1` of a file, column by column, each made when first asked for."""

    def __init__(self, file: File, low: int, high: int) -> None:
        """Take note; nothing is made yet."""
        self.file = file
        self.low = low
        rows = np.arange(low, high)
        twins = NEGATIVE_TWINS.among(rows)
        self.rows = rows - (twins | DUPLICATES.among(rows))  # a copy has its original's number
        self.sign = np.where(twins, -1, 1)
        self._made: dict[str, Whole] = {}

    def __getitem__(self, name: str) -> Whole:
        """A column by its name in the file."""
        if name not in self._made:
            self._made[name] = self.file.columns[name].make(self)
        return self._made[name]

    def uniform(self, stream: str) -> NDArray[np.float64]:
        """Random numbers in [0, 1), one per row, that depend on the stream and the row number only."""
        seeds = np.random.SeedSequence((*self.file.key, zlib.crc32(stream.encode())))
        # Row n has draw n + 1, so that the original above the block's first row is at hand as well.
        source = np.random.Generator(np.random.PCG64(seeds).advance(self.low))
        return source.random(len(self.rows) + 1)[self.rows - self.low + 1]

    def pick(self, stream: str, table: Whole) -> Whole:
        """One entry of the table per row, all equally likely."""
        return table[(self.uniform(stream) * len(table)).astype(np.int64)]

    @cached_property
    def distance(self) -> Whole:
        """Hundredths of a mile."""
        return self.pick("distance", DISTANCES)

    @cached_property
    def duration(self) -> Whole:
        """Seconds, at 6 to 24 miles per hour."""
        return 60 + self.distance * 36 // self.pick("speed", np.arange(6, 25))

    @cached_property
    def pickup(self) -> Whole:
        """Seconds since 1970."""
        file, stray = self.file, self.uniform("stray")
        regular = file.start + self._regular_pickup()
        offset = np.round((stray - 0.5) * 56 * DAY).astype(np.int64)
        nearby = offset + np.where(offset < 0, file.start, file.end)
        first, last = STRAY_YEAR_RANGE
        own = int(np.datetime64(file.start, "s").astype("datetime64[Y]").astype(int)) + 1970
        years = np.array([year for year in range(first, last + 1) if year != own]) - 1970
        starts = years.astype("datetime64[Y]").astype("datetime64[s]").astype(np.int64)
        far = starts[(stray * len(years)).astype(np.int64)] + regular % (365 * DAY)
        is_near, is_far = STRAY_MONTHS.among(self.rows), STRAY_YEARS.among(self.rows)
        return np.select([is_near, is_far], [nearby, far], regular)
