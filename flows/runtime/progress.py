"""Where long work says how far it is: a line a month on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeAlias

from flows.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

logger = logging.getLogger("flows.runtime.progress")

ProgressCallback: TypeAlias = "Callable[[int, int | None], None]"
"""Called with what is done and, where it is known, the total; bytes or rows as the phase has it."""


class ProgressListener(Protocol):
    """Somebody who wants to know."""

    def update(self, month: str, phase: str, done: int, total: int | None) -> None:
        """Take note: `month` such as `yellow 2021-01`, `phase` such as `download`."""
        ...


class LogProgress:
    """Log lines: one when a phase is done, and one every few seconds while it goes on."""

    def __init__(self, every_seconds: float = 10.0) -> None:
        """Nothing is said before the first interval has passed."""
        self._every_seconds = every_seconds
        self._last: dict[tuple[str, str], float] = {}
        self._finished: set[tuple[str, str]] = set()

    def update(self, month: str, phase: str, done: int, total: int | None) -> None:
        """Log if the phase is done, or the last line for this month and phase is old enough."""
        now = time.monotonic()
        last = self._last.setdefault((month, phase), now)
        is_done = total is not None and done >= total
        if is_done and (month, phase) in self._finished:
            return
        if is_done:
            self._finished.add((month, phase))
        if is_done or now - last >= self._every_seconds:
            self._last[month, phase] = now
            unit = "bytes" if phase == "download" else "rows"
            share = f" of {total:,}" if total and not is_done else ""
            logger.info("%s: %s %s%s %s", month, phase, f"{done:,}", share, unit)


_listener: ProgressListener = LogProgress()
_lock = threading.Lock()


def set_progress_listener(listener: ProgressListener) -> None:
    """Send all progress of this process to `listener` from now on."""
    global _listener
    with _lock:
        _listener = listener


_followers: dict[str, ProgressListener] = {}


@contextlib.contextmanager
def forward_progress(month: str, follower: ProgressListener) -> Generator[None]:
    """Send the progress of one month to `follower` too, for as long as the block lasts."""
    _followers[month] = follower
    try:
        yield
    finally:
        _followers.pop(month, None)


_stopping = threading.Event()


def request_stop() -> None:
    """Let all work of this process end at its next report, with `Stopped`."""
    _stopping.set()


def clear_stop() -> None:
    """Take back `request_stop`."""
    _stopping.clear()


def check_stopped() -> None:
    """Raise `Stopped` if the run has been told to stop."""
    if _stopping.is_set():
        raise Stopped("stopped before it was done; nothing of it is half there")


def pause(seconds: float) -> None:
    """Wait, or end at once with `Stopped` when the run is told to stop.

    Args:
        seconds: how long.

    Raises:
        Stopped: the run was told to stop.
    """
    _stopping.wait(seconds)
    check_stopped()


def reporter(month: str, phase: str) -> Callable[[int, int | None], None]:
    """The function to call with (done, total) while `month` is in `phase`.

    It raises `Stopped` once the run has been told to stop, so that long work ends soon.
    """

    def report(done: int, total: int | None = None) -> None:
        check_stopped()
        _listener.update(month, phase, done, total)
        if follower := _followers.get(month):
            follower.update(month, phase, done, total)

    return report
