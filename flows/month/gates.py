"""The gates of a month: it is measured once it is staged, and published only if it can be right.

The rows of the neighbouring months come from where they are found first: the staged files, the files that
land ahead, the ledgers of the destinations. What is not known is not judged.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow.parquet as pq

from flows.errors import GateFailed, TaxiError
from flows.month.ahead import rows_ahead
from flows.month.unchanged import Destinations, is_everywhere, is_held
from flows.settings import get_settings
from flows.staging import count_duplicates, count_rows, null_counts, read_staged
from transforms.gates import COLLAPSES, MEASURES, RowCounts, Verdict, gates_in_force, judge, measure
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from flows.staging import StagedMonth

logger = logging.getLogger(__name__)

LANDING_SECONDS = 5.0
"""How long a month waits for a neighbour's file that is on its way, to learn the number of its rows."""


@dataclass(frozen=True)
class Neighbours:
    """What is known of the months before and after one.

    Attributes:
        rows: by month.
        nulls_before: rows of the month before and its rows without a value by column; None: not known.
    """

    rows: Mapping[TripMonth, int] = field(default_factory=dict)
    nulls_before: tuple[int, Mapping[str, int]] | None = None


class Gates:
    """The gates of a month that is being staged. A context manager: it looks for the neighbours meanwhile."""

    def __init__(self, month: TripMonth, directory: Path, destinations: Destinations) -> None:
        """Ask the ledgers, in a thread, unless there are staged files.

        Args:
            month: which one.
            directory: of the staged files.
            destinations: make those that the month goes to.
        """
        self._month, self._directory, self._destinations = month, directory, destinations
        self._around = (month.later(-1), month.later(1))
        self._pool = ThreadPoolExecutor(1, "neighbours")
        self._asked: Future[dict[TripMonth, int]] | None = None
        if not self._staged():
            self._asked = self._pool.submit(copy_context().run, _rows_in_ledgers, month, destinations)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the ledgers' answer."""
        self._pool.shutdown()

    def check(
        self, staged: StagedMonth, counts: RowCounts, accepted: Collection[str], *, force: bool
    ) -> StagedMonth:
        """Hold the month against its gates, see `pass_gates`.

        Args:
            staged: the month.
            counts: of its rows.
            accepted: measures that do not fail this time.
            force: it is replaced even where it is already.
        """
        return pass_gates(staged, counts, self.neighbours(), accepted, [] if force else self._destinations)

    def neighbours(self) -> Neighbours:
        """What is known by now; waits a little for files that are on their way."""
        staged = self._staged()
        nulls_before = None
        if before := self._before():
            staged[before.month] = before
            nulls_before = before.rows, _nulls(before)
        ahead = {month: rows_ahead(month, LANDING_SECONDS) for month in self._around if month not in staged}
        rows = {month: count for month, count in ahead.items() if count}
        rows |= {month: one.rows for month, one in staged.items()}
        if not rows and self._asked:
            rows = self._asked.result()
        return Neighbours(rows, nulls_before)

    def _staged(self) -> dict[TripMonth, StagedMonth]:
        return {month: staged for month in self._around if (staged := self._read(month))}

    def _before(self) -> StagedMonth | None:
        """The staged month before; an earlier one, if that one failed a gate.

        Its staged file stays when a month fails. The next one must not be measured by it: a source that goes
        wrong would be stopped only once.
        """
        earlier = [one for months in (-1, -2, -3) if (one := self._read(self._month.later(months)))]
        for staged, before in zip_longest(earlier, earlier[1:]):
            if not before or not _has_lost(staged, before) or self._is_loaded(staged):
                return staged
        return None

    def _is_loaded(self, staged: StagedMonth) -> bool:
        for make in self._destinations:
            with contextlib.suppress(TaxiError):
                if is_held(make(), staged):
                    return True
        return False

    def _read(self, month: TripMonth) -> StagedMonth | None:
        return read_staged(self._directory / f"{month.stem}.parquet", month)


def _has_lost(staged: StagedMonth, before: StagedMonth) -> bool:
    """Whether a month lacks most rows, or all values of a column, of the one before."""
    nulls, nulls_before = _nulls(staged), _nulls(before)
    return staged.rows < before.rows / 10 or any(
        count == staged.rows and nulls_before.get(name, before.rows) < before.rows
        for name, count in nulls.items()
    )


def _nulls(staged: StagedMonth) -> dict[str, int]:
    return null_counts(pq.read_metadata(staged.path))


def _rows_in_ledgers(month: TripMonth, destinations: Destinations) -> dict[TripMonth, int]:
    """The rows of the neighbours in the first destination that has one; failures are left to publishing."""
    first, last = month.later(-1).first_day, month.later(1).first_day
    for make in destinations:
        with contextlib.suppress(TaxiError):
            holdings = make().holdings(month.dataset, (first, last))
            loads = [one.load for one in holdings if one.load and one.has_its_trips]
            rows = {TripMonth.of_date(month.color, load.file_month): load.row_count for load in loads}
            rows.pop(month, None)
            if rows:
                return rows
    return {}


def measures_of(staged: StagedMonth, counts: RowCounts, neighbours: Neighbours) -> dict[str, float]:
    """Every measure of a month that is known; exact duplicates only if there is a gate for them.

    Args:
        staged: the month.
        counts: of its rows.
        neighbours: of the month.

    Returns:
        Values by measure.

    Raises:
        QualityReportFailed: DuckDB cannot count the duplicates.
    """
    month = staged.month
    if "exact_duplicates" in gates_in_force(month.color, get_settings().gates):
        counts = replace(counts, odd={**counts.odd, "exact_duplicates": count_duplicates(staged)})
    collapsed = (month.color, month.iso) in COLLAPSES
    compared = [rows for one, rows in neighbours.rows.items() if not (collapsed and one < month)]
    return measure(
        counts,
        not_expected=month.dataset.expected_missing(staged.missing_columns, month.iso),
        before=neighbours.nulls_before,
        neighbours=compared,
    )


def failed_gates(staged: StagedMonth) -> str:
    """The gates that keep a staged month from being published, by the other staged files; empty if none does.

    Args:
        staged: the month.
    """
    with Gates(staged.month, staged.path.parent, ()) as gates:
        measures = measures_of(staged, count_rows(staged), gates.neighbours())
    failures, _ = judge(measures, gates_in_force(staged.month.color, get_settings().gates))
    return "; ".join(map(str, failures))


def pass_gates(
    staged: StagedMonth,
    counts: RowCounts,
    neighbours: Neighbours,
    accepted: Collection[str],
    destinations: Destinations,
) -> StagedMonth:
    """Hold a month against its gates; to be called before anything is published.

    Args:
        staged: the month.
        counts: of its rows.
        neighbours: of the month.
        accepted: measures that do not fail this time.
        destinations: make those it is for. A month that all of them have already does not fail, because
            its trips are the same; none are given if it is replaced in any case.

    Returns:
        The month with its odd rows and its warnings.

    Raises:
        GateFailed: names each measure, its value, its threshold, and the option that lets the month through.
    """
    month = staged.month
    gates = gates_in_force(month.color, get_settings().gates)
    failures, warnings = judge(measures_of(staged, counts, neighbours), gates, accepted)
    staged = replace(staged, odd=tuple(counts.odd.items()))
    if failures and not is_everywhere(staged, destinations):
        raise GateFailed(_explain(failures))
    texts = tuple(map(str, failures + warnings))
    for text in texts:
        logger.warning("%s: %s", month.label, text)
    return replace(staged, warnings=texts)


def _explain(failures: Sequence[Verdict]) -> str:
    what = "; ".join(f"{one} ({MEASURES[one.measure.partition('.')[0]]})" for one in failures)
    accept = " ".join(one.measure for one in failures)
    return (
        f"not published, because it cannot be right: {what}; the month there stays. Correct the source, let "
        f"it through once with --accept {accept}, or change the threshold in TAXI_GATES "
        "(docs/reference/gates.md)"
    )
