"""Ctrl-C and SIGTERM: a run that is told to stop ends cleanly, says so, and has an exit code of its own."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Generator

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes, what a shell makes of Ctrl-C and SIGTERM: 128 and the number of the signal."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the run ends as it does after Ctrl-C."""


@contextlib.contextmanager
def raise_on_sigterm() -> Generator[None]:
    """Raise `Terminated` on SIGTERM, for as long as the block lasts.

    Without it a run would end where it is, with no word and its threads cut off. Prefect raises its own
    exception while a flow runs, and passes the signal on to this handler afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def print_interrupted(interrupt: KeyboardInterrupt) -> int:
    """The last line after Ctrl-C or SIGTERM; returns the exit code."""
    terminated = isinstance(interrupt, Terminated)
    print(
        f"{'terminated' if terminated else 'interrupted'}: every month is either wholly published or as it "
        "was before; the same command goes on where this one stopped",
        file=sys.stderr,
        flush=True,
    )
    return TERMINATED if terminated else INTERRUPTED


_exit_code: int | None = None


def exit_with(code: int) -> NoReturn:
    """End the process with this exit code, after everything that is registered to be done at its end.

    What a failed or interrupted run still holds of DuckDB makes its bindings print pages of "leaked" objects
    when the interpreter is taken apart; the last line would not be ours. So it is not taken apart.
    """
    global _exit_code
    _exit_code = code
    sys.exit(code)


@atexit.register  # early: what is registered later, such as the end of a temporary server, is done before
def _end() -> None:
    if _exit_code is None:
        return  # not a command of ours that ends
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_exit_code)
