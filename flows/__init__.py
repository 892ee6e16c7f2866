"""What an operator runs: the Prefect flows, and below them the engine that does the work."""

import os
import signal
import sys
import types
import typing

# On a terminal, Prefect's first import prints a notice about telemetry, whichever command imports it.
os.environ.setdefault("DO_NOT_TRACK", "1")

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes by the convention of shells: 128 plus the number of the signal."""


def exit_on_signals() -> None:
    """End the process with one line on Ctrl-C and SIGTERM, until the command has handlers of its own.

    For the time in which a command imports what it needs, half a second and more with Prefect: an exception
    in the middle of an import would print a page, and SIGTERM nothing at all. Nothing has been started then.
    It is here because a module of a package could only be imported after all that the package imports.
    """
    signal.signal(signal.SIGINT, _exit_now)
    signal.signal(signal.SIGTERM, _exit_now)


def _exit_now(number: int, _: types.FrameType | None) -> typing.NoReturn:
    is_sigterm = number == signal.SIGTERM
    os.write(
        sys.__stderr__.fileno() if sys.__stderr__ else 2, b"terminated\n" if is_sigterm else b"interrupted\n"
    )
    os._exit(TERMINATED if is_sigterm else INTERRUPTED)
