"""Destination `gcs`: the staged Parquet file of a month as one object of a bucket.

An object appears whole or not at all, together with its metadata, which is the ledger. How it works, and
which roles it needs: docs/reference/google.md.

The rejects of a month are an object of their own, outside `data/`, where a wildcard over months would take
them for trips. Two objects cannot be replaced in one step. The rejects come first, so that a new month never
lacks its rejects; a run that ends in between leaves the old month as it was beside rejects whose metadata
belongs to another load: `status` then says that the month differs, it is no source for BigQuery, and the next
run completes it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import NotFound

from flows.destinations.base import (
    ALL_MONTHS,
    Holding,
    Load,
    Receipt,
    ReceiptStatus,
    reconcile,
    reconcile_rejects,
)
from flows.destinations.gcs.connection import GcsAddress, GcsSession, GenerationConflict, connected
from flows.destinations.gcs.ledger import StoredObject, crc32c_of, to_metadata
from flows.destinations.gcs.upload import upload
from flows.destinations.staged_batches import explain_unreadable
from flows.errors import ReconciliationError, SourceCorrupt, UsageError
from flows.gcp import google_credentials
from flows.runtime import ProgressCallback, RetryPolicy, retry_transient
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from flows.settings import Settings
    from flows.staging import StagedMonth
    from transforms.dataset import Dataset

FOOTER_BYTES = 2**16
"""Read first from the end of an object; the footer of a usual month is smaller."""

LISTED_FIELDS = "items(name,generation,size,crc32c,metadata),nextPageToken"

AFTER_CONFLICTS = RetryPolicy(attempts=5, first_pause_seconds=0)
"""How often another run of the same month may come first before this one gives up."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_FOLDER = re.compile(r"[^\x00-\x1f\x7f#?*\[\]\\]*")


class Gcs:
    """A bucket with one object for each month, below one folder.

    Attributes:
        bucket: its name.
        folder: empty, or with a slash at its end.
    """

    name = "gcs"

    def __init__(self, address: GcsAddress, folder: str = "") -> None:
        """Keep the address; nothing is sent.

        Args:
            address: of the bucket.
            folder: below which every object lies; empty, or with a slash at its end.
        """
        self.bucket = address.bucket
        self.folder = folder
        self._address = address

    @classmethod
    def from_settings(cls, data_dir: Path, settings: Settings) -> Self:  # noqa: ARG003 - as every destination
        """Make the destination that the settings name; nothing is sent yet.

        Args:
            data_dir: not used.
            settings: with the values of Prefect blocks already filled in.

        Returns:
            The destination.

        Raises:
            UsageError: no bucket is named, or there are no credentials; lists every place that was tried.
        """
        emulator = settings.storage_emulator_host
        bucket, folder = bucket_and_folder(settings)
        identity = google_credentials(settings, emulator=emulator)
        policy = RetryPolicy(settings.http_attempts, settings.http_backoff_seconds)
        return cls(GcsAddress(identity, bucket, policy, settings.http_timeout_seconds, emulator), folder)

    def object_name(self, month: TripMonth) -> str:
        """The name of a month's object, such as `data/yellow/yellow_tripdata_2021-01.parquet`.

        Args:
            month: the month.
        """
        return f"{self.folder}data/{month.color}/{month.stem}.parquet"

    def rejects_name(self, month: TripMonth) -> str:
        """The name of the object with a month's rejects, such as `rejects/yellow/...-01.rejects.parquet`.

        Args:
            month: the month.
        """
        return f"{self.folder}rejects/{month.color}/{month.stem}.rejects.parquet"

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """See `Destination.publish`.

        Raises:
            DestinationRefused: no connection, no such bucket, or no permission.
            GenerationConflict: other runs were faster again and again.
        """
        started = time.perf_counter()
        load = Load.of(staged)

        def attempt() -> tuple[int, ReceiptStatus]:
            before = self._find(session, self.object_name(staged.month))
            existing = self._complete_load(session, staged.month, before)
            if existing == load:  # our own: only the answer to its last chunk was lost
                return load.row_count, "published"
            if existing and existing.is_same_data(load) and not force:
                return existing.row_count, "unchanged"
            return self._replace(session, staged, load, before, report), "published"

        with connected(self._address) as session:
            rows, status = retry_transient(attempt, AFTER_CONFLICTS, retry_on=GenerationConflict)
        if report and status == "published":
            report(rows, staged.rows)
        return Receipt(self.name, rows, status, time.perf_counter() - started)

    def loaded(self, month: TripMonth) -> Load | None:
        """See `Destination.loaded`."""
        with connected(self._address) as session:
            stored = self._find(session, self.object_name(month))
        holding = stored.holding_of(month, None) if stored else None
        return holding.load if holding and holding.has_its_trips else None

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """See `Destination.holdings`."""
        prefix = f"{self.folder}data/{dataset.name}/"
        with connected(self._address) as session:
            objects = self._list(session, prefix)
            has_rejects = any(stored.load.rejected_rows for stored in objects if stored.load)
            rejects = self._list(session, f"{self.folder}rejects/{dataset.name}/") if has_rejects else []
        by_name = {stored.name: stored for stored in rejects}
        holdings: list[Holding] = []
        for stored in objects:
            iso = stored.name.removeprefix(f"{prefix}{dataset.name}_tripdata_").removesuffix(".parquet")
            try:
                month = TripMonth.of_iso(dataset.name, iso)
            except ValueError:  # another object
                continue
            if stored.name == self.object_name(month) and between[0] <= month.first_day <= between[1]:
                holdings.append(stored.holding_of(month, by_name.get(self.rejects_name(month))))
        return sorted(holdings, key=lambda holding: holding.file_month)

    def _list(self, session: GcsSession, prefix: str) -> list[StoredObject]:
        blobs = session.bucket.list_blobs(prefix=prefix, fields=LISTED_FIELDS, **session.options)
        return [StoredObject.of(blob) for blob in blobs]

    def _find(self, session: GcsSession, name: str) -> StoredObject | None:
        blob = session.bucket.get_blob(name, **session.options)
        return StoredObject.of(blob) if blob else None

    def _complete_load(
        self, session: GcsSession, month: TripMonth, stored: StoredObject | None
    ) -> Load | None:
        """The ledger entry of a month; None if its objects are not what was uploaded for that month."""
        if not stored or not (load := stored.load):
            return None
        rejects = self._find(session, self.rejects_name(month)) if load.rejected_rows else None
        return load if stored.holding_of(month, rejects).reconciles else None

    def _replace(
        self,
        session: GcsSession,
        staged: StagedMonth,
        load: Load,
        before: StoredObject | None,
        report: ProgressCallback | None,
    ) -> int:
        """Replace the rejects, then the month; returns the rows that the object then has."""
        name = self.rejects_name(staged.month)
        rejects = self._find(session, name) if before or staged.rejects_path else None
        if staged.rejects_path:
            self._upload_rejects(session, staged.rejects_path, name, load, rejects)
        else:
            reconcile_rejects(self.name, load.rejected_rows, 0)
        rows = self._upload(session, staged, load, before.generation if before else 0, report)
        if rejects and not staged.rejects_path:  # only now: until here they belonged to the month
            with contextlib.suppress(NotFound, GenerationConflict):  # another run has replaced them
                session.bucket.blob(name).delete(if_generation_match=rejects.generation, **session.options)
        return rows

    def _upload_rejects(
        self, session: GcsSession, path: Path, name: str, load: Load, before: StoredObject | None
    ) -> None:
        with explain_unreadable(path), path.open("rb") as file:
            reconcile_rejects(self.name, load.rejected_rows, pq.read_metadata(file).num_rows)
            blob = session.bucket.blob(name)
            blob.crc32c = crc32c = crc32c_of(file)
            blob.metadata = to_metadata(load, crc32c)
            upload(session, blob, file, before.generation if before else 0, lambda _: None)

    def _upload(
        self,
        session: GcsSession,
        staged: StagedMonth,
        load: Load,
        replaces: int,
        report: ProgressCallback | None,
    ) -> int:
        """Put the staged file in place of a generation; returns the rows that the object then has."""

        def progress(arrived: int) -> None:
            if report and 0 < arrived < size:  # all rows only when they have been counted
                report(staged.rows * arrived // size, staged.rows)

        with _opened(staged) as file:
            rows, size = pq.read_metadata(file).num_rows, file.seek(0, 2)
            # As good as after the upload: the checksum lets no other content appear.
            reconcile(self.name, staged.rows, rows)
            blob = session.bucket.blob(self.object_name(staged.month))
            blob.crc32c = crc32c = crc32c_of(file)
            blob.metadata = to_metadata(load, crc32c, staged.odd)
            upload(session, blob, file, replaces, progress)
        stored = StoredObject.of(blob)
        try:
            counted = int(read_footer(session, stored).num_rows)
        except GenerationConflict:  # replaced by another run, which counts its own rows
            counted = rows
        except SourceCorrupt as error:
            raise ReconciliationError(error.message) from error
        if (stored.crc32c, counted) != (crc32c, staged.rows):
            raise ReconciliationError(
                f"{staged.rows:,} rows staged, {counted:,} counted in gs://{self.bucket}/{stored.name} "
                f"(checksum {stored.crc32c}, of the file {crc32c}); run it again with --force"
            )
        return counted


def read_part(session: GcsSession, stored: StoredObject, first: int, end: int) -> bytes:
    """Read a part of one generation of an object.

    Args:
        session: a connection to its bucket.
        stored: the object.
        first: first byte.
        end: the byte after the last.

    Returns:
        The bytes.

    Raises:
        GenerationConflict: this generation is gone.
    """
    blob = session.bucket.blob(stored.name, generation=stored.generation)
    options: dict[str, Any] = {**session.options, "checksum": None}
    try:
        return blob.download_as_bytes(start=first, end=end - 1, **options)
    except NotFound:
        raise GenerationConflict(
            f"gs://{session.bucket.name}/{stored.name} was replaced while it was read; run it again"
        ) from None


def read_footer(session: GcsSession, stored: StoredObject) -> pq.FileMetaData:
    """Read the Parquet footer at the end of an object.

    Args:
        session: a connection to its bucket.
        stored: the object.

    Returns:
        The footer.

    Raises:
        GenerationConflict: this generation of the object is gone.
        SourceCorrupt: it is not Parquet.
    """
    tail = read_part(session, stored, max(0, stored.size - FOOTER_BYTES), stored.size)
    footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
    if FOOTER_BYTES < footer_bytes <= stored.size:
        tail = read_part(session, stored, stored.size - footer_bytes, stored.size)
    try:
        return pq.read_metadata(pa.BufferReader(tail))
    except pa.ArrowException as error:
        raise SourceCorrupt(
            f"gs://{session.bucket.name}/{stored.name} cannot be read as Parquet "
            f"({' '.join(str(error).split())}); upload it again with --force"
        ) from error


@contextlib.contextmanager
def _opened(staged: StagedMonth) -> Generator[BinaryIO]:
    with explain_unreadable(staged.path), staged.path.open("rb") as file:
        yield file


def bucket_and_folder(settings: Settings) -> tuple[str, str]:
    """Read and check the names of bucket and folder.

    Args:
        settings: with the values of Prefect blocks already filled in.

    Returns:
        The bucket, and the folder: empty, or with a slash at its end.

    Raises:
        UsageError: no bucket is named, and the places that were tried; or a name is not a legal one.
    """
    bucket = (settings.gcs_bucket or "").strip().removeprefix("gs://").rstrip("/")
    if not bucket:
        raise UsageError(
            "no bucket is named. Tried: the environment variable TAXI_GCS_BUCKET, the same in .env, the "
            "Prefect block de-gcs. Name one, such as TAXI_GCS_BUCKET=my-bucket, or run flows/blocks.py"
        )
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{bucket!r} cannot be a bucket; legal are 3 to 63 of a-z 0-9 . _ -, first and last a letter "
            "or digit; a folder in it belongs into TAXI_GCS_FOLDER"
        )
    folder = settings.gcs_folder.strip().strip("/")
    if not _FOLDER.fullmatch(folder) or (folder and {"", ".", ".."} & set(folder.split("/"))):
        raise UsageError(
            f"TAXI_GCS_FOLDER={folder!r} cannot be a folder; legal are names with / between them, "
            "without # ? * [ ] \\ or control characters"
        )
    return bucket, f"{folder}/" if folder else ""
