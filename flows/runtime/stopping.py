"""Stopping a run: long work asks here, often, whether it should end."""

from __future__ import annotations

import threading

from flows.errors import Stopped

_stop_requested = threading.Event()


def request_stop() -> None:
    """Make all work of this process end with `Stopped` at its next progress report or pause."""
    _stop_requested.set()


def clear_stop() -> None:
    """Undo `request_stop`."""
    _stop_requested.clear()


def is_stopped() -> bool:
    """Whether the run has been told to stop."""
    return _stop_requested.is_set()


def check_stopped() -> None:
    """Return at once unless the run has been told to stop.

    Raises:
        Stopped: `request_stop` was called.
    """
    if is_stopped():
        raise Stopped("stopped before it was done; nothing of it is half there")


def pause(seconds: float) -> None:
    """Sleep, but wake up at once when the run is told to stop.

    Args:
        seconds: length of the pause.

    Raises:
        Stopped: `request_stop` was called.
    """
    _stop_requested.wait(seconds)
    check_stopped()
