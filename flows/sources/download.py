"""Downloading one file, resuming where the bytes stopped: in the next attempt, or in the next run.

`name.csv.gz.part` grows while bytes arrive, and `name.csv.gz.part.version` says which version of which file
they belong to. The file gets its own name only when its size and all checksums are right.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flows.errors import LocalStorageError, SourceBusy, SourceCorrupt, SourceUnreachable
from flows.runtime import (
    ProgressCallback,
    announce_retry,
    commit_file,
    explain_full_disk,
    require_free_space,
    retry_transient,
)
from flows.sources.inspection import Inspection, Inspector, parquet_rows
from flows.sources.landed_file import LandedFile, record_path, write_record
from flows.sources.redaction import without_secrets
from flows.sources.source_request import (
    SourceChanged,
    SourceInterrupted,
    SourceRequest,
    SourceResponse,
    SourceTooSlow,
)
from flows.sources.transports import CHUNK_BYTES, RETRIED_ERRORS, open_source, source_retry_policy

if TYPE_CHECKING:
    from flows.settings import Settings
    from flows.sources.catalogue import SourceFile

logger = logging.getLogger(__name__)

ROOM_CHECK_BYTES = 2**24  # how often the room on the disk is looked at while a file grows


class _LeastRate:
    """Refuses a download that is slower than the settings allow, over a whole window of time.

    Attributes:
        progress: where the last window that was fast enough ended.
    """

    def __init__(self, settings: Settings, received: int, progress: int) -> None:
        self.progress = progress
        self._rate, self._window = settings.http_least_bytes_per_second, settings.http_rate_window_seconds
        self._start, self._since = received, time.monotonic()

    def check(self, received: int) -> None:
        seconds = time.monotonic() - self._since
        if seconds < self._window:
            return
        if received - self._start < self._rate * seconds:
            raise SourceTooSlow(
                f"only {received - self._start:,} bytes came in {seconds:.1f} s",
                "run it again later: it goes on where it stopped; or lower TAXI_HTTP_LEAST_BYTES_PER_SECOND",
            )
        self.progress = self._start = received
        self._since = time.monotonic()


class Download:
    """One download in progress: the bytes received so far, their inspection, and their version."""

    def __init__(
        self,
        source: SourceFile,
        target: Path,
        settings: Settings,
        known: LandedFile | None,
        report: ProgressCallback | None,
    ) -> None:
        """Prepare a download; nothing is read or written yet.

        Args:
            source: the file to download.
            target: its final name; the caller holds the lock on it.
            settings: time-outs, attempts, limits.
            known: what landed under that name before; returned if the source says it is unchanged.
            report: called with the bytes received and, if known, the size of the file.
        """
        self._source, self._target, self._settings = source, target, settings
        self._known, self._report = known, report
        self._part = target.with_name(f"{target.name}.part")
        self._part_version = target.with_name(f"{target.name}.part.version")
        self._inspector = Inspector(settings.max_uncompressed_bytes)
        self._version: str | None = None
        self._announced: int | None = None
        self._received = self._furthest = 0

    def run(self) -> LandedFile:
        """Download until the file is complete; see `land` for the errors.

        Returns:
            The landed file.
        """
        self._resume_killed_run()
        attempts = self._settings.http_attempts
        try:
            return retry_transient(
                self._attempt,
                source_retry_policy(self._settings),
                retry_on=RETRIED_ERRORS,
                progress=lambda: self._furthest,
                before_pause=lambda error, seconds: announce_retry(error, seconds, self._target.name),
            )
        except SourceUnreachable as error:
            if not self._known:
                raise
            raise SourceUnreachable(
                f"{error.message}. The copy that landed before is whole: --source {self._target} reads it"
            ) from error
        except SourceTooSlow:
            raise
        except SourceInterrupted as error:
            if self._announced is None or self._received == 0:
                raise
            raise SourceInterrupted(
                f"{self._received:,} of {self._announced:,} announced bytes came and "
                f"{attempts} attempts brought no more ({error.problem})",
                error.next_step,
            ) from error
        except SourceChanged as error:
            raise SourceBusy(
                f"the source's answers did not fit together {attempts} times in a row ({error.problem})",
                "run it again later",
            ) from error
        except (SourceCorrupt, LocalStorageError):  # a full disk needs the space more than the next run
            self._discard()
            raise

    def _attempt(self) -> LandedFile:
        known_version = self._known.version if self._known else None
        request = SourceRequest(self._source.url, self._received, self._version, known_version)
        try:
            with open_source(request, self._settings) as response:
                if response.unchanged and self._known:
                    self._discard()
                    return self._known
                with explain_full_disk(self._target.parent):
                    self._receive(response)
        except SourceChanged:
            self._discard()
            raise
        self._check_size()
        return self._store(self._inspector.finish())

    def _receive(self, response: SourceResponse) -> None:
        resumes_another = response.offset and response.version != self._version
        if response.offset not in (0, self._received) or resumes_another:
            raise SourceChanged("the file changed while it was being read; starting over")
        if not response.offset:
            self._discard()
        self._version, self._announced = response.version, response.total or self._announced
        self._part.parent.mkdir(parents=True, exist_ok=True)
        if response.version:
            self._part_version.write_text(f"{self._source.identity}\n{response.version}")
        next_check, rate = self._received, _LeastRate(self._settings, self._received, self._furthest)
        with self._part.open("ab") as part:
            for chunk in response.chunks:
                if self._received >= next_check:
                    self._require_room()
                    next_check = self._received + ROOM_CHECK_BYTES
                part.write(chunk)
                self._inspector.feed(chunk)
                self._received += len(chunk)
                try:
                    rate.check(self._received)
                except SourceTooSlow:
                    self._furthest = rate.progress  # the few bytes since then are none
                    raise
                self._furthest = max(self._furthest, self._received)
                if self._report:
                    self._report(self._received, response.total)

    def _require_room(self) -> None:
        rest = max((self._announced or 0) - self._received, 0)
        require_free_space(self._part.parent, rest, self._settings.min_free_disk_bytes)

    def _check_size(self) -> None:
        received, announced = self._received, self._announced
        if announced is not None and received < announced:
            raise SourceInterrupted(f"{received:,} of {announced:,} announced bytes came")
        if announced is not None and received > announced:
            raise SourceCorrupt(
                f"{received:,} bytes came where {announced:,} were announced; download it again"
            )

    def _store(self, inspection: Inspection) -> LandedFile:
        """Give the complete file its name, and write its record."""
        rows = parquet_rows(self._part) if inspection.kind == "parquet" else None
        # NOTE: removed first, so that a record never describes a file that landed after it.
        record_path(self._target).unlink(missing_ok=True)
        commit_file(self._part, self._target)
        landed = LandedFile(
            path=self._target,
            url=without_secrets(self._source.url),
            identity=self._source.identity,
            version=self._version,
            kind=inspection.kind,
            bytes=inspection.bytes,
            sha256=inspection.sha256,
            header=inspection.header,
            census=inspection.census,
            rows=rows,
            modified_ns=self._target.stat().st_mtime_ns,
        )
        write_record(landed)
        self._part_version.unlink(missing_ok=True)
        if self._report and self._announced is None:
            self._report(landed.bytes, landed.bytes)  # the total was unknown until now
        return landed

    def _resume_killed_run(self) -> None:
        """Take over the bytes that a killed run left, if they belong to a known version of this file."""
        try:
            identity, version = self._part_version.read_text().splitlines()
            if identity != self._source.identity:
                raise ValueError("bytes of another address")
            with self._part.open("rb") as part:
                for chunk in iter(lambda: part.read(CHUNK_BYTES), b""):
                    self._inspector.feed(chunk)
                    self._received += len(chunk)
        except (OSError, ValueError, SourceCorrupt):
            self._discard()
        else:
            self._version, self._furthest = version, self._received

    def _discard(self) -> None:
        """Start over: forget the bytes received so far, and remove them from the disk."""
        self._part.unlink(missing_ok=True)
        self._part_version.unlink(missing_ok=True)
        self._inspector = Inspector(self._settings.max_uncompressed_bytes)
        self._version, self._announced, self._received = None, None, 0
