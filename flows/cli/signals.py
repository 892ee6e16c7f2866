"""Ctrl-C and SIGTERM: an interrupted command ends soon, with one line and an exit code of its own.

The exception that a signal handler raises may strike anywhere in the main thread, and not all code passes it
on: in a callback of pydantic it becomes a `PydanticSerializationError`, in a finalizer it is printed and
forgotten, and under a lock it may leave the lock locked for good. Therefore

* no exception is raised while modules are imported (`signals_deferred`),
* a thread notes the signal, whatever becomes of the exception, and tells all work to stop; an error that the
  run ends with afterwards is taken for the interruption that caused it (`received_interrupt`),
* the thread ends the process if it has not ended by itself in `LONGEST_STOP_SECONDS`. Nothing is lost: a
  month is published in one step, and a killed run leaves what the next one can go on from.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Generator
from types import FrameType
from typing import NoReturn

from rich.console import Console

from flows import INTERRUPTED, TERMINATED
from flows.cli.logs import print_line
from flows.runtime import request_stop

LONGEST_STOP_SECONDS = 20
"""Time for an interrupted command to end by itself. A temporary server may take five of them, and `--runner
deployment` has a request to make for each month that is to be cancelled."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM was received; the command ends as it does after Ctrl-C."""


class _State:
    """What this process knows of signals.

    Attributes:
        received: the first one since the command began.
        is_raised: whether an exception has told of it.
        is_deferred: whether the handler only notes it.
        exit_code: of a process that ends through `exit_with`.
    """

    received: int | None = None
    is_raised = False
    is_deferred = False
    exit_code: int | None = None


@contextlib.contextmanager
def interruptible(*, loads_months: bool) -> Generator[None]:
    """Raise `KeyboardInterrupt` on Ctrl-C and `Terminated` on SIGTERM for as long as the block lasts.

    Only the first signal raises; the others come too late to change anything. While a flow runs, Prefect
    handles SIGTERM with an exception of its own and passes the signal on to this handler afterwards.

    Args:
        loads_months: say what it means for the months, if the process does not end by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread install signal handlers
        return
    _State.received, _State.is_raised = None, False
    # On Ctrl-C asyncio ends a loop in order, as `flows/serve.py` needs, only if the handler is Python's own.
    on_ctrl_c = _handle if loads_months else signal.default_int_handler
    handlers = {signal.SIGINT: on_ctrl_c, signal.SIGTERM: _handle}
    previous_handlers = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    # The number of each signal is written there at once, even while the main thread waits in a library.
    previous_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    has_ended = threading.Event()
    arguments = (reader, has_ended, loads_months)
    watching = threading.Thread(target=_watch, args=arguments, name="signals", daemon=True)
    watching.start()
    try:
        yield
    finally:
        has_ended.set()
        signal.set_wakeup_fd(previous_fd)
        writer.close()
        watching.join()  # else it could take a signal of this block for one of the next
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def _handle(number: int, _: FrameType | None) -> None:
    _note(number)
    if not _State.is_deferred:
        _raise_once()


def _note(number: int) -> None:
    if _State.received is None:
        _State.received = number
        request_stop()


def _raise_once() -> None:
    if (interrupt := received_interrupt()) and not _State.is_raised:
        _State.is_raised = True
        raise interrupt


def _watch(reader: socket.socket, has_ended: threading.Event, loads_months: bool) -> None:
    """Note the first signal, and end the process if the block does not end soon after it."""
    with reader:
        while numbers := reader.recv(64):
            if not (ours := [number for number in numbers if number in SIGNALS]):
                continue
            _note(ours[0])
            if not has_ended.wait(LONGEST_STOP_SECONDS) and (interrupt := received_interrupt()):
                Console(stderr=True).show_cursor()  # which the bars hide while they are drawn
                os._exit(print_interrupted(interrupt, loads_months=loads_months))


def received_interrupt() -> KeyboardInterrupt | None:
    """What the first signal since the command began stands for; None if there was none."""
    if _State.received is None:
        return None
    return Terminated() if _State.received == signal.SIGTERM else KeyboardInterrupt()


@contextlib.contextmanager
def signals_deferred() -> Generator[None]:
    """Let a signal that arrives in the block raise its exception at the end of the outermost block.

    For imports, which take a second with Prefect and must not be left half done.

    Raises:
        KeyboardInterrupt: a signal has arrived.
    """
    was_deferred, _State.is_deferred = _State.is_deferred, True
    try:
        yield
    finally:
        _State.is_deferred = was_deferred
    if not was_deferred:
        _raise_once()


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
    print_line(line)
    return TERMINATED if terminated else INTERRUPTED


def exit_with(code: int) -> NoReturn:
    """End the process after all exit handlers have run, but without tearing the interpreter down.

    While the interpreter is torn down, DuckDB's bindings print pages about "leaked" objects of a failed or
    interrupted run, below the line that tells how it ended. A signal from now on ends the process at once,
    and so does an exit handler that takes too long after an earlier one.

    Args:
        code: the exit code.
    """
    _State.exit_code = code
    for number in SIGNALS:
        signal.signal(number, _end)
    if received_interrupt():
        last_resort = threading.Timer(LONGEST_STOP_SECONDS, _end)
        last_resort.daemon = True
        last_resort.start()
    sys.exit(code)


@atexit.register  # early, because handlers run in reverse order: a temporary server is stopped before this
def _end(*_: object) -> None:
    if _State.exit_code is None:
        return  # the process does not end through `exit_with`
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or there is none
            stream.flush()
    os._exit(_State.exit_code)
