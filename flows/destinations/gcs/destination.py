"""Destination `gcs`: the staged Parquet file of a month as one object of a bucket.

An object appears whole or not at all, together with its metadata, which is the ledger. How it works, and
which roles it needs: docs/google.md.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

from flows.destinations.base import ALL_MONTHS, Holding, Load, Receipt, reconcile
from flows.destinations.gcs import ledger as ledger
from flows.destinations.gcs.connection import Patience, Session, connected
from flows.destinations.gcs.ledger import StoredObject, crc32c_of, object_name, to_metadata
from flows.destinations.gcs.resumable_upload import GenerationConflict, Transfer, Upload
from flows.errors import LocalStorageError, ReconciliationError, UsageError
from flows.gcp import google_credentials

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Generator
    from pathlib import Path
    from typing import BinaryIO

    from flows.destinations.base import ReceiptStatus
    from flows.gcp import GoogleIdentity
    from flows.runtime import ProgressCallback
    from flows.settings import Settings
    from flows.staging import StagedMonth
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth

FOOTER_BYTES = 2**16
"""Read at once from the end of an object; the footer of a usual month is smaller."""

OBJECT = "b/{}/o/{}"
"""The address of an object."""

MOST_CONFLICTS = 5
"""How often another run of the same month may come first before this one gives up."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_FOLDER = re.compile(r"[^\x00-\x1f\x7f#?*\[\]\\]*")


class Gcs:
    """A bucket with one object for each month, below one folder."""

    name = "gcs"

    def __init__(
        self,
        identity: GoogleIdentity,
        bucket: str,
        folder: str = "",
        patience: Patience | None = None,
        emulator: str | None = None,
    ) -> None:
        """Remember where.

        Args:
            identity: who we are.
            bucket: its name.
            folder: below which everything is kept; empty or with a slash at its end.
            patience: how long to try.
            emulator: endpoint to talk to instead of Google.
        """
        self.bucket = bucket
        self.folder = folder
        self._identity = identity
        self._patience = patience or Patience()
        self._emulator = emulator

    @classmethod
    def from_settings(cls, data_dir: Path, settings: Settings) -> Self:  # noqa: ARG003 - as every destination
        """The bucket that the settings name; nothing is sent yet.

        Raises:
            UsageError: no bucket is named, or there are no credentials; lists every place that was tried.
        """
        emulator = settings.storage_emulator_host
        bucket, folder = bucket_and_folder(settings)
        patience = Patience(
            settings.http_attempts, settings.http_backoff_seconds, settings.http_timeout_seconds
        )
        return cls(google_credentials(settings, emulator=emulator), bucket, folder, patience, emulator)

    def object_name(self, month: TripMonth) -> str:
        """The name of a month's object in the bucket."""
        return object_name(self.folder, month)

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """See `Destination.publish`.

        Raises:
            DestinationRefused: no network, no such bucket, no right to do it.
        """
        started = time.perf_counter()
        load = Load.of(staged)
        with self._connected() as session:
            rows, status = self._replace(session, staged, load, force=force, report=report)
        if report and status == "published":
            report(rows, staged.rows)
        return Receipt(self.name, rows, status, time.perf_counter() - started)

    def loaded(self, month: TripMonth) -> Load | None:
        """See `Destination.loaded`."""
        with self._connected() as session:
            stored = self._stored(session, month)
        return stored.load_of(month) if stored else None

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """See `Destination.holdings`."""
        with self._connected() as session:
            return ledger.holdings(session, self.folder, dataset, between)

    def _connected(self) -> contextlib.AbstractContextManager[Session]:
        return connected(self._identity, self.bucket, self._patience, self._emulator)

    def _stored(self, session: Session, month: TripMonth) -> StoredObject | None:
        """The object of a month, if there is one."""
        answer = session.open_call("GET", OBJECT, self.bucket, self.object_name(month), expect=(200, 404))
        return StoredObject.of(answer.json()) if answer.status == 200 else None

    def _replace(
        self,
        session: Session,
        staged: StagedMonth,
        load: Load,
        *,
        force: bool,
        report: ProgressCallback | None,
    ) -> tuple[int, ReceiptStatus]:
        """Upload the month unless it is there; look again when another run was faster.

        Raises:
            GenerationConflict: others were faster again and again.
        """
        overtaken = 0
        while True:
            before = self._stored(session, staged.month)
            noted = before.load_of(staged.month) if before else None
            if noted == load:  # ours: only the answer that said so was lost
                return load.row_count, "published"
            if noted and noted.is_same_data(load) and not force:
                return noted.row_count, "unchanged"
            try:
                return self._upload(session, staged, load, before, report), "published"
            except GenerationConflict:
                overtaken += 1
                if overtaken == MOST_CONFLICTS:
                    raise

    def _upload(
        self,
        session: Session,
        staged: StagedMonth,
        load: Load,
        before: StoredObject | None,
        report: ProgressCallback | None,
    ) -> int:
        """Put the staged file in place of `before`; returns the rows that the object then has.

        Raises:
            GenerationConflict: `before` is not there any more.
            ReconciliationError: the rows are not those that were staged.
        """

        def progress(arrived: int) -> None:
            if report and arrived < size:  # all of them only when they have been counted
                report(staged.rows * arrived // size, staged.rows)

        with _opened(staged) as file:
            rows, size, crc32c = pq.read_metadata(file).num_rows, file.seek(0, 2), crc32c_of(file)
            stored = Transfer(
                session,
                Upload(
                    name=self.object_name(staged.month),
                    size=size,
                    crc32c=crc32c,
                    metadata=to_metadata(load, crc32c),
                    replaces=before.generation if before else "0",
                ),
                file,
                before_the_end=lambda: reconcile(self.name, staged.rows, rows),
                progress=progress,
            ).run()
        counted = session.patiently(lambda: _rows_in(session, stored))
        if counted is None:  # replaced since by another run, which has counted its own
            counted = rows
        if (stored.crc32c, counted) != (crc32c, staged.rows):
            raise ReconciliationError(
                f"{staged.rows:,} rows staged, {counted:,} counted in gs://{self.bucket}/{stored.name} "
                f"(checksum {stored.crc32c}, of the file {crc32c}); run it again with --force"
            )
        return counted


def _rows_in(session: Session, stored: StoredObject) -> int | None:
    """The rows an object has by the Parquet footer at its end; None if this generation is gone."""

    def read_last(size: int) -> bytes | None:
        first = max(0, stored.size - size)
        answer = session.call(
            "GET",
            OBJECT,
            session.bucket,
            stored.name,
            expect=(200, 206, 404),
            headers={"Range": f"bytes={first}-{stored.size - 1}"},
            alt="media",
            generation=stored.generation,
        )
        return None if answer.status == 404 else answer.body

    end = read_last(FOOTER_BYTES)
    footer_bytes = int.from_bytes(end[-8:-4], "little") + 8 if end else 0
    if footer_bytes > FOOTER_BYTES:
        end = read_last(footer_bytes)
    if end is None:
        return None
    try:
        return int(pq.read_metadata(pa.BufferReader(end)).num_rows)
    except pa.ArrowException as error:
        raise ReconciliationError(
            f"gs://{session.bucket}/{stored.name} cannot be read as Parquet after it was uploaded "
            f"({' '.join(str(error).split())}); run it again with --force"
        ) from error


@contextlib.contextmanager
def _opened(staged: StagedMonth) -> Generator[BinaryIO]:
    """The staged file; what cannot be read of it is explained."""
    try:
        with staged.path.open("rb") as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise LocalStorageError(
            f"the staged file {staged.path} cannot be read ({reason}); run it again with --force"
        ) from error


def bucket_and_folder(settings: Settings) -> tuple[str, str]:
    """The bucket, and the folder in it: empty or with a slash at its end.

    Raises:
        UsageError: none is named; lists every place that was tried. Or the name is none.
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
