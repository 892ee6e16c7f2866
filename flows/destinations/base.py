"""What every destination offers, and the checks that all of them share.

A destination replaces a month as a whole, in one atomic step together with the month's row in the ledger
`taxi_loads`: readers see the old month or the new one, an interrupted run leaves the old one, and publishing
the same month again changes nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from flows.errors import ReconciliationError, SchemaDrift, UsageError

if TYPE_CHECKING:
    from flows.runtime import ProgressCallback
    from flows.staging import StagedMonth
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth

LEDGER = "taxi_loads"
"""The name of the ledger table in every warehouse."""

REJECTS = "taxi_rejects"
"""The name of the table with the rejected rows in every warehouse; a bucket has a folder `rejects`."""

ALL_MONTHS = (dt.date.min, dt.date.max)
"""The range of every file month."""

ReceiptStatus = Literal["published", "unchanged"]

_same_data = attrgetter("source_sha256", "schema_version", "row_transforms", "row_count")


@dataclass(frozen=True, slots=True)
class Load:
    """One row of the ledger: what a month was loaded from, and how many rows it has.

    The fields are the columns of the ledger table, in its order; `flows.destinations.ledger` derives its SQL
    from them.

    Attributes:
        dataset, file_month: the key.
        source, source_sha256: the file the month came from.
        schema_version, row_transforms: how it was staged; names of transforms, joined by commas.
        source_rows, rejected_rows, row_count: rows in the file, refused, loaded.
        loaded_at: in UTC.
        warnings: measures beyond their `warn` threshold when the month was loaded, see `transforms.gates`;
            None: there were none, or a version without gates has loaded it.
    """

    dataset: str = field(metadata={"description": "yellow, green, fhv or fhvhv"})
    file_month: dt.date = field(metadata={"description": "first day of the month of the file"})
    source: str = field(metadata={"description": "URL of the file"})
    source_sha256: str = field(metadata={"description": "of the file's bytes"})
    schema_version: str = field(metadata={"description": "of the declaration it was staged by"})
    row_transforms: str = field(metadata={"description": "what was done to the rows on request"})
    source_rows: int = field(metadata={"description": "rows in the file"})
    rejected_rows: int = field(metadata={"description": "rows refused"})
    row_count: int = field(metadata={"description": "rows loaded"})
    loaded_at: dt.datetime = field(metadata={"description": "when"})
    warnings: str | None = field(default=None, metadata={"description": "what was odd about the month"})

    @classmethod
    def of(cls, staged: StagedMonth) -> Self:
        """The ledger row of a staged month, loaded now.

        Args:
            staged: the month.
        """
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
            warnings="; ".join(staged.warnings) or None,
        )

    def is_of(self, source_sha256: str | None, schema_version: str, row_transforms: Sequence[str]) -> bool:
        """Whether the month was loaded from these bytes, staged in this way.

        Args:
            source_sha256: of the source file, in hex; None matches nothing.
            schema_version: `Dataset.schema_version` of the staged file.
            row_transforms: names of the transforms, in order.
        """
        origin = (self.source_sha256, self.schema_version, self.row_transforms)
        return origin == (source_sha256, schema_version, ",".join(row_transforms))

    def is_same_data(self, other: Load) -> bool:
        """Whether both come from the same bytes, staged in the same way, with the same number of rows.

        Args:
            other: another load of the same month.
        """
        return _same_data(self) == _same_data(other)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a destination returns for a month that it holds.

    Attributes:
        destination: its name.
        rows: rows of the month as the destination itself counts them.
        status: `published`: replaced now; `unchanged`: it was up to date, nothing was done.
        seconds: how long that took.
    """

    destination: str
    rows: int
    status: ReceiptStatus
    seconds: float


@dataclass(frozen=True, slots=True)
class Holding:
    """What a destination has of a month: the row of its ledger, its trips and its rejected rows.

    Attributes:
        file_month: first day of the month.
        load: the ledger's row; None: there are rows without a row in the ledger.
        rows: rows of the month as the destination itself counts them now; None: it has something for the
            month that cannot be counted, because it is not what was published.
        rejects: rejected rows that it keeps of the month, as it counts them now.
    """

    file_month: dt.date
    load: Load | None
    rows: int | None
    rejects: int = 0

    @property
    def has_its_trips(self) -> bool:
        """Whether the ledger's count equals that of the trips."""
        return self.load is not None and self.load.row_count == self.rows

    @property
    def reconciles(self) -> bool:
        """Whether the ledger's counts equal those of trips and rejects; if not, the month is published."""
        return self.has_its_trips and self.load is not None and self.load.rejected_rows == self.rejects


class Destination(Protocol):
    """A place a month can be published to. Cheap to create; connects only when used."""

    name: str

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """Replace the month by the staged one, atomically, unless the same data is already loaded.

        The table is created if it does not exist; nullable columns that it lacks are added.

        Args:
            staged: the month.
            force: replace it even if the same data is already loaded.
            report: called with (rows done, rows in all).

        Returns:
            The rows counted, and whether anything was done.

        Raises:
            DestinationBusy: locked or not ready; worth trying again.
            SchemaDrift: the table exists in another shape; it is not touched.
            ReconciliationError: the destination counts other rows than were staged; rolled back.
            LocalStorageError: a file cannot be read or written.
        """
        ...

    def loaded(self, month: TripMonth) -> Load | None:
        """The ledger's row of a month, if the table has the rows it records.

        A month whose count differs is reported as None, so that it is loaded again; `holdings` shows it.
        Where trips and rejects cannot be replaced in one step, only the trips count.

        Args:
            month: which one.

        Returns:
            The row, or None if the month is not loaded.
        """
        ...

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """Every month of a dataset that the ledger or the table has.

        Takes one query (for a bucket, one listing) however many months there are, and creates nothing.

        Args:
            dataset: whose months.
            between: first and last `file_month`, both included; others are not counted.

        Returns:
            The months in calendar order; none if ledger and table are empty or missing. `loaded` is not None
            for exactly the months of which `Holding.reconciles` is true, or, where trips and rejects are
            replaced one after the other (gcs, iceberg), `Holding.has_its_trips`.

        Raises:
            DestinationBusy, DestinationRefused, LocalStorageError: the destination cannot be read.
        """
        ...


class Warehouse(Destination, Protocol):
    """A destination that answers queries."""

    def ask(self, queries: Sequence[str], relations: Sequence[str]) -> list[list[tuple[Any, ...]]]:
        """Run queries that change nothing.

        Args:
            queries: in DuckDB's SQL, without schemas; each is rendered for the warehouse.
            relations: the tables and views that they read.

        Returns:
            The rows of each query. In DuckDB and Postgres all of them see the same state of the data.

        Raises:
            UsageError: a relation is missing; nothing was asked.
            DestinationBusy, DestinationRefused, LocalStorageError: the warehouse cannot be read.
        """
        ...


def require_relations(place: str, missing: Collection[str]) -> None:
    """Refuse queries to a warehouse that lacks what they read.

    Args:
        place: the warehouse, for the message.
        missing: tables and views that it does not have.

    Raises:
        UsageError: names them, and what makes them.
    """
    if missing:
        raise UsageError(
            f"{place} has no {', '.join(missing)}; load a month into it first, without TAXI_VIEWS=false: "
            "taxi-etl load --color yellow --months 1"
        )


def reconcile(destination: str, staged_rows: int, counted_rows: int) -> None:
    """Check that the destination counts the rows that were staged.

    Args:
        destination: its name, for the message.
        staged_rows: rows of the staged file.
        counted_rows: rows of the month in the destination.

    Raises:
        ReconciliationError: the two differ.
    """
    if staged_rows != counted_rows:
        raise ReconciliationError(
            f"{staged_rows:,} rows staged, {counted_rows:,} counted in {destination}; the month "
            "that was there before stays. Run it again with --force"
        )


def reconcile_rejects(destination: str, rejected_rows: int, counted_rows: int) -> None:
    """Check that the destination keeps the rows that were rejected.

    Args:
        destination: its name, for the message.
        rejected_rows: rows that the staging rejected.
        counted_rows: rejected rows of the month in the destination.

    Raises:
        ReconciliationError: the two differ.
    """
    if rejected_rows != counted_rows:
        raise ReconciliationError(
            f"{rejected_rows:,} rows rejected, {counted_rows:,} of them in {REJECTS} of {destination}; the "
            "month that was there before stays. Run it again with --force"
        )


def columns_to_add(
    table: str,
    have: Mapping[str, str],
    want: Mapping[str, str],
    *,
    required: Collection[str] = (),
    differences: Sequence[str] = (),
    advice: str = "Rename it, and run the same command again",
) -> dict[str, str]:
    """The columns that a table lacks to take a month; all are nullable, so they can be added.

    Args:
        table: its name, for the message.
        have: the table's columns and their types, as the destination names them.
        want: the columns to be written and their types, named in the same way.
        required: columns of the table that take no null and have no default.
        differences: what else differs, such as the partitioning, in words.
        advice: what to do about a table of another shape, for the end of the message.

    Returns:
        Type by name, in the order of `want`.

    Raises:
        SchemaDrift: the table has another shape; names every difference.
    """
    differences = [
        *differences,
        *(
            f"{name} is {have[name]}, not {kind}"
            for name, kind in want.items()
            if have.get(name, kind) != kind
        ),
        *(["there is no column file_month"] if "file_month" not in have else []),
        *(f"{name} takes no null, and the file does not have it" for name in sorted({*required} - {*want})),
    ]
    if differences:
        raise SchemaDrift(f"table {table} exists in another shape: {'; '.join(differences)}. {advice}")
    return {name: kind for name, kind in want.items() if name not in have}
