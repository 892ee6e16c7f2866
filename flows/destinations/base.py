"""What every destination is: `publish` a staged month, and say what is there.

A destination replaces a month as a whole, in one atomic step together with its row in the ledger
`taxi_loads`. Whoever reads meanwhile sees the old month or the new one; whoever is interrupted leaves
the old one; whoever comes again with the same month changes nothing.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

from flows.errors import ReconciliationError, SchemaDrift

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flows.runtime import ProgressCallback
    from flows.staging import StagedMonth
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth

LEDGER = "taxi_loads"
"""The name of the ledger table in every warehouse."""

Status = Literal["published", "unchanged"]


@dataclass(frozen=True, slots=True)
class Load:
    """One row of the ledger: what a month was loaded from, and how many rows that made.

    Attributes:
        dataset, file_month: the key.
        source, source_sha256: the file it came from.
        schema_version, row_transforms: how it was staged.
        source_rows, rejected_rows, row_count: in the file, refused, loaded.
        loaded_at: UTC.
    """

    dataset: str
    file_month: dt.date
    source: str
    source_sha256: str
    schema_version: str
    row_transforms: str
    source_rows: int
    rejected_rows: int
    row_count: int
    loaded_at: dt.datetime

    @classmethod
    def of(cls, staged: StagedMonth) -> Self:
        """The ledger row that a staged month will have, loaded now."""
        return cls(
            dataset=staged.month.color,
            file_month=staged.month.first_day,
            source=staged.source,
            source_sha256=staged.source_sha256,
            schema_version=staged.schema_version,
            row_transforms=",".join(staged.row_transforms),
            source_rows=staged.source_rows,
            rejected_rows=staged.rejected_rows,
            row_count=staged.rows,
            loaded_at=dt.datetime.now(dt.UTC),
        )

    def is_same_data(self, other: Load) -> bool:
        """Whether both come from the same bytes, staged in the same way, with the same result."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("source_sha256", "schema_version", "row_transforms", "row_count")
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a destination says of a month it has.

    Attributes:
        destination: its name.
        rows: rows of the month as the destination itself counts them.
        status: `published`: replaced now; `unchanged`: it was there already, nothing was done.
        seconds: how long it took.
    """

    destination: str
    rows: int
    status: Status
    seconds: float


ALL_MONTHS = (dt.date.min, dt.date.max)
"""Every file month."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a destination has of a month: what its ledger says, and what it counts.

    Attributes:
        file_month: which month.
        load: the ledger's row; None: there are rows that no ledger speaks of.
        rows: rows of the month as the destination itself counts them now; None: it has something for the
            month that cannot be counted, because it is not what was published.
    """

    file_month: dt.date
    load: Load | None
    rows: int | None

    @property
    def reconciles(self) -> bool:
        """Whether the ledger's count is the counted one, as `Destination.loaded` asks for."""
        return self.load is not None and self.load.row_count == self.rows


class Destination(Protocol):
    """A place a month can be published to. Cheap to make; connects only when used."""

    name: str

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """Replace the month by the staged one, atomically, unless it is there already.

        The table is created if it does not exist, and grows by nullable columns.

        Args:
            staged: the month.
            force: replace it even if it is there already.
            report: called with (rows done, rows in all).

        Raises:
            DestinationBusy: locked or not ready; worth trying again.
            SchemaDrift: the table exists in another shape; it is not touched.
            ReconciliationError: the destination counts other rows than were staged; rolled back.
            LocalStorageError: a file cannot be read or written.
        """
        ...

    def loaded(self, month: TripMonth) -> Load | None:
        """The ledger's row for a month if the month is really there, None if it is not.

        A ledger row whose count differs from the table's is reported as None: such a month is loaded
        again. `holdings` shows it.
        """
        ...

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """Every month that the ledger or the table of a dataset knows, in calendar order.

        With one query (a listing, for a bucket) however many months there are. `Holding.reconciles` is true
        for exactly the months of which `loaded` is not None. Nothing is created, and an empty or missing
        ledger or table is no error: there are no months then.

        Args:
            dataset: whose months.
            between: first and last `file_month`, both included; others are not counted.

        Raises:
            DestinationBusy, DestinationRefused, LocalStorageError: it cannot be asked.
        """
        ...


def reconcile(destination: str, staged_rows: int, counted_rows: int) -> None:
    """Raise `ReconciliationError` unless the destination counts what was staged."""
    if staged_rows != counted_rows:
        raise ReconciliationError(
            f"{staged_rows:,} rows staged, {counted_rows:,} counted in {destination}; the month "
            "that was there before stays. Run it again with --force"
        )


def columns_to_add(
    table: str, have: Mapping[str, str], want: Mapping[str, str], differences: Sequence[str] = ()
) -> dict[str, str]:
    """The columns a table lacks, by name and type; they can be added, because all are nullable.

    Args:
        table: for the message.
        have: the table's columns and their types as the destination names them.
        want: the staged file's columns and their types in the same words.
        differences: what else the destination found to be different, in words.

    Raises:
        SchemaDrift: a column is there in another type, or the table has never been ours.
    """
    differ = [
        *differences,
        *(
            f"{name} is {have[name]}, not {kind}"
            for name, kind in want.items()
            if name in have and have[name] != kind
        ),
    ]
    if "file_month" not in have:
        differ.append("there is no column file_month")
    if differ:
        raise SchemaDrift(
            f"table {table} exists in another shape: {'; '.join(differ)}. Rename or drop it, and run "
            "the same command again"
        )
    return {name: kind for name, kind in want.items() if name not in have}
