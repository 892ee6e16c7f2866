"""A destination for tests that keeps only a ledger in memory, and fails when it is told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.destinations import ALL_MONTHS, Holding, Load, Receipt
from flows.destinations.base import reconcile

if TYPE_CHECKING:
    import datetime as dt

    from flows.errors import TaxiError
    from flows.runtime import ProgressCallback
    from flows.staging import StagedMonth
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth


class Recording:
    """Keeps a ledger in memory.

    Attributes:
        name: of the destination.
        ledger: the loads, by month.
        calls: every publish, in order.
        failures: errors to raise from the next publishes, first one first.
        lost_rows: by how many rows its count is too low.
    """

    def __init__(self, name: str = "recording") -> None:
        """Start empty, without failures."""
        self.name = name
        self.ledger: dict[TripMonth, Load] = {}
        self.calls: list[StagedMonth] = []
        self.failures: list[TaxiError] = []
        self.lost_rows = 0

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """See `Destination.publish`."""
        self.calls.append(staged)
        if self.failures:
            raise self.failures.pop(0)
        load, before = Load.of(staged), self.ledger.get(staged.month)
        if before and before.is_same_data(load) and not force:
            return Receipt(self.name, before.row_count, "unchanged", 0.0)
        reconcile(self.name, staged.rows, staged.rows - self.lost_rows)
        self.ledger[staged.month] = load
        if report:
            report(staged.rows, staged.rows)
        return Receipt(self.name, staged.rows, "published", 0.0)

    def loaded(self, month: TripMonth) -> Load | None:
        """See `Destination.loaded`."""
        return self.ledger.get(month)

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """See `Destination.holdings`."""
        first, last = between
        return [
            Holding(load.file_month, load, load.row_count, load.rejected_rows)
            for month, load in sorted(self.ledger.items())
            if month.dataset is dataset and first <= load.file_month <= last
        ]
