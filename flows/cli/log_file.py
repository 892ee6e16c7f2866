"""The log of a run, on a disk that may be full."""

from __future__ import annotations

import contextlib
import logging
import sys


class LogFile(logging.FileHandler):
    """A file that is written to for as long as the disk takes it.

    What a full disk leads to is said once, by the month that fails of it, and not once more with a traceback
    for each line of the log.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; opening the file may fail as well."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        """Nothing, if it is the disk; the next line may find room."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close it, with what could be written."""
        with contextlib.suppress(OSError):
            super().close()
