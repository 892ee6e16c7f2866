"""Which month is loaded where, by the ledgers: what is there, what is missing, what does not add up."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from flows.destinations import ALL_MONTHS, Holding
from flows.errors import TaxiError
from flows.runtime import Layout
from flows.staging import read_staged
from transforms.datasets import DATASETS
from transforms.trip_month import TripMonth, months_between

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from flows.destinations import Destination, Load
    from flows.request import Selection
    from flows.staging import StagedMonth

Status = Literal["loaded", "differs", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class MonthInDestination:
    """A month in one destination.

    Attributes:
        status: `loaded`: there, and every count agrees; `differs`: see `reason`; `missing`; `unknown`: the
            destination cannot be asked.
        rows: as the destination counts them now; None if it cannot.
        load: the ledger's row; None if there is none.
        reason: what differs; empty if nothing does.
    """

    status: Status
    rows: int | None = None
    load: Load | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Every number of the ledger beside the counted rows; null where there is none."""
        load = self.load
        return {
            "status": self.status,
            "rows": self.rows,
            "ledger_rows": load and load.row_count,
            "source_rows": load and load.source_rows,
            "rejected_rows": load and load.rejected_rows,
            "loaded_at": load and load.loaded_at.isoformat(),
            "source": load and load.source,
            "source_sha256": load and load.source_sha256,
            "schema_version": load and load.schema_version,
            "row_transforms": load and load.row_transforms,
            "reason": self.reason or None,
        }


@dataclass(frozen=True, slots=True)
class MonthInventory:
    """A month in every destination that was asked.

    Attributes:
        month: which one.
        staged: the staged file, None if there is none here.
        there: by destination.
    """

    month: TripMonth
    staged: StagedMonth | None
    there: Mapping[str, MonthInDestination]

    def to_json(self) -> dict[str, Any]:
        """The month's entry."""
        staged = self.staged
        return {
            "year": self.month.year,
            "month": self.month.month,
            "staged": staged
            and {
                "rows": staged.rows,
                "source_rows": staged.source_rows,
                "rejected_rows": staged.rejected_rows,
                "source_sha256": staged.source_sha256,
            },
            "destinations": {name: there.to_json() for name, there in self.there.items()},
        }


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is where.

    Attributes:
        color: dataset.
        destinations: that were asked.
        months: in calendar order.
        refusals: why, in one line, of each destination that could not be asked.
    """

    color: str
    destinations: tuple[str, ...]
    months: tuple[MonthInventory, ...]
    refusals: Mapping[str, str]

    @property
    def is_fine(self) -> bool:
        """Whether everything that was asked for is there and adds up."""
        return not self.refusals and all(
            there.status == "loaded" for month in self.months for there in month.there.values()
        )

    def counts(self, destination: str) -> Counter[Status]:
        """How many months are in which state there."""
        return Counter(month.there[destination].status for month in self.months)

    def to_json(self) -> dict[str, Any]:
        """What `flows/status.py --json` prints; docs/operations.md describes it."""
        return {
            "dataset": self.color,
            "fine": self.is_fine,
            "destinations": list(self.destinations),
            "months": [month.to_json() for month in self.months],
            "errors": dict(self.refusals),
        }


def take_inventory(
    color: str, asked: Selection | None, destinations: Sequence[Destination], data_dir: Path
) -> Inventory:
    """Ask every destination once, all of them at the same time.

    Args:
        color: dataset.
        asked: which months; None: every month that any of the destinations knows.
        destinations: where to look.
        data_dir: where staged files are.
    """
    layout, held, refusals = Layout(data_dir), {}, {}
    between = _bounds(color, asked)
    with ThreadPoolExecutor(max(1, len(destinations)), "status") as pool:
        answers = pool.map(lambda destination: _ask(destination, color, between), destinations)
        for destination, answer in zip(destinations, answers, strict=True):
            if isinstance(answer, TaxiError):
                refusals[destination.name] = answer.message
            else:
                held[destination.name] = answer
    months: list[MonthInventory] = []
    for month in _months(color, asked, held):
        staged = read_staged(layout.staged(color) / f"{month.stem}.parquet", month)
        there = {
            one.name: _there(held[one.name].get(month), staged)
            if one.name in held
            else MonthInDestination("unknown")
            for one in destinations
        }
        months.append(MonthInventory(month, staged, there))
    return Inventory(color, tuple(one.name for one in destinations), tuple(months), refusals)


def _bounds(color: str, asked: Selection | None) -> tuple[dt.date, dt.date]:
    if asked is None:
        return ALL_MONTHS
    known = asked.known_months(color)
    return known[0].first_day, ALL_MONTHS[1] if asked.is_open_ended else known[-1].last_day


def _ask(
    destination: Destination, color: str, between: tuple[dt.date, dt.date]
) -> dict[TripMonth, Holding] | TaxiError:
    """What a destination has, by month."""
    held: dict[TripMonth, Holding] = {}
    try:
        found = destination.holdings(DATASETS[color], between)
    except TaxiError as error:
        return error
    for holding in found:
        month = TripMonth.of_date(color, holding.file_month)
        # Somebody's own rows, of another day than the first, are rows too many in their month.
        before = held.get(month, Holding(month.first_day, None, 0))
        rows = None if holding.rows is None or before.rows is None else holding.rows + before.rows
        held[month] = Holding(month.first_day, before.load or holding.load, rows)
    return held


def _months(
    color: str, asked: Selection | None, held: Mapping[str, Mapping[TripMonth, Holding]]
) -> list[TripMonth]:
    known = sorted({month for months in held.values() for month in months})
    if asked is None:
        return known
    months = asked.known_months(color)
    return months_between(months[0], max([*known, *months])) if asked.is_open_ended else months


def _there(holding: Holding | None, staged: StagedMonth | None) -> MonthInDestination:
    if holding is None:
        return MonthInDestination("missing")
    reason = _difference(holding, staged)
    return MonthInDestination("differs" if reason else "loaded", holding.rows, holding.load, reason)


def _difference(holding: Holding, staged: StagedMonth | None) -> str:
    """What does not add up, in words; empty if everything does."""
    load, rows = holding.load, holding.rows
    if rows is None:
        return "what is there is not what was published"
    if load is None:
        return f"{rows:,} rows that the ledger does not know"
    if load.row_count < 0:  # pending, see flows/destinations/bigquery/load_job.py
        return "a load has begun and is not known to have ended"
    if rows != load.row_count:
        return f"the ledger says {load.row_count:,} rows, {rows:,} are there"
    if not load.row_transforms and load.source_rows != load.row_count + load.rejected_rows:
        return f"of {load.source_rows:,} rows, {load.row_count:,} loaded and {load.rejected_rows:,} rejected"
    if staged is None:
        return ""
    if staged.source_sha256 != load.source_sha256:
        return "the staged file is of another version of the source"
    if (staged.schema_version, ",".join(staged.row_transforms)) != (load.schema_version, load.row_transforms):
        return "the staged file was staged in another way"
    return "" if staged.rows == load.row_count else f"the staged file has {staged.rows:,} rows"
