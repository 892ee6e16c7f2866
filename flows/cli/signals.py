"""Ctrl-C and SIGTERM: an interrupted command ends cleanly, with one line and an exit code of its own."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Generator
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes by the convention of shells: 128 plus the number of the signal."""


class Terminated(KeyboardInterrupt):
    """SIGTERM was received; the command ends as it does after Ctrl-C."""


@contextlib.contextmanager
def raise_on_sigterm() -> Generator[None]:
    """Raise `Terminated` in the main thread on SIGTERM, for as long as the block lasts.

    Without it the process would end at once and silently, its threads cut off. While a flow runs, Prefect
    raises an exception of its own and passes the signal on to this handler afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread install signal handlers
        return
    previous_handler = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def print_interrupted(interrupt: KeyboardInterrupt, *, loads_months: bool) -> int:
    """Print the last line of an interrupted command.

    Args:
        interrupt: `Terminated` for SIGTERM, anything else for Ctrl-C.
        loads_months: say what it means for the months.

    Returns:
        The exit code.
    """
    terminated = isinstance(interrupt, Terminated)
    line = "terminated" if terminated else "interrupted"
    if loads_months:
        line += (
            ": every month is either wholly published or as it was before; the same command goes on where "
            "this one stopped"
        )
    print(line, file=sys.stderr, flush=True)
    return TERMINATED if terminated else INTERRUPTED


_exit_code: int | None = None


def exit_with(code: int) -> NoReturn:
    """End the process after all exit handlers have run, but without tearing the interpreter down.

    While the interpreter is torn down, DuckDB's bindings print pages about "leaked" objects of a failed or
    interrupted run, below the line that tells how it ended.

    Args:
        code: the exit code.
    """
    global _exit_code
    _exit_code = code
    sys.exit(code)


@atexit.register  # early, because handlers run in reverse order: a temporary server is stopped before this
def _end() -> None:
    if _exit_code is None:
        return  # the process does not end through `exit_with`
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_exit_code)
