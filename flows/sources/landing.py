"""The landing: a file comes in whole and verified, or not at all.

`raw/yellow/name.csv.gz.part` grows while bytes arrive and is resumed by the next attempt or the next
run. Only when the size agrees and every checksum holds is it renamed to `name.csv.gz`, and
`name.csv.gz.json` records what it is. A landed file whose size or time does not match its record is
never trusted.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from flows.errors import LocalStorageError, SourceBusy, SourceCorrupt, SourceUnreachable, TaxiError
from flows.runtime import atomic_write, commit, explain_full_disk, file_lock, remove_temporary_files
from flows.sources.inspection import Inspection, Inspector, parquet_rows
from flows.sources.landed import LandedFile, find_landed, record_path, to_record
from flows.sources.redaction import without_secrets
from flows.sources.source_request import SourceChanged, SourceCut, SourceRequest, SourceResponse
from flows.sources.transports import CHUNK_BYTES, open_source

if TYPE_CHECKING:
    from pathlib import Path

    from flows.runtime import ProgressCallback
    from flows.settings import Settings
    from flows.sources.catalogue import SourceFile

logger = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 30.0
UNREACHABLE_ATTEMPTS = 3  # a name that does not resolve rarely starts to while somebody waits


def source_version(source: SourceFile, settings: Settings) -> str | None:
    """What the source says its file's version is, without reading it; None if it does not say."""
    try:
        with open_source(SourceRequest(source.url), settings) as opened:
            return opened.version
    except TaxiError:
        return None


def land(
    source: SourceFile,
    directory: Path,
    settings: Settings,
    *,
    force: bool = False,
    report: ProgressCallback | None = None,
) -> LandedFile:
    """Bring a source file into `directory`, verified; an unchanged file is not fetched again.

    Busy servers, time-outs and cut connections are tried again with growing pauses, going on where
    the bytes stopped; every new byte makes the attempts count anew.

    Args:
        source: which file, and its name here.
        directory: where it lands; made if missing.
        settings: time-outs, attempts, limits.
        force: fetch it even if it is unchanged.
        report: called with (bytes here, bytes in all).

    Raises:
        SourceNotFound, SourceUnreachable, SourceBusy, SourceCorrupt: see `flows.errors`.
        LocalStorageError: the disk is full.
    """
    target = directory / source.file_name
    with file_lock(directory / ".locks" / f"{target.name}.lock", settings.lock_timeout_seconds):
        remove_temporary_files(record_path(target))
        known = None if force else find_landed(target)
        if known and known.identity != source.identity:
            known = None
        return _Download(source, target, settings, known, report).run()


class _Download:
    """One file on its way in: the bytes so far, what they are, and of which version."""

    def __init__(
        self,
        source: SourceFile,
        target: Path,
        settings: Settings,
        known: LandedFile | None,
        report: ProgressCallback | None,
    ) -> None:
        self._source, self._target, self._settings = source, target, settings
        self._known, self._report = known, report
        self._part = target.with_name(f"{target.name}.part")
        self._part_version = target.with_name(f"{target.name}.part.version")
        self._version: str | None = None
        self._received = 0
        self._furthest = 0
        self._fruitless = 0
        self._announced: int | None = None
        self._inspector = self._new_inspector()

    def run(self) -> LandedFile:
        self._resume_earlier_run()
        retrying = Retrying(
            retry=retry_if_exception_type((SourceBusy, SourceUnreachable)),
            stop=self._is_hopeless,
            wait=self._pause_seconds,
            before_sleep=self._announce,
            reraise=True,
        )
        try:
            return retrying(self._attempt)
        except SourceUnreachable as error:
            if not self._known:
                raise
            raise SourceUnreachable(
                f"{error.message}. The copy that landed before is whole: --source {self._target} reads it"
            ) from error
        except SourceCut as error:
            if self._announced is None or self._received == 0:
                raise
            raise SourceCut(
                f"{self._received:,} of {self._announced:,} announced bytes came and "
                f"{self._fruitless} attempts brought no more ({error.message})"
            ) from error
        except SourceChanged as error:
            raise SourceBusy(
                f"the source's answers did not fit together {self._fruitless} times in a row "
                f"({error.message}); run it again later"
            ) from error
        except (SourceCorrupt, LocalStorageError):  # on a full disk others need the room more
            self._discard()
            raise

    def _attempt(self) -> LandedFile:
        request = SourceRequest(
            self._source.url,
            offset=self._received,
            version=self._version,
            known=self._known.version if self._known else None,
        )
        try:
            with open_source(request, self._settings) as opened:
                if opened.unchanged and self._known:
                    self._discard()
                    return self._known
                with explain_full_disk(self._target.parent):
                    self._receive(opened)
            self._check_size()
        except (SourceBusy, SourceUnreachable) as error:
            self._fruitless = 0 if self._received > self._furthest else self._fruitless + 1
            self._furthest = max(self._furthest, self._received)
            if isinstance(error, SourceChanged):
                self._discard()
            raise
        return self._keep(self._inspector.finish())

    def _receive(self, opened: SourceResponse) -> None:
        if opened.offset not in (0, self._received) or (opened.offset and opened.version != self._version):
            raise SourceChanged("the file changed while it was being read; starting over")
        if not opened.offset:
            self._discard()
        self._version, self._announced = opened.version, opened.total or self._announced
        if opened.version:
            self._part_version.parent.mkdir(parents=True, exist_ok=True)
            self._part_version.write_text(f"{self._source.identity}\n{opened.version}")
        self._part.parent.mkdir(parents=True, exist_ok=True)
        with self._part.open("ab") as part:
            for chunk in opened.chunks:
                part.write(chunk)
                self._inspector.feed(chunk)
                self._received += len(chunk)
                if self._report:
                    self._report(self._received, opened.total)

    def _check_size(self) -> None:
        came, announced = self._received, self._announced
        if announced is not None and came < announced:
            raise SourceCut(f"{came:,} of {announced:,} announced bytes came")
        if announced is not None and came > announced:
            raise SourceCorrupt(f"{came:,} bytes came where {announced:,} were announced; download it again")

    def _keep(self, inspection: Inspection) -> LandedFile:
        rows = parquet_rows(self._part) if inspection.kind == "parquet" else None
        record_path(self._target).unlink(missing_ok=True)
        commit(self._part, self._target)
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
        with atomic_write(record_path(self._target)) as temporary:
            temporary.write_bytes(to_record(landed))
        self._part_version.unlink(missing_ok=True)
        if self._report and self._announced is None:
            self._report(landed.bytes, landed.bytes)  # only now is it known that this was all
        return landed

    def _resume_earlier_run(self) -> None:
        """Go on with the bytes a killed run left, if it is known which version they are of."""
        try:
            identity, version = self._part_version.read_text().splitlines()
            same = identity == self._source.identity and self._part.exists()
        except (OSError, ValueError):
            same, version = False, None
        if not same:
            self._discard()
            return
        self._version = version
        try:
            with self._part.open("rb") as part:
                for chunk in iter(lambda: part.read(CHUNK_BYTES), b""):
                    self._inspector.feed(chunk)
                    self._received += len(chunk)
        except SourceCorrupt:
            self._discard()
        self._furthest = self._received

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._part_version.unlink(missing_ok=True)
        self._version, self._announced, self._received = None, None, 0
        self._inspector = self._new_inspector()

    def _new_inspector(self) -> Inspector:
        return Inspector(self._settings.max_uncompressed_bytes)

    def _is_hopeless(self, state: RetryCallState) -> bool:
        error = _raised(state)
        if isinstance(error, SourceUnreachable):
            return self._fruitless >= min(UNREACHABLE_ATTEMPTS, self._settings.http_attempts)
        return self._fruitless >= self._settings.http_attempts

    def _pause_seconds(self, state: RetryCallState) -> float:
        first = self._settings.http_backoff_seconds
        growth = 2 ** min(max(self._fruitless - 1, 0), 16)  # from the last new byte on
        backoff = min(first * growth + random.uniform(0, first), LONGEST_PAUSE_SECONDS)  # noqa: S311
        return max(backoff, getattr(_raised(state), "retry_after_seconds", 0.0))

    def _announce(self, state: RetryCallState) -> None:
        pause = state.next_action.sleep if state.next_action else 0
        logger.info("%s Trying again in %.1f s.", _raised(state), pause)


def _raised(state: RetryCallState) -> Any:  # noqa: ANN401 - whatever the attempt raised
    return state.outcome.exception() if state.outcome else None
