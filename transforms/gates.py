"""Gates: what a staged month measures, and beyond which value it is warned about or not published.

A measure is a share (0 to 1) of the month's rows, except `row_ratio`. The defaults let every month pass that
the TLC has published, and stop what cannot be right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

LEAST_ROWS = 1_000
"""A month of fewer rows is not judged by shares, and no other month by its rows."""

ROW_RATIO = "row_ratio"
"""The one measure of which less is worse."""

MEASURES = {
    "pickup_outside_month": "rows with a pick-up outside the month of the file",
    "dropoff_before_pickup": "rows that end before they begin",
    "negative_fare": "rows with a fare below 0",
    "zero_distance": "rows with a distance of 0",
    "zero_passengers": "rows with 0 passengers",
    "exact_duplicates": "rows that repeat another one",
    "rejected": "rows of the source that were rejected; --max-reject-ratio is the limit that comes first",
    "nulls": "rows without a value, by column",
    "emptied": "rows of the month before with a value, by column, if this month has none at all",
    ROW_RATIO: "rows of the month divided by those of the larger neighbouring month",
}
"""What each measure counts. `nulls` and `emptied` are measured for each column: `nulls.tip_amount`."""

BY_COLUMN = ("nulls", "emptied")


EVERY_DATASET = "all"

GivenGates: TypeAlias = Mapping[str, Mapping[str, Mapping[Literal["warn", "fail"], float | None]]]
"""Thresholds by dataset (or `all`) and measure."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The thresholds of a measure; None: there is none.

    Attributes:
        warn: a value beyond it is said.
        fail: a month with a value beyond it is not published.
    """

    warn: float | None = None
    fail: float | None = None


_EVERYWHERE = {
    "pickup_outside_month": Gate(0.01, 0.5),
    "dropoff_before_pickup": Gate(0.01, 0.5),
    "negative_fare": Gate(0.05, 0.5),
    "zero_distance": Gate(0.2, 0.9),
    "zero_passengers": Gate(0.5),
    "rejected": Gate(0.001),
    "emptied": Gate(0.05, 0.5),
    ROW_RATIO: Gate(0.5, 0.1),
}
_NEVER_EMPTY = {
    "yellow": ("tpep_dropoff_datetime", "trip_distance", "fare_amount", "total_amount"),
    "green": ("lpep_dropoff_datetime", "trip_distance", "fare_amount", "total_amount"),
    "fhv": (),  # in some years next to nothing but the pick-up
    "fhvhv": ("dropoff_datetime",),
}

DEFAULT_GATES: Mapping[str, Mapping[str, Gate]] = {
    dataset: _EVERYWHERE | {f"nulls.{column}": Gate(0.1, 0.99) for column in columns}
    for dataset, columns in _NEVER_EMPTY.items()
}
"""The gates by dataset and measure."""

COLLAPSES = {("yellow", "2020-04"), ("fhv", "2019-02")}
"""Months that the TLC published with less than a tenth of the rows of the month before: the first of the
pandemic (238,073 after 3,007,687), and the first without the high-volume services, which have had a dataset
of their own since (1,707,650 after 23,159,064).

There is no other one from 2009-01 to 2024-05, by the row counts of all 487 Parquet files of that time in
https://github.com/lykmapipo/NYC-TLC-Trip-Data (data/trips-metadata).
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A value beyond a threshold.

    Attributes:
        measure: its name, with the column if it is by column.
        value: measured.
        threshold: it is beyond.
    """

    measure: str
    value: float
    threshold: float

    def __str__(self) -> str:
        """Such as `zero_distance 0.31 > 0.2`."""
        sign = "<" if self.measure == ROW_RATIO else ">"
        return f"{self.measure} {self.value:.4g} {sign} {self.threshold:g}"


@dataclass(frozen=True, slots=True)
class RowCounts:
    """The numbers of a staged month that its measures are made from.

    Attributes:
        rows: staged.
        source_rows, rejected_rows: in the source, and rejected.
        odd: rows by what is odd about them, see `transforms.quality`.
        nulls: rows without a value, by column.
    """

    rows: int
    source_rows: int
    rejected_rows: int
    odd: Mapping[str, int]
    nulls: Mapping[str, int]


def measure(
    counts: RowCounts,
    *,
    not_expected: Collection[str] = (),
    before: tuple[int, Mapping[str, int]] | None = None,
    neighbours: Iterable[int] = (),
) -> dict[str, float]:
    """Compute every measure that is known.

    Args:
        counts: of the month.
        not_expected: columns that a file of this month does not have.
        before: rows of the month before, and its rows without a value by column.
        neighbours: rows of the neighbouring months.

    Returns:
        Values by measure; shares only if the month has enough rows.
    """
    measures: dict[str, float] = {}
    if counts.rows >= LEAST_ROWS:
        nulls = {name: count for name, count in counts.nulls.items() if name not in not_expected}
        measures |= {name: count / counts.rows for name, count in counts.odd.items()}
        measures["rejected"] = counts.rejected_rows / counts.source_rows
        measures |= {f"nulls.{name}": count / counts.rows for name, count in nulls.items()}
        rows_before, nulls_before = before or (0, {})
        if rows_before >= LEAST_ROWS:
            emptied = [name for name, count in nulls.items() if count == counts.rows and name in nulls_before]
            measures |= {f"emptied.{name}": 1 - nulls_before[name] / rows_before for name in emptied}
    if (largest := max(neighbours, default=0)) >= LEAST_ROWS:
        measures[ROW_RATIO] = counts.rows / largest
    return measures


def judge(
    measures: Mapping[str, float], gates: Mapping[str, Gate], accepted: Collection[str] = ()
) -> tuple[list[Verdict], list[Verdict]]:
    """Hold measures against their gates.

    Args:
        measures: values by measure.
        gates: of the dataset, by measure; one by column goes before that of every column.
        accepted: measures, or families of them such as `emptied`, of which no value fails.

    Returns:
        The values that fail, and those that are worth a warning, accepted ones among them.
    """
    failures: list[Verdict] = []
    warnings: list[Verdict] = []
    for name, value in measures.items():
        family = name.partition(".")[0]
        gate = gates.get(name) or gates.get(family) or Gate()
        if gate.fail is not None and _is_beyond(name, value, gate.fail):
            is_accepted = name in accepted or family in accepted
            (warnings if is_accepted else failures).append(Verdict(name, value, gate.fail))
        elif gate.warn is not None and _is_beyond(name, value, gate.warn):
            warnings.append(Verdict(name, value, gate.warn))
    return failures, warnings


def _is_beyond(measure: str, value: float, threshold: float) -> bool:
    return value < threshold if measure == ROW_RATIO else value > threshold


def gates_in_force(dataset: str, given: GivenGates) -> dict[str, Gate]:
    """The gates of a dataset: the defaults, and what the settings change about them.

    Args:
        dataset: its name.
        given: thresholds by dataset (or `all`) and measure; those of the dataset go before those of `all`.

    Returns:
        The gates by measure.
    """
    gates = dict(DEFAULT_GATES.get(dataset, _EVERYWHERE))
    for name in (EVERY_DATASET, dataset):
        for measure_name, thresholds in given.get(name, {}).items():
            gates[measure_name] = replace(gates.get(measure_name, Gate()), **thresholds)
    return gates


def unknown_measures(names: Iterable[str], columns: Collection[str]) -> list[str]:
    """Select the names that are no measures.

    Args:
        names: as a user has given them.
        columns: that the dataset declares.
    """
    return [
        name
        for name in names
        if name not in MEASURES
        and not (name.partition(".")[0] in BY_COLUMN and name.partition(".")[2] in columns)
    ]


def legal_measures() -> Sequence[str]:
    """The legal names, for messages."""
    return [f"{name}[.COLUMN]" if name in BY_COLUMN else name for name in MEASURES]
