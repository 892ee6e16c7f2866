"""A month as it lies in the bucket: what it is, which columns it has, and how it gets here if it has to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from flows.destinations.gcs.destination import FOOTER_BYTES, OBJECT, Gcs
from flows.destinations.gcs.ledger import crc32c_of
from flows.errors import DestinationBusy, ReconciliationError, SchemaDrift, SourceCorrupt, SourceNotFound
from flows.runtime import atomic_write
from flows.staging import StagedMonth

if TYPE_CHECKING:
    from pathlib import Path

    from flows.destinations.base import Load
    from flows.destinations.gcs.connection import Session
    from flows.destinations.gcs.ledger import StoredObject
    from flows.runtime import ProgressCallback
    from transforms.trip_month import TripMonth

PIECE_BYTES = 8 * 2**20
"""Fetched at once by a download: what is held in memory, and what is fetched again after an error."""


@dataclass(frozen=True, slots=True)
class MonthInBucket:
    """One version of a month's object, with what its metadata and its footer say.

    Attributes:
        month: which one.
        bucket: its name.
        stored: the object.
        load: what it was made from, and how many rows it has.
        new_columns: columns that the dataset does not declare, carried along as text.
    """

    month: TripMonth
    bucket: str
    stored: StoredObject
    load: Load
    new_columns: tuple[str, ...]

    @property
    def uri(self) -> str:
        """`gs://bucket/name`. NOTE: BigQuery refuses URIs that name a generation."""
        return f"gs://{self.bucket}/{self.stored.name}"

    def as_staged(self, path: Path, rows: int | None = None, more: tuple[str, ...] = ()) -> StagedMonth:
        """The month as the rest of the program knows it.

        Args:
            path: where its rows are.
            rows: how many, if transforms have changed that.
            more: row transforms that were applied to it here.
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
            rejects_path=None,
            source=load.source,
            source_sha256=load.source_sha256,
            schema_version=load.schema_version,
            row_transforms=(*before, *more),
            new_columns=self.new_columns,
        )


class MonthsInBucket(Gcs):
    """The bucket as a source."""

    def find(self, month: TripMonth) -> MonthInBucket:
        """The month's object as it is now.

        Raises:
            SourceNotFound: there is none.
            SourceCorrupt: it is not one that this program has uploaded, or not Parquet.
            ReconciliationError: its metadata and its footer count different rows.
            SchemaDrift: its columns are not those of the dataset.
        """
        with self._connected() as session:
            stored = self._stored(session, month)
            where = f"gs://{self.bucket}/{self.object_name(month)}"
            upload = (
                f"python flows/web_to_gcs.py --color {month.color} --year {month.year} --months {month.month}"
            )
            if stored is None:
                raise SourceNotFound(f"there is no {where}; upload the month first: {upload}")
            load = stored.load_of(month)
            if load is None:
                raise SourceCorrupt(
                    f"{where} does not say what it was made from, or was changed since; upload it again: "
                    f"{upload} --force"
                )
            footer = _footer(session, stored)
        if footer.num_rows != load.row_count:
            raise ReconciliationError(
                f"{where} has {footer.num_rows:,} rows, its metadata says {load.row_count:,}; upload it "
                f"again: {upload} --force"
            )
        return MonthInBucket(
            month, self.bucket, stored, load, _new_columns(month, footer, f"{upload} --force")
        )

    def is_current(self, found: MonthInBucket) -> bool:
        """Whether the object is still the one that was found."""
        with self._connected() as session:
            now = self._stored(session, found.month)
        return now is not None and now.generation == found.stored.generation

    def download(self, found: MonthInBucket, path: Path, report: ProgressCallback | None = None) -> None:
        """Fetch an object; the file is there only when it is whole and its checksum right.

        Args:
            found: that version of it; another one is not taken for it.
            path: where to; replaced.
            report: called with (bytes done, bytes in all).

        Raises:
            DestinationBusy: it has been replaced meanwhile.
        """
        stored = found.stored
        with self._connected() as session, atomic_write(path) as temporary, temporary.open("w+b") as file:
            for first in range(0, stored.size, PIECE_BYTES):
                file.write(_read(session, stored, first, min(first + PIECE_BYTES, stored.size)))
                if report:
                    report(file.tell(), stored.size)
            if crc32c_of(file) != stored.crc32c:
                raise DestinationBusy(f"{found.uri} arrived damaged (checksum differs); run it again")
            file.flush()  # it gets its name before it is closed


def _read(session: Session, stored: StoredObject, first: int, end: int) -> bytes:
    """Bytes `first` to `end`, without the last.

    Raises:
        DestinationBusy: this version of the object is gone.
    """
    answer = session.patiently(
        lambda: session.call(
            "GET",
            OBJECT,
            session.bucket,
            stored.name,
            expect=(200, 206, 404),
            headers={"Range": f"bytes={first}-{end - 1}"},
            alt="media",
            generation=stored.generation,
        )
    )
    if answer.status == 404 or len(answer.body) != end - first:
        raise DestinationBusy(
            f"gs://{session.bucket}/{stored.name} was replaced while it was read; run it again"
        )
    return answer.body


def _footer(session: Session, stored: StoredObject) -> pq.FileMetaData:
    """The Parquet footer.

    Raises:
        SourceCorrupt: there is none.
    """
    try:
        end = _read(session, stored, max(0, stored.size - FOOTER_BYTES), stored.size)
        needed = int.from_bytes(end[-8:-4], "little") + 8
        if FOOTER_BYTES < needed <= stored.size:
            end = _read(session, stored, stored.size - needed, stored.size)
        return pq.read_metadata(pa.BufferReader(end))
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise SourceCorrupt(
            f"gs://{session.bucket}/{stored.name} cannot be read as Parquet ({reason}); upload it again with "
            "--force"
        ) from error


def _new_columns(month: TripMonth, footer: pq.FileMetaData, upload: str) -> tuple[str, ...]:
    """The undeclared columns, if all the others are exactly the declared ones.

    Raises:
        SchemaDrift: they are not; lists how.
    """
    found = footer.schema.to_arrow_schema()
    new = tuple(name for name in found.names if name not in month.dataset.types())
    types = {field.name: str(field.type) for field in month.dataset.arrow_schema(new)}
    have = {field.name: str(field.type) for field in found}
    differ = [
        f"{name} is {have.get(name, 'not there')}, not {kind}"
        for name, kind in types.items()
        if have.get(name) != kind
    ]
    if differ:
        raise SchemaDrift(
            f"the object in the bucket was staged in another shape: {'; '.join(differ)}; upload it "
            f"again: {upload}"
        )
    return new
