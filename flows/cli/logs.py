"""Where log records go during a command: everything to a file, the project's own messages to the screen."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.pipes import wrapped_for

if TYPE_CHECKING:
    from rich.console import Console


class LogFile(logging.FileHandler):
    """A log file that stays silent when the disk is full.

    The month that fails for lack of space reports it once; a traceback for every line of the log would bury
    that message.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; opening the file, which happens here, may fail as well."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        """Drop the record after a disk error; there may be room for the next one."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, without the buffered lines that no longer fit on the disk."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def log_to(path: Path) -> Generator[None]:
    """Send all log records of the process to a file, and only there, for as long as the block lasts.

    Args:
        path: the file; created with the first record.
    """
    root = logging.getLogger()
    handlers = root.handlers[:]
    file = LogFile(path, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(origin)s: %(message)s"))
    file.addFilter(_add_origin)
    root.handlers[:] = [file]
    try:
        yield
    finally:
        root.handlers[:] = handlers
        # Without any handler, as in a command, logging has a last resort that prints.
        for handler in (*handlers, *filter(None, [logging.lastResort])):
            handler.addFilter(_is_not_shutdown_message)
        file.close()


def _add_origin(record: logging.LogRecord) -> bool:
    """Name the run that a record of Prefect's run loggers belongs to, or else the logger."""
    run = getattr(record, "task_run_name", None) or getattr(record, "flow_run_name", None)
    record.origin = run or record.name
    return True


def _is_not_shutdown_message(record: logging.LogRecord) -> bool:
    """Whether it is none of Prefect's messages at the end of the process, about events and its server."""
    message = record.getMessage()
    return "Stopping temporary server" not in message and "Still processing items" not in message


@contextlib.contextmanager
def messages_to(screen: Console, *, propagate: bool = False) -> Generator[None]:
    """Print the project's own log messages, one line each without traceback, for as long as the block lasts.

    Args:
        screen: where to.
        propagate: hand the records on to the handlers of the root logger as well.
    """
    project = logging.getLogger("flows")
    before = project.handlers[:], project.level, project.propagate
    project.handlers[:], project.propagate = [_ScreenHandler(screen)], propagate
    project.setLevel(logging.DEBUG)  # tracebacks are logged as such: for the file, not for the screen
    try:
        yield
    finally:
        project.handlers[:], level, project.propagate = before
        project.setLevel(level)


class _ScreenHandler(logging.Handler):
    """Prints above the live display instead of into it."""

    def __init__(self, screen: Console) -> None:
        super().__init__(logging.INFO)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.getMessage()}"
        text = wrapped_for(self._screen.file, line)
        self._screen.print(text, markup=False, highlight=False, soft_wrap=True)
