"""Which month is loaded where, by the ledgers: what is loaded, what is missing, what does not add up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.destinations import ALL_MONTHS, Destination, Holding, Load
from flows.errors import TaxiError
from flows.month import failed_gates
from flows.runtime import Layout
from flows.staging import StagedMonth, read_staged
from transforms.datasets import DATASETS
from transforms.trip_month import TripMonth, months_between

if TYPE_CHECKING:
    from flows.request import Selection
    from transforms.dataset import Dataset

DestinationStatus = Literal["loaded", "differs", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class MonthInDestination:
    """A month in one destination.

    Attributes:
        status: `loaded`: every count agrees; `differs`: `reason` says what does not; `missing`: the
            destination has nothing of the month; `unknown`: it cannot be queried.
        rows: counted in the destination now; None if it cannot be counted.
        load: the ledger's row; None if there is none.
        reason: what differs; empty if nothing does.
    """

    status: DestinationStatus
    rows: int | None = None
    load: Load | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The counted rows beside the numbers of the ledger, which are null where it has no row."""
        load = self.load
        return {
            "status": self.status,
            "rows": self.rows,
            "ledger_rows": load and load.row_count,
            "source_rows": load and load.source_rows,
            "rejected_rows": load and load.rejected_rows,
            "warnings": load and load.warnings,
            "loaded_at": load and load.loaded_at.isoformat(),
            "source": load and load.source,
            "source_sha256": load and load.source_sha256,
            "schema_version": load and load.schema_version,
            "row_transforms": load and load.row_transforms,
            "reason": self.reason or None,
        }


@dataclass(frozen=True, slots=True)
class MonthInventory:
    """A month in every queried destination.

    Attributes:
        month: the month.
        staged: the staged file in the data directory; None if there is none.
        destinations: the state of the month, by destination.
        failed_gates: of a staged file that is not loaded everywhere: why it is not published, in words.
    """

    month: TripMonth
    staged: StagedMonth | None
    destinations: Mapping[str, MonthInDestination]
    failed_gates: str = ""

    @property
    def loads(self) -> list[Load]:
        """The ledgers' rows of the month."""
        return [state.load for state in self.destinations.values() if state.load]

    def to_json(self) -> dict[str, Any]:
        """The month's entry in the JSON of the inventory."""
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
            "failed_gates": self.failed_gates or None,
            "destinations": {name: state.to_json() for name, state in self.destinations.items()},
        }


@dataclass(frozen=True, slots=True)
class Inventory:
    """The months of one dataset in several destinations.

    Attributes:
        color: the dataset.
        destinations: the queried destinations.
        months: in calendar order.
        refusals: for each destination that could not be queried, the reason in one line.
    """

    color: str
    destinations: tuple[str, ...]
    months: tuple[MonthInventory, ...]
    refusals: Mapping[str, str]

    @property
    def gaps(self) -> list[TripMonth]:
        """The months between the first and the last that none of the destinations has."""
        have = {
            month.month
            for month in self.months
            if any(s.status != "missing" for s in month.destinations.values())
        }
        return [month for month in months_between(min(have), max(have)) if month not in have] if have else []

    @property
    def is_fine(self) -> bool:
        """Whether every month is loaded in every destination, and all counts agree."""
        return not self.refusals and all(
            state.status == "loaded" for month in self.months for state in month.destinations.values()
        )

    def to_json(self) -> dict[str, Any]:
        """The output of `flows/status.py --json`; docs/reference/months-and-status.md describes it."""
        return {
            "dataset": self.color,
            "fine": self.is_fine,
            "destinations": list(self.destinations),
            "months": [month.to_json() for month in self.months],
            "gaps": [month.iso for month in self.gaps],
            "errors": dict(self.refusals),
        }


def take_inventory(
    color: str, selection: Selection | None, destinations: Sequence[Destination], data_dir: Path
) -> Inventory:
    """Compare ledgers, row counts and staged files of the months of a dataset.

    Args:
        color: the dataset.
        selection: which months; None: every month that is in any of the destinations.
        destinations: queried once each.
        data_dir: contains the staged files.

    Returns:
        The inventory; a destination that cannot be queried is in its `refusals`.
    """
    holdings, refusals = query_holdings(destinations, DATASETS[color], _bounds(color, selection))
    by_month = {name: _by_month(color, of_destination) for name, of_destination in holdings.items()}
    names = tuple(destination.name for destination in destinations)
    months: list[MonthInventory] = []
    for month in _months(color, selection, by_month):
        layout, file_name = Layout(data_dir), f"{month.stem}.parquet"
        staged = read_staged(layout.staged(color) / file_name, month)
        transformed = read_staged(layout.transformed(color) / file_name, month)
        files = [file for file in (staged, transformed) if file]
        states = {
            name: _state(by_month[name].get(month), files)
            if name in by_month
            else MonthInDestination("unknown")
            for name in names
        }
        is_loaded = all(state.status == "loaded" for state in states.values())
        failed = failed_gates(staged) if staged and not is_loaded else ""
        months.append(MonthInventory(month, staged, states, failed))
    return Inventory(color, names, tuple(months), refusals)


def query_holdings(
    destinations: Sequence[Destination], dataset: Dataset, between: tuple[dt.date, dt.date]
) -> tuple[dict[str, list[Holding]], dict[str, str]]:
    """Query several destinations at the same time for what they have of a dataset.

    Args:
        destinations: queried once each.
        dataset: whose months.
        between: first and last file month, both included.

    Returns:
        By destination: what it has, and, for each destination that cannot be queried, why not.
    """

    def query(destination: Destination) -> list[Holding] | TaxiError:
        try:
            return destination.holdings(dataset, between)
        except TaxiError as error:
            return error

    holdings: dict[str, list[Holding]] = {}
    refusals: dict[str, str] = {}
    with ThreadPoolExecutor(max(1, len(destinations)), "holdings") as pool:
        for destination, answer in zip(destinations, pool.map(query, destinations), strict=True):
            if isinstance(answer, TaxiError):
                refusals[destination.name] = answer.message
            else:
                holdings[destination.name] = answer
    return holdings, refusals


def _bounds(color: str, selection: Selection | None) -> tuple[dt.date, dt.date]:
    if selection is None:
        return ALL_MONTHS
    known = selection.known_months(color)
    return known[0].first_day, ALL_MONTHS[1] if selection.is_open_ended else known[-1].last_day


def _by_month(color: str, holdings: Iterable[Holding]) -> dict[TripMonth, Holding]:
    """One holding per month; rows that others wrote under a later day of the month count as its rows."""
    merged: dict[TripMonth, Holding] = {}
    for holding in holdings:
        month = TripMonth.of_date(color, holding.file_month)
        other = merged.get(month, Holding(month.first_day, None, 0))
        rows = None if holding.rows is None or other.rows is None else holding.rows + other.rows
        rejects = holding.rejects + other.rejects
        merged[month] = Holding(month.first_day, other.load or holding.load, rows, rejects)
    return merged


def _months(
    color: str, selection: Selection | None, holdings: Mapping[str, Mapping[TripMonth, Holding]]
) -> list[TripMonth]:
    held = sorted({month for by_month in holdings.values() for month in by_month})
    if selection is None:
        return held
    months = selection.known_months(color)
    return months_between(months[0], max([*held, *months])) if selection.is_open_ended else months


def _state(holding: Holding | None, files: Sequence[StagedMonth]) -> MonthInDestination:
    if holding is None:
        return MonthInDestination("missing")
    reason = _difference(holding, files)
    return MonthInDestination("differs" if reason else "loaded", holding.rows, holding.load, reason)


def _difference(holding: Holding, files: Sequence[StagedMonth]) -> str:
    """The first thing that does not add up, in words; empty if everything does."""
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
    if holding.rejects != load.rejected_rows:
        return f"the ledger says {load.rejected_rows:,} rejects, {holding.rejects:,} are there"
    reasons = [_difference_from_file(load, file) for file in files]
    return reasons[0] if reasons and all(reasons) else ""  # it was loaded from one of them


def _difference_from_file(load: Load, staged: StagedMonth) -> str:
    if staged.source_sha256 != load.source_sha256:
        return "the staged file is of another version of the source"
    if (staged.schema_version, ",".join(staged.row_transforms)) != (load.schema_version, load.row_transforms):
        return "the staged file was staged in another way"
    return "" if staged.rows == load.row_count else f"the staged file has {staged.rows:,} rows"
