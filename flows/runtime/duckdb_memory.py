"""The bound on the memory of every DuckDB connection, and where it spills to."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def limit_memory(connection: DuckDBPyConnection, memory_mb: int) -> None:
    """Bound what a connection keeps in memory; beyond it DuckDB spills to its temporary directory.

    Not given when the connection is opened: that would refuse a file which this process has open already.

    Args:
        connection: open.
        memory_mb: in megabytes; DuckDB's own default is 80 % of the machine.
    """
    connection.execute("SET memory_limit = ?", [f"{memory_mb}MB"])


@contextlib.contextmanager
def in_memory_duckdb(
    memory_mb: int, beside: Path, threads: int | None = None
) -> Generator[DuckDBPyConnection]:
    """Open a DuckDB without a file, which spills to a hidden directory of its own.

    NOTE: the caller holds the lock of `beside`; what killed runs spilled is removed.

    Args:
        memory_mb: see `limit_memory`.
        beside: the file that is read or written; the directory is next to it, and removed at the end.
        threads: how many may work; None: one for each core.

    Yields:
        The connection.
    """
    import duckdb

    spill = beside.with_name(f".{beside.name}.spill")
    shutil.rmtree(spill, ignore_errors=True)
    try:
        with duckdb.connect(config={"temp_directory": str(spill)}) as connection:
            limit_memory(connection, memory_mb)
            if threads:
                connection.execute("SET threads = ?", [threads])
            yield connection
    finally:
        shutil.rmtree(spill, ignore_errors=True)
