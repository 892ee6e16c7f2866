"""Opening the local warehouse: created in one step, waited for while locked, errors translated."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Generator
from pathlib import Path

import duckdb

from flows.errors import DestinationBusy, LocalStorageError, LockTimeout, SchemaDrift, TaxiError
from flows.runtime import (
    RetryPolicy,
    atomic_write,
    describe_free_space,
    explain_full_disk,
    file_lock,
    fsync,
    limit_memory,
    remove_temporary_files,
    retry_transient,
)

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
# Raised for a full disk, too little memory or a damaged file: a bare Error for a block with a bad checksum,
# InvalidInputException for a file that is not Parquet.
STORAGE_ERRORS = (duckdb.OperationalError, duckdb.FatalException, duckdb.InvalidInputException)
TORN_ENTRY = re.compile(
    r'WAL file "(?P<log>.+)": Corrupt WAL file: entry at byte position (?P<position>\d+) computed checksum'
)
# Raised if somebody has replaced a table by a view, or added a constraint to it.
SHAPE_ERRORS = (duckdb.BinderException, duckdb.CatalogException, duckdb.ConstraintException)


@contextlib.contextmanager
def connected(
    path: Path, lock_timeout_seconds: float, memory_mb: int, *, read_only: bool = False
) -> Generator[duckdb.DuckDBPyConnection]:
    """Open the file for the length of a block, and translate every error of DuckDB in it.

    A transaction still open at the end of the block is rolled back.

    Args:
        path: the database; created if it does not exist, unless `read_only`.
        lock_timeout_seconds: how long to wait while another process has it open.
        memory_mb: see `flows.runtime.limit_memory`.
        read_only: other readers may have it open at the same time.

    Yields:
        The connection.

    Raises:
        DestinationBusy: another process had it open, or another connection changed the same rows.
        SchemaDrift: a table does not accept the rows.
        LocalStorageError: the disk refused, or a file is damaged.
    """
    try:
        if not read_only:
            _create_if_missing(path, lock_timeout_seconds)
        with _open(path, lock_timeout_seconds, read_only=read_only) as connection:
            limit_memory(connection, memory_mb)
            yield connection
    except duckdb.Error as error:
        translated = _translate(path, error)
        if translated is None:
            raise
        raise translated from error


def _create_if_missing(path: Path, lock_timeout_seconds: float) -> None:
    """Create an empty database under a temporary name, then rename it.

    DuckDB creates a file in place: a second run would take the half-written file for a damaged one, and a
    killed run would leave it behind.
    """
    if path.exists():
        return
    with file_lock(_lock_of(path), lock_timeout_seconds):
        remove_temporary_files(path)
        if not path.exists():
            with atomic_write(path) as temporary:
                duckdb.connect(temporary).close()


def _lock_of(path: Path) -> Path:
    return path.parent / ".locks" / f"{path.stem}.lock"


def _open(path: Path, lock_timeout_seconds: float, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    policy = RetryPolicy(
        first_pause_seconds=POLL_SECONDS,
        longest_pause_seconds=POLL_SECONDS,
        total_seconds=lock_timeout_seconds,
    )
    is_announced = False

    def is_worth_waiting(error: BaseException) -> bool:
        holder = _holder(error)
        return (
            holder is not None and _waits.seconds(path, holder, lock_timeout_seconds) < lock_timeout_seconds
        )

    def announce(error: BaseException, _: float) -> None:
        nonlocal is_announced
        if not is_announced:
            logger.info("%s is open in %s; waiting for it", path, _holder(error))
        is_announced = True

    def connect() -> duckdb.DuckDBPyConnection:
        try:
            return duckdb.connect(path, read_only=read_only)
        except duckdb.Error as error:
            if read_only or not TORN_ENTRY.search(str(error)):
                raise
        with file_lock(_lock_of(path), lock_timeout_seconds):
            return _connect_without_torn_entry(path)

    try:
        connection = retry_transient(connect, policy, retry_on=is_worth_waiting, before_pause=announce)
    except duckdb.Error as error:
        if holder := _holder(error):
            raise LockTimeout(
                f"{path} is open in {holder}; close it there, or give it more time with "
                "TAXI_LOCK_TIMEOUT_SECONDS"
            ) from error
        raise
    _waits.end(path)
    return connection


def _connect_without_torn_entry(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the file after cutting its write-ahead log, unless another process has done so meanwhile.

    A loss of power can leave the last entry of the log on the disk in parts. DuckDB drops the entry itself if
    its end is missing; if blocks within it are, it refuses to open. Unless the disk has damaged it since, its
    transaction was never committed, because a commit waits for the whole log to be on the disk.

    NOTE: the lock of `_lock_of` has to be held until the file is open.
    """
    try:
        return duckdb.connect(path)
    except duckdb.Error as error:
        if not (torn := TORN_ENTRY.search(str(error))):
            raise
    log, position = Path(torn["log"]), int(torn["position"])
    kept = log.with_name(f"{log.name}.{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%fZ}.damaged")
    with explain_full_disk(path.parent):
        shutil.copyfile(log, kept)
        fsync(kept)
    os.truncate(log, position)
    fsync(log)
    logger.warning(
        "%s ended in a transaction that is not whole on the disk, as after a loss of power; it was dropped, "
        "and %s keeps it. `taxi-etl status` shows what is missing",
        log.name,
        kept,
    )
    return duckdb.connect(path)


class _Waits:
    """Since when this process waits for whom, so that the months of a run wait once and not one by one."""

    def __init__(self) -> None:
        self._lock, self._waits = threading.Lock(), dict[Path, tuple[str, float, float]]()

    def seconds(self, path: Path, holder: str, forgotten_seconds: float) -> float:
        """How long the same process has been seen to have the file open.

        Args:
            path: the database.
            holder: who has it open now.
            forgotten_seconds: a holder that nobody has met for longer is waited for anew.
        """
        now = time.monotonic()
        with self._lock:
            known, since, met = self._waits.get(path, (holder, now, now))
            if known != holder or now - met > forgotten_seconds:
                since = now
            self._waits[path] = holder, since, now
        return now - since

    def end(self, path: Path) -> None:
        """Note that nobody else has the file open."""
        with self._lock:
            self._waits.pop(path, None)


_waits = _Waits()


def _holder(error: BaseException) -> str | None:
    """Which process has the file open; None if the error has another cause."""
    text = str(error)
    if isinstance(error, duckdb.ConnectionException) and "different configuration" in text:
        return "this process with other settings"
    if not isinstance(error, duckdb.Error) or "Conflicting lock is held" not in text:
        return None
    match = re.search(r"Conflicting lock is held.*\(PID (\d+)\)", text)
    if not match:
        return "another process (unknown PID)"
    program = _program(int(match[1]))
    return f"another process ({f'{program}, ' if program else ''}PID {match[1]})"


def _program(pid: int) -> str:
    """What a process runs, such as `python -m ipykernel_launcher`, without arguments; empty if unknown."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:  # another system, or the process has just ended
        return ""
    match words:
        case [program, "-m", module, *_]:
            return f"{Path(program).name} -m {module}"
        case [program, script, *_] if script.endswith(".py"):
            return f"{Path(program).name} {Path(script).name}"
        case [program, *_]:
            return Path(program).name
        case _:
            return ""


def _translate(path: Path, error: duckdb.Error) -> TaxiError | None:
    """The error as a `TaxiError`; None if it can only be a bug in this program."""
    reason = str(error).partition("\n")[0]
    if isinstance(error, duckdb.TransactionException) and "conflict" in reason.lower():
        return DestinationBusy(
            f"{path} is being changed by another connection of this process ({reason})",
            "let it finish, then run the same command again",
        )
    if isinstance(error, SHAPE_ERRORS):
        return SchemaDrift(
            f"a table in {path} does not take the month ({reason}). Rename it, or drop what has been "
            "added to it, such as a constraint or a unique index, and run the same command again"
        )
    if TORN_ENTRY.search(reason):
        return LocalStorageError(
            f"the log of {path} ends in a transaction that is not whole on the disk, as after a loss of "
            f"power ({reason}). The next load drops it and keeps a copy: load any month"
        )
    if isinstance(error, STORAGE_ERRORS) or type(error) is duckdb.Error:
        return LocalStorageError(
            f"{path} cannot be used ({reason}); it is in {describe_free_space(path.parent)}. Make room "
            "if the disk is full, raise TAXI_DUCKDB_MEMORY_MB if the memory is; if a file is damaged, move "
            "it away and run the months again: all of it can be made anew"
        )
    return None
