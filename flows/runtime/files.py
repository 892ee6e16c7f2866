"""Durable files: written under a temporary name, synced, then renamed; and the locks that guard them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path

from filelock import FileLock, Timeout

from flows.errors import LocalStorageError, LockTimeout

DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def describe_free_space(directory: Path) -> str:
    """Describe the free space in a directory, for an error message.

    Args:
        directory: any directory on the disk in question.

    Returns:
        Such as `/data (0.2 of 250,000.0 MB free)`; the bare path if the disk cannot be asked.
    """
    try:
        disk = shutil.disk_usage(directory)
    except OSError:
        return str(directory)
    return f"{directory} ({disk.free / 1e6:,.1f} of {disk.total / 1e6:,.1f} MB free)"


def require_free_space(directory: Path, needed_bytes: int, keep_bytes: int) -> None:
    """Refuse to write what would leave too little room on a disk.

    Args:
        directory: an existing directory on the disk.
        needed_bytes: what is still to be written.
        keep_bytes: room that has to remain, or a twentieth of the disk if that is less.

    Raises:
        LocalStorageError: names the directory and its free space.
    """
    disk = shutil.disk_usage(directory)
    keep = min(keep_bytes, disk.total // 20)
    if disk.free < needed_bytes + keep:
        needed = f"{needed_bytes / 1e6:,.1f} MB are still to come and " if needed_bytes else ""
        raise LocalStorageError(
            f"No space left in {describe_free_space(directory)}: {needed}{keep / 1e6:,.1f} MB are to stay "
            "free (TAXI_MIN_FREE_DISK_BYTES); make room there, or give the run another directory "
            "(--data-dir), then run it again"
        )


@contextlib.contextmanager
def explain_full_disk(directory: Path) -> Generator[None]:
    """Turn the system's "disk full" into an error that names the directory and its free space.

    Leave the block before removing files there: the message gives the free space at the time it is left.

    Args:
        directory: the directory that the block writes to.

    Raises:
        LocalStorageError: the disk, or a quota on it, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        raise LocalStorageError(
            f"{error.strerror} in {describe_free_space(directory)}; make room there, or give the run "
            "another directory (--data-dir), then run it again"
        ) from error


def temporary_path(path: Path) -> Path:
    """Name the hidden file, in the same directory, under which `path` is written first.

    Args:
        path: the final name.

    Returns:
        A name of this process alone, so that two runs never write to the same file. What a killed run
        leaves is removed by `remove_temporary_files`.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_temporary_files(path: Path) -> None:
    """Remove the temporary files of `path` that killed runs left; call it only under the lock on `path`.

    Args:
        path: the final name.
    """
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Force a file's bytes, or a directory's entries, to the disk.

    Args:
        path: a file or a directory.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_directory(path: Path) -> None:
    """Create a directory and its parents, durably; harmless if it exists.

    Args:
        path: the directory.
    """
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in missing:
        with contextlib.suppress(PermissionError):  # above the data directory, which may not be ours to read
            fsync(directory.parent)


def commit_file(temporary: Path, path: Path) -> None:
    """Replace `path` by a finished temporary file, durably and in one step.

    Args:
        temporary: the complete file, in the directory of `path`.
        path: the final name; an existing file is replaced.
    """
    fsync(temporary)
    temporary.replace(path)
    fsync(path.parent)


@contextlib.contextmanager
def atomic_write(path: Path) -> Generator[Path]:
    """Write a file completely or not at all.

    Args:
        path: the final name; its directory is created if missing. An existing file stays as it was if
            the block raises.

    Yields:
        The temporary path to write to; it becomes `path` when the block ends.

    Raises:
        LocalStorageError: the disk is full.
    """
    create_directory(path.parent)
    temporary = temporary_path(path)
    try:
        with explain_full_disk(path.parent):
            yield temporary
            commit_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def file_lock(
    path: Path, timeout_seconds: float, on_wait: Callable[[], None] | None = None
) -> Generator[None]:
    """Hold a lock file against other threads and processes; the system frees it if this process dies.

    Args:
        path: the lock file; created if missing, and never removed, because removing it would race.
        timeout_seconds: how long to wait for the present holder.
        on_wait: called once if the lock is not free at first.

    Raises:
        LockTimeout: the lock was not free in time.
    """
    create_directory(path.parent)
    lock = FileLock(path, thread_local=False)
    try:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
        if not lock.is_locked:
            if on_wait:
                on_wait()
            lock.acquire(timeout=timeout_seconds, poll_interval=0.1)
    except Timeout:
        raise LockTimeout(
            f"another run has held {path} for {timeout_seconds:g} s; let it finish, or give it more "
            "time with TAXI_LOCK_TIMEOUT_SECONDS"
        ) from None
    try:
        yield
    finally:
        lock.release()
