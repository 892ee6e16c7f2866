"""How far a statement of DuckDB is, reported while it runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING

from flows.errors import Stopped

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from flows.runtime import ProgressCallback

POLL_SECONDS = 0.2


@contextlib.contextmanager
def progress_reported(
    connection: DuckDBPyConnection, rows: int, report: ProgressCallback | None
) -> Generator[None]:
    """Report the progress of the statements in the block, from a thread of its own.

    Args:
        connection: runs them.
        rows: of the longest one.
        report: called with (rows done, rows in total); None: nothing is reported.
    """
    if report is None:
        yield
        return
    # DuckDB counts only for a progress bar, and would print it.
    for option in (
        "enable_progress_bar = true",
        "enable_progress_bar_print = false",
        "progress_bar_time = 0",
    ):
        connection.execute(f"SET {option}")
    has_ended, furthest = threading.Event(), 0.0

    def watch() -> None:
        nonlocal furthest
        with contextlib.suppress(Stopped):  # the statement itself ends, and what follows it stops
            while not has_ended.wait(POLL_SECONDS):
                # Between two statements there is none; a short one that follows the longest begins anew.
                furthest = max(furthest, connection.query_progress())
                report(int(rows * furthest / 100), rows)

    report(0, rows)
    watcher = threading.Thread(target=watch, name="duckdb progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        has_ended.set()
        watcher.join()
