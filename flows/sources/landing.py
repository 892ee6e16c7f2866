"""Landing: bringing a source file into the data directory, complete and verified, or not at all.

A landed file has a record beside it, `name.csv.gz.json`. It is not trusted if its size or modification time
does not match the record.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flows.runtime import ProgressCallback, file_lock, remove_temporary_files
from flows.sources.download import Download
from flows.sources.landed_file import LandedFile, find_landed, record_path

if TYPE_CHECKING:
    from flows.settings import Settings
    from flows.sources.catalogue import SourceFile


def land(
    source: SourceFile,
    directory: Path,
    settings: Settings,
    *,
    force: bool = False,
    report: ProgressCallback | None = None,
) -> LandedFile:
    """Download a source file and verify it; a file that has not changed is not downloaded again.

    Transient errors are retried with growing pauses. Each attempt resumes where the bytes stopped, and
    attempts are counted anew after every new byte.

    Args:
        source: the file, and the name under which it lands.
        directory: where it lands; created if missing.
        settings: time-outs, attempts, limits.
        force: download the file even if it has not changed.
        report: called with the bytes received and, if known, the size of the file.

    Returns:
        The verified file; its `fetched` is False if it had landed before and has not changed.

    Raises:
        SourceNotFound, SourceUnreachable, SourceBusy, SourceCorrupt: see `flows.errors`.
        LocalStorageError: the disk is full.
        LockTimeout: another run is landing the same file.
    """
    target = directory / source.file_name
    with file_lock(directory / ".locks" / f"{target.name}.lock", settings.lock_timeout_seconds):
        remove_temporary_files(record_path(target))
        known = None if force else find_landed(target)
        if known and known.identity != source.identity:
            known = None
        return Download(source, target, settings, known, report).run()
