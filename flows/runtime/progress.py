"""Progress of long work, sent to a listener: log lines by default, a bar per month on a terminal."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Generator
from typing import Protocol, TypeAlias

from flows.runtime.stopping import check_stopped

logger = logging.getLogger("flows.runtime.progress")

ProgressCallback: TypeAlias = "Callable[[int, int | None], None]"
"""Called with the amount done and, if known, the total; bytes while downloading, rows otherwise."""


class ProgressListener(Protocol):
    """Receives the progress of every month."""

    def update(self, month: str, phase: str, done: int, total: int | None) -> None:
        """Receive one report.

        Args:
            month: label such as `yellow 2021-01`.
            phase: such as `download` or `stage`.
            done: bytes (`download`) or rows (other phases) so far.
            total: bytes or rows in all; None if unknown.
        """
        ...


class LogProgress:
    """Logs one line when a phase is done, and one every few seconds until then."""

    def __init__(self, every_seconds: float = 10.0) -> None:
        """Start without any phase.

        Args:
            every_seconds: interval between two lines of a phase, and before its first.
        """
        self._every_seconds = every_seconds
        self._last_logged: dict[tuple[str, str], float] = {}
        self._finished: set[tuple[str, str]] = set()

    def update(self, month: str, phase: str, done: int, total: int | None) -> None:
        """Log the report if the phase is done or its last line is old enough; see `ProgressListener`."""
        key, now = (month, phase), time.monotonic()
        last_logged = self._last_logged.setdefault(key, now)
        is_done = total is not None and done >= total
        if is_done and key in self._finished:
            return
        if is_done:
            self._finished.add(key)
        if is_done or now - last_logged >= self._every_seconds:
            self._last_logged[key] = now
            unit = "bytes" if phase == "download" else "rows"
            of_total = f" of {total:,}" if total and not is_done else ""
            logger.info("%s: %s %s%s %s", month, phase, f"{done:,}", of_total, unit)


_listener: ProgressListener = LogProgress()
_followers: dict[str, ProgressListener] = {}


def set_progress_listener(listener: ProgressListener) -> None:
    """Send all progress of this process to another listener from now on.

    Args:
        listener: replaces the previous one.
    """
    global _listener
    _listener = listener


@contextlib.contextmanager
def forward_progress(month: str, follower: ProgressListener) -> Generator[None]:
    """Send the progress of one month to a second listener as well, while the block runs.

    Args:
        month: label such as `yellow 2021-01`.
        follower: the second listener.
    """
    _followers[month] = follower
    try:
        yield
    finally:
        _followers.pop(month, None)


def reporter(month: str, phase: str) -> Callable[[int, int | None], None]:
    """Make the function with which a phase reports its progress.

    Args:
        month: label such as `yellow 2021-01`.
        phase: such as `download`.

    Returns:
        A function of (done, total). It raises `Stopped` once the run has been told to stop, so that long
        work ends soon.
    """

    def report(done: int, total: int | None = None) -> None:
        check_stopped()
        _listener.update(month, phase, done, total)
        if follower := _followers.get(month):
            follower.update(month, phase, done, total)

    return report
