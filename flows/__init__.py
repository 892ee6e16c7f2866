"""What an operator runs: the Prefect flows, and below them the engine that does the work."""

import importlib.util
import os
import signal
import sys
import types
import typing

# On a terminal, Prefect's first import prints a notice about telemetry, whichever command imports it.
os.environ.setdefault("DO_NOT_TRACK", "1")

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes by the convention of shells: 128 plus the number of the signal."""

subcommand: str | None = None
"""What the process was started as, such as `taxi-etl load`; None: by the path of a script."""


def __getattr__(name: str) -> str:
    """The version, which takes a moment to look up, when it is asked for."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import metadata

    return metadata.version("taxi-etl")


def start_script() -> None:
    """Begin a command: without the project's libraries, or interrupted early, it ends with one line.

    Ctrl-C and SIGTERM are handled here until the command has handlers of its own, for the time in which it
    imports what it needs, half a second and more with Prefect: an exception in the middle of an import would
    print a page, and SIGTERM nothing at all. Nothing has been started then. It is here because a module of a
    package could only be imported after all that the package imports.

    Raises:
        SystemExit: the libraries are not installed.
    """
    signal.signal(signal.SIGINT, _exit_now)
    signal.signal(signal.SIGTERM, _exit_now)
    if importlib.util.find_spec("pydantic_settings") is None:  # as good as any of them
        raise SystemExit(
            "error: this Python has none of the project's packages; use .venv/bin/python (`make setup`)"
        )


def _exit_now(number: int, _: types.FrameType | None) -> typing.NoReturn:
    is_sigterm = number == signal.SIGTERM
    os.write(
        sys.__stderr__.fileno() if sys.__stderr__ else 2, b"terminated\n" if is_sigterm else b"interrupted\n"
    )
    os._exit(TERMINATED if is_sigterm else INTERRUPTED)
