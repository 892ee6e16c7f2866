"""Progress of a run and its months, sent to a listener: log lines by default, bars on a terminal."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from flows.runtime.stopping import check_stopped, is_stopped

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


@dataclass(frozen=True, slots=True)
class FinishedMonth:
    """What became of a month.

    Attributes:
        month: label such as `yellow 2021-01`.
        status: `published`, `unchanged` or `failed`.
        seconds: that it took.
        rows: staged; 0 if it failed before.
        error: why it failed, in one line; None if it did not.
    """

    month: str
    status: str
    seconds: float
    rows: int = 0
    error: str | None = None


class RunListener(ProgressListener, Protocol):
    """Receives the progress of a whole run."""

    def begin(self, months: int) -> None:
        """Learn how many months the run has.

        Args:
            months: their number.
        """
        ...

    def finish(self, finished: FinishedMonth) -> None:
        """Learn what became of a month.

        Args:
            finished: the month.
        """
        ...


class LogProgress:
    """Logs one line for every finished month, and one every few seconds for a phase that takes long."""

    def __init__(self, every_seconds: float = 10.0) -> None:
        """Start without any phase.

        Args:
            every_seconds: interval between two lines of a phase, and before its first.
        """
        self._every_seconds = every_seconds
        self._last_logged: dict[tuple[str, str], float] = {}
        self._months = self._finished = 0
        self._lock = threading.Lock()

    def begin(self, months: int) -> None:
        """See `RunListener.begin`."""
        self._months, self._finished = months, 0

    def update(self, month: str, phase: str, done: int, total: int | None) -> None:
        """Log the report if the phase's last line is old enough; see `ProgressListener.update`."""
        key, now = (month, phase), time.monotonic()
        last_logged = self._last_logged.setdefault(key, now)
        if now - last_logged >= self._every_seconds:
            self._last_logged[key] = now
            unit = "bytes" if phase == "download" else "rows"
            of_total = f" of {total:,}" if total else ""
            logger.info("%s: %s %s%s %s", month, phase, f"{done:,}", of_total, unit)

    def finish(self, finished: FinishedMonth) -> None:
        """Log the month in one line; see `RunListener.finish`."""
        with self._lock:
            self._finished += 1
            number = f" ({self._finished} of {self._months} months)" if self._months > 1 else ""
            took = f"{finished.seconds:.1f} s"
            match finished.status:
                case "published":
                    text = f"published {finished.rows:,} rows in {took}"
                case "failed":
                    text = f"failed after {took}"
                    if finished.error and self._finished < self._months:  # else it follows at once anyway
                        text += f" ({finished.error.removeprefix(f'{finished.month}: ')})"
                case status:
                    text = status
            level = logging.WARNING if finished.error else logging.INFO
            logger.log(level, "%s: %s%s", finished.month, text, number)


_listener: RunListener = LogProgress()
_followers: dict[str, ProgressListener] = {}


def set_progress_listener(listener: RunListener) -> None:
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


def begin_run(months: int) -> None:
    """Report that a run begins.

    Args:
        months: how many it has.
    """
    _listener.begin(months)


def finish_month(finished: FinishedMonth) -> None:
    """Report that nothing more will be done for a month in this run.

    Args:
        finished: what became of it.
    """
    if not is_stopped():  # then it failed for that reason, which the last line of the command gives
        _listener.finish(finished)
