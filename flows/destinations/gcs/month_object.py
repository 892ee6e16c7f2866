"""The bucket as a source: which month an object holds, which columns it has, and how to download it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flows.destinations.gcs.connection import connected
from flows.destinations.gcs.destination import Gcs, read_footer, read_part
from flows.destinations.gcs.ledger import StoredObject, crc32c_of
from flows.errors import DestinationBusy, ReconciliationError, SchemaDrift, SourceCorrupt, SourceNotFound
from flows.runtime import ProgressCallback, atomic_write
from flows.staging import StagedMonth, null_counts

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.destinations.base import Load
    from transforms.trip_month import TripMonth

PIECE_BYTES = 8 * 2**20
"""Downloaded by one request: held in memory, and fetched again after an error."""


@dataclass(frozen=True, slots=True)
class MonthInBucket:
    """One generation of a month's object, with what its metadata and its footer say.

    Attributes:
        month: which month.
        bucket: name of the bucket.
        stored: the object.
        load: its ledger entry.
        new_columns: columns that the dataset does not declare, carried along as text.
        nulls: rows without a value, by column.
        rejects: the object with its rejects; None if it has none.
    """

    month: TripMonth
    bucket: str
    stored: StoredObject
    load: Load
    new_columns: tuple[str, ...]
    nulls: Mapping[str, int] = field(default_factory=dict)
    rejects: StoredObject | None = None

    @property
    def uri(self) -> str:
        """`gs://bucket/name`. NOTE: BigQuery refuses URIs that name a generation."""
        return f"gs://{self.bucket}/{self.stored.name}"

    @property
    def rejects_uri(self) -> str | None:
        """The same of its rejects; None if it has none."""
        return self.rejects and f"gs://{self.bucket}/{self.rejects.name}"

    def as_staged(
        self,
        path: Path,
        rows: int | None = None,
        more: tuple[str, ...] = (),
        rejects_path: Path | None = None,
    ) -> StagedMonth:
        """Describe the month as a staged one.

        Args:
            path: where its rows are.
            rows: how many, if transforms have changed that.
            more: row transforms that were applied after the download.
            rejects_path: where its rejects are, if they have been downloaded.

        Returns:
            The staged month.
        """
        load = self.load
        before = tuple(filter(None, load.row_transforms.split(",")))
        rows = load.row_count if rows is None else rows
        return StagedMonth(
            month=self.month,
            path=path,
            rows=rows,
            source_rows=load.source_rows,
            rejected_rows=load.rejected_rows,
            dropped_rows=load.source_rows - load.rejected_rows - rows,
            rejects_path=rejects_path,
            source=load.source,
            source_sha256=load.source_sha256,
            schema_version=load.schema_version,
            row_transforms=(*before, *more),
            new_columns=self.new_columns,
            odd=tuple(self.stored.odd_rows.items()),
            warnings=tuple(filter(None, (load.warnings or "").split("; "))),
        )


class MonthsInBucket(Gcs):
    """The bucket of the destination `gcs`, read as a source."""

    def find(self, month: TripMonth) -> MonthInBucket:
        """Look up the object of a month, and check it.

        Args:
            month: which month.

        Returns:
            The object as it is now.

        Raises:
            SourceNotFound: there is none.
            SourceCorrupt: this program has not uploaded it, or it is not Parquet.
            ReconciliationError: its metadata and its footer count different rows.
            SchemaDrift: its columns are not those of the dataset.
        """
        uri = f"gs://{self.bucket}/{self.object_name(month)}"
        upload = f"taxi-etl web-to-gcs --color {month.color} --year {month.year} --months {month.month}"
        with connected(self._address) as session:
            stored = self._find(session, self.object_name(month))
            if stored is None:
                raise SourceNotFound(f"there is no {uri}; upload the month first: {upload}")
            load = self._complete_load(session, month, stored)
            if load is None:
                raise SourceCorrupt(
                    f"{uri} does not say what it was made from, or it or its rejects were changed since; "
                    f"upload it again: {upload} --force"
                )
            rejects = self._find(session, self.rejects_name(month)) if load.rejected_rows else None
            footer = read_footer(session, stored)
        if footer.num_rows != load.row_count:
            raise ReconciliationError(
                f"{uri} has {footer.num_rows:,} rows, its metadata says {load.row_count:,}; upload it "
                f"again: {upload} --force"
            )
        new_columns = _new_columns(month, footer.schema.to_arrow_schema(), f"{upload} --force")
        nulls = null_counts(footer)
        return MonthInBucket(month, self.bucket, stored, load, new_columns, nulls, rejects)

    def is_current(self, month_object: MonthInBucket) -> bool:
        """Whether the object has not been replaced since it was found.

        Args:
            month_object: as it was found.
        """
        with connected(self._address) as session:
            stored = self._find(session, self.object_name(month_object.month))
        return stored is not None and stored.generation == month_object.stored.generation

    def download(self, stored: StoredObject, path: Path, report: ProgressCallback | None = None) -> None:
        """Download an object; the file appears only when it is whole and its checksum right.

        Args:
            stored: the object; another generation is not accepted.
            path: destination file; replaced.
            report: called with (bytes done, total bytes).

        Raises:
            DestinationBusy: the object has been replaced meanwhile.
        """
        with (
            connected(self._address) as session,
            atomic_write(path) as temporary,
            temporary.open("w+b") as file,
        ):
            for first in range(0, stored.size, PIECE_BYTES):
                file.write(read_part(session, stored, first, min(first + PIECE_BYTES, stored.size)))
                if report:
                    report(file.tell(), stored.size)
            if crc32c_of(file) != stored.crc32c:
                raise DestinationBusy(
                    f"gs://{self.bucket}/{stored.name} arrived damaged (checksum differs)", "run it again"
                )
            file.flush()  # atomic_write syncs and renames it before it is closed


def _new_columns(month: TripMonth, schema: pa.Schema, upload: str) -> tuple[str, ...]:
    """The undeclared columns of an object, if all others are exactly the declared ones."""
    new = tuple(name for name in schema.names if name not in month.dataset.types())
    types = {field.name: str(field.type) for field in schema}
    differences = [
        f"{field.name} is {types.get(field.name, 'not there')}, not {field.type}"
        for field in month.dataset.arrow_schema(new)
        if types.get(field.name) != str(field.type)
    ]
    if differences:
        raise SchemaDrift(
            f"the object in the bucket was staged in another shape: {'; '.join(differences)}; upload it "
            f"again: {upload}"
        )
    return new
