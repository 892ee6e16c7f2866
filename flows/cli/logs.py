"""Where log records go during a command: everything to a file, the project's own messages to the screen."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import logging
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.cli.pipes import wrapped_for

if TYPE_CHECKING:
    from rich.console import Console


LogFormat = Literal["text", "json"]

LEVELS = {"--quiet": logging.WARNING, "--verbose": logging.DEBUG}


@dataclass(slots=True)
class LogOptions:
    """What of the log a command shows on standard error, and how.

    Attributes:
        level: the least one that is shown.
        format: lines of text, or one JSON object a line and nothing else.
    """

    level: int = logging.INFO
    format: LogFormat = "text"

    @property
    def is_quiet(self) -> bool:
        """Whether only warnings and errors are shown: no progress, no table."""
        return self.level > logging.INFO

    @property
    def is_json(self) -> bool:
        """Whether standard error is for machines."""
        return self.format == "json"


log_options = LogOptions()
"""Those of the command that this process runs."""


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Give a command the options about its log; they hold as soon as they are read, for later mistakes too.

    Args:
        parser: of the command.
    """
    log_options.level, log_options.format = logging.INFO, "text"
    how_much = parser.add_mutually_exclusive_group()
    for name, text in (
        ("--quiet", "print warnings and errors only"),
        ("--verbose", "print details and tracebacks too"),
    ):
        how_much.add_argument(name, action=_SetLevel, nargs=0, default=argparse.SUPPRESS, help=text)
    parser.add_argument(
        "--log-format",
        action=_SetFormat,
        choices=("text", "json"),
        default=argparse.SUPPRESS,
        help="of standard error; json: one object a line. Default: text",
    )


def read_log_options(arguments: Sequence[str]) -> None:
    """Read the options about the log ahead of all others, so that they hold for a wrong setting too.

    Args:
        arguments: of the call; what else is in it is for the command's own parser.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_log_options(parser)
    with contextlib.suppress(argparse.ArgumentError):
        parser.parse_known_args(arguments)


class _SetLevel(argparse.Action):
    def __call__(self, _parser: object, _given: object, _values: object, option: str | None = None) -> None:
        log_options.level = LEVELS[option or ""]


class _SetFormat(argparse.Action):
    def __call__(self, _parser: object, _given: object, values: Any, _option: str | None = None) -> None:  # noqa: ANN401 - as argparse hands it over
        log_options.format = values


def print_line(text: str, level: int = logging.ERROR) -> None:
    """Print a line of the command itself, such as its last one, on standard error.

    Args:
        text: one line; in JSON without the `error: ` it begins with.
        level: how grave it is.
    """
    if log_options.is_json:
        record = logging.LogRecord("flows", level, "", 0, text.removeprefix("error: "), None, None)
        text = _as_json(record)
    else:
        text = wrapped_for(sys.stderr, text)
    print(text, file=sys.stderr, flush=True)


def _as_json(record: logging.LogRecord) -> str:
    entry = {
        "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    if record.exc_info:
        entry["traceback"] = logging.Formatter().formatException(record.exc_info)
    return json.dumps(entry, ensure_ascii=False)


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
    """Print the project's own log messages, one line each, for as long as the block lasts.

    Tracebacks are logged as details: they are for the file, and for the screen with `--verbose`.

    Args:
        screen: where to.
        propagate: hand the records on to the handlers of the root logger as well.
    """
    project = logging.getLogger("flows")
    before = project.handlers[:], project.level, project.propagate
    project.handlers[:], project.propagate = [_ScreenHandler(screen)], propagate
    project.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        project.handlers[:], level, project.propagate = before
        project.setLevel(level)


class _ScreenHandler(logging.Handler):
    """Prints above the live display instead of into it."""

    def __init__(self, screen: Console) -> None:
        super().__init__(log_options.level)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        if log_options.is_json:
            print(_as_json(record), file=sys.stderr, flush=True)
            return
        line = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.getMessage()}"
        text = wrapped_for(self._screen.file, line)
        if record.exc_info and record.levelno <= logging.DEBUG:  # only shown if asked for
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        self._screen.print(text, markup=False, highlight=False, soft_wrap=True)
