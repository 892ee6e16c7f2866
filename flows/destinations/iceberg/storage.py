"""The files below a table: how a month's file gets there, what a killed run left, and whose turn it is.

Nothing that has been written is changed or written again: the snapshots that name it may be read by others.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from collections.abc import Generator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from pyarrow.fs import FileSelector, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO

from flows.destinations.iceberg.durable_io import make_directory
from flows.destinations.staged_batches import explain_unreadable
from flows.runtime import explain_full_disk, file_lock, fsync
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from flows.staging import StagedMonth

LOCK, UNFINISHED = ".lock", ".unfinished"


def local_path(location: str) -> Path | None:
    """The path of something on a disk; None if it is in a bucket.

    Args:
        location: of a table, or of a file of it.
    """
    scheme, _, path = PyArrowFileIO.parse_location(location)
    return Path(path) if scheme == "file" else None


@contextlib.contextmanager
def exclusive(table: Table, lock_timeout_seconds: float) -> Generator[UUID]:
    """Let the runs that change a table on this disk take turns, and clear up after one that was killed.

    For a table in a bucket there is no such lock: there the catalog decides who comes first, and
    `Iceberg.maintain` clears up.

    Args:
        table: to be changed.
        lock_timeout_seconds: how long to wait for other runs.

    Yields:
        What this run has in the names of its files, so that they are known to be its own.

    Raises:
        LockTimeout: another run took longer.
    """
    run, directory = uuid4(), local_path(table.location())
    if directory is None:
        yield run
        return
    with file_lock(directory / LOCK, lock_timeout_seconds):
        table.refresh()
        unfinished = directory / UNFINISHED
        _clear_up(table, directory, unfinished.read_text() if unfinished.exists() else "")
        unfinished.write_text(str(run))
        yield run
        unfinished.unlink()  # only after success: what an error leaves is removed in the same way


def _clear_up(table: Table, directory: Path, run: str) -> None:
    """Remove the files of a killed run, and those of tables that were never finished."""
    if not table.snapshots():
        for path in directory.glob("metadata/00000-*.metadata.json"):
            if path != local_path(table.metadata_location):
                path.unlink()
    if not run:
        return
    named = set(
        map(local_path, referenced_files(table))
    )  # its commit may have been the last thing that it did
    for path in filter(Path.is_file, directory.glob("*/**/*")):
        is_its_own = run in path.name or (path.name.endswith(".metadata.json") and run in path.read_text())
        if is_its_own and path not in named:
            path.unlink()


def add_data_file(table: Table, staged: StagedMonth, run: UUID) -> str:
    """Put a staged file into the table's directory or bucket, under a name of its own.

    On one disk it is a hard link, which takes no room. From then on it is read-only: staging replaces its
    file by another one, and never writes into it.

    Args:
        table: whose file it becomes.
        staged: the month.
        run: becomes part of the name.

    Returns:
        Where it is.

    Raises:
        LocalStorageError: the staged file is missing.
    """
    name = f"{FILE_MONTH}={staged.month.first_day}/{staged.month.stem}-{run}.parquet"
    location = table.location_provider().new_data_location(name)
    target = local_path(location)
    with explain_unreadable(staged.path):
        if target is None:
            with staged.path.open("rb") as file, table.io.new_output(location).create() as output:
                shutil.copyfileobj(file, output, 2**23)
            return location
        make_directory(target.parent)
        try:
            target.hardlink_to(staged.path)
        except FileNotFoundError:
            raise
        except OSError:  # another disk, or one without hard links
            with explain_full_disk(target.parent):
                shutil.copyfile(staged.path, target)
                fsync(target)
        target.chmod(0o444)
        fsync(target.parent)
    return location


def referenced_files(table: Table) -> set[str]:
    """Every file that the table's metadata or one of its snapshots names.

    Args:
        table: fresh.
    """
    metadata = table.metadata
    files = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    files |= {statistics.statistics_path for statistics in metadata.statistics}
    for snapshot in metadata.snapshots:
        files.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in files:
                files.add(manifest.manifest_path)
                entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
                files |= {entry.data_file.file_path for entry in entries}
    return files


def remove_orphans(table: Table, older_than: dt.datetime) -> int:
    """Remove the files below a table that nothing names: what killed runs left.

    Args:
        table: fresh.
        older_than: younger ones stay, because a run may be about to name them.

    Returns:
        How many were removed.
    """
    if not isinstance(table.io, PyArrowFileIO):
        return 0
    scheme, netloc, path = PyArrowFileIO.parse_location(table.location())
    system = table.io.fs_by_scheme(scheme, netloc)
    named = {PyArrowFileIO.parse_location(location)[2] for location in referenced_files(table)}
    folders = [
        FileSelector(f"{path}/{name}", allow_not_found=True, recursive=True) for name in ("data", "metadata")
    ]
    orphans = [
        file.path
        for file in chain.from_iterable(map(system.get_file_info, folders))
        if file.type == FileType.File and file.path not in named and file.mtime < older_than
    ]
    for orphan in orphans:
        system.delete_file(orphan)
    return len(orphans)
