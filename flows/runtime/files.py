"""Files that are whole or absent: temporary name, fsync, rename; and the locks that guard them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from flows.errors import LocalStorageError, LockTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path


DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def describe_free_space(directory: Path) -> str:
    """A directory and what is free there, for an error: `/data (0.2 of 250,000.0 MB free)`."""
    try:
        disk = shutil.disk_usage(directory)
    except OSError:
        return str(directory)
    return f"{directory} ({disk.free / 1e6:,.1f} of {disk.total / 1e6:,.1f} MB free)"


@contextlib.contextmanager
def explain_full_disk(directory: Path) -> Generator[None]:
    """Say which directory has no room, and how much it has; to be left before anything there is removed.

    The system's own error of a write names neither.

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
    """The temporary name under which `path` is written: hidden, in the same directory.

    One per process, so that two runs never write to the same bytes; a leftover of a killed run is
    removed by `remove_temporary_files`.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_temporary_files(path: Path) -> None:
    """Remove what killed runs left of `path`; call it only while holding the lock on `path`."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Force a file's bytes, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit(temporary: Path, path: Path) -> None:
    """Put a finished temporary file in place of `path`, durably and in one step."""
    fsync(temporary)
    temporary.replace(path)
    fsync(path.parent)


@contextlib.contextmanager
def atomic_write(path: Path) -> Generator[Path]:
    """Write a file whole or not at all: yields a temporary path, commits it when the block ends.

    An existing `path` stays as it was if the block raises.

    Raises:
        LocalStorageError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with explain_full_disk(path.parent):
            yield temporary
            commit(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def file_lock(
    path: Path, timeout_seconds: float, on_wait: Callable[[], None] | None = None
) -> Generator[None]:
    """Hold the lock file `path` against other threads and processes; the system frees it if we die.

    Args:
        path: the lock file; created if missing, never removed (removing it would race).
        timeout_seconds: how long to wait for the holder.
        on_wait: called once if there is somebody to wait for.

    Raises:
        LockTimeout: the lock was not free in time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
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
