"""Opening the local warehouse: made whole, waited for, and every refusal explained in one line."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from typing import TYPE_CHECKING

import duckdb

from flows.errors import DestinationBusy, LocalStorageError, LockTimeout, SchemaDrift, TaxiError
from flows.runtime import atomic_write, describe_free_space, file_lock, remove_temporary_files

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
# What the disk, the memory or a damaged file leads to; a bare Error is a block with a bad checksum, and
# InvalidInputException a file that is no Parquet file.
STORAGE_ERRORS = (duckdb.OperationalError, duckdb.FatalException, duckdb.InvalidInputException)
# What somebody's view in place of a table of ours, or a constraint on it, leads to.
SHAPE_ERRORS = (duckdb.BinderException, duckdb.CatalogException, duckdb.ConstraintException)


@contextlib.contextmanager
def connected(
    path: Path, lock_timeout_seconds: float, *, read_only: bool = False
) -> Generator[duckdb.DuckDBPyConnection]:
    """Open the file, which is made if it is missing, and explain whatever DuckDB raises inside.

    A transaction that is under way when the block ends, whyever it does, is rolled back.

    Raises:
        DestinationBusy: somebody else had it open, or changed the same rows.
        SchemaDrift: a table does not take what it was given.
        LocalStorageError: the disk refused, or a file is damaged.
    """
    try:
        if not read_only:
            _make_whole(path, lock_timeout_seconds)
        with _open(path, lock_timeout_seconds, read_only=read_only) as connection:
            yield connection
    except duckdb.Error as error:
        explained = _explained(path, error)
        if explained is None:
            raise
        raise explained from error


def _make_whole(path: Path, lock_timeout_seconds: float) -> None:
    """Make an empty warehouse in one step if there is none.

    Left to DuckDB, a second run would look into the half-made file and take it for a damaged one, and
    a run that is killed meanwhile would leave it so.
    """
    if path.exists():
        return
    with file_lock(path.parent / ".locks" / f"{path.stem}.lock", lock_timeout_seconds):
        remove_temporary_files(path)
        if not path.exists():
            with atomic_write(path) as temporary:
                duckdb.connect(temporary).close()


def _open(path: Path, lock_timeout_seconds: float, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    deadline = time.monotonic() + lock_timeout_seconds
    said = False
    while True:
        try:
            return duckdb.connect(path, read_only=read_only)
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            holder = _holder(error)
            if holder is None:
                raise
            if time.monotonic() >= deadline:
                raise LockTimeout(
                    f"{path} is open in {holder}; close it there, or give it more time with "
                    "TAXI_LOCK_TIMEOUT_SECONDS"
                ) from error
        if not said:
            logger.info("%s is open in %s; waiting for it", path, holder)
            said = True
        time.sleep(POLL_SECONDS)


def _holder(error: duckdb.Error) -> str | None:
    """Who has the file open; None if that is not what is wrong."""
    text = str(error)
    if isinstance(error, duckdb.ConnectionException) and "different configuration" in text:
        return "this process with other settings"
    if "Conflicting lock is held" not in text:
        return None
    found = re.search(r"Conflicting lock is held.*\(PID (\d+)\)", text)
    return f"another process ({f'PID {found[1]}' if found else 'unknown PID'})"


def _explained(path: Path, error: duckdb.Error) -> TaxiError | None:
    """The error as one of ours; None if it is nobody's fault but ours."""
    reason = str(error).partition("\n")[0]
    if isinstance(error, duckdb.TransactionException) and "conflict" in reason.lower():
        return DestinationBusy(
            f"{path} is being changed by another connection of this process ({reason}); let it finish, "
            "then run the same command again"
        )
    if isinstance(error, SHAPE_ERRORS):
        return SchemaDrift(
            f"a table in {path} does not take the month ({reason}). Rename it, or drop what has been "
            "added to it, such as a constraint or a unique index, and run the same command again"
        )
    if isinstance(error, STORAGE_ERRORS) or type(error) is duckdb.Error:
        return LocalStorageError(
            f"{path} cannot be used ({reason}); it is in {describe_free_space(path.parent)}. Make room "
            "if the disk or the memory is full; if a file is damaged, move it away and run the months again: "
            "all of it can be made anew"
        )
    return None
