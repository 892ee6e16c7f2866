"""The files of the next months land while the cores are busy; the first ones while Prefect is imported."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.errors import LockTimeout, Stopped, Terminal, error_context
from flows.runtime import Layout, check_stopped, file_lock, reporter
from flows.settings import get_settings
from flows.sources import land, locate_source

if TYPE_CHECKING:
    from flows.request import LoadRequest
    from flows.sources import LandedFile
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Ahead:
    """What came of landing a file ahead of its month.

    Attributes:
        file: the file, or why there is none and another attempt would not help; None: the month has to see to
            it itself.
        seconds: that it took.
    """

    file: LandedFile | Terminal | None = None
    seconds: float = 0.0


class _Landing:
    """Lands the files of a run in the order of its months, a few months ahead."""

    def __init__(self, months: Sequence[TripMonth], request: LoadRequest) -> None:
        at_once = request.runner.months_at_once
        self._request = request
        self._is_closed = False
        self._window = 2 * at_once
        self._reached = -1  # the last month, by its place, that has asked for its file
        self._changed = threading.Condition()
        self._places = {month: place for place, month in enumerate(months)}
        self._pool = ThreadPoolExecutor(at_once, "landing")
        self._files: dict[TripMonth, Future[Ahead]] = {
            month: self._pool.submit(copy_context().run, self._land, month) for month in months
        }

    def rows_of(self, month: TripMonth, seconds: float) -> int | None:
        future = self._files.get(month)
        if future is None or not (future.running() or future.done()):
            return None
        try:
            file = future.result(seconds).file
        except (TimeoutError, CancelledError):
            return None
        return None if file is None or isinstance(file, Terminal) else file.most_rows

    def take(self, month: TripMonth) -> Ahead:
        with self._changed:
            self._reached = max(self._reached, self._places.get(month, -1))
            self._changed.notify_all()
        file = self._files.get(month)
        return Ahead() if file is None or file.cancel() else file.result()

    def close(self) -> None:
        """End what is under way at its next report, and wait for that."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._pool.shutdown(cancel_futures=True)

    def _land(self, month: TripMonth) -> Ahead:
        try:
            self._wait_for_window(month)
            started = time.perf_counter()
            return Ahead(self._land_now(month), time.perf_counter() - started)
        except Exception as error:
            logger.debug("%s did not land ahead", month.label, exc_info=error)
            return Ahead()

    def _wait_for_window(self, month: TripMonth) -> None:
        with self._changed:
            while self._places[month] > self._reached + self._window:
                self._changed.wait(POLL_SECONDS)
                self._check_open()
        self._check_open()

    def _land_now(self, month: TripMonth) -> LandedFile | Terminal:
        request, settings = self._request, get_settings()
        layout, show = Layout(request.directory), reporter(month.label, "download")

        def report(done: int, total: int | None) -> None:
            self._check_open()
            show(done, total)

        source = locate_source(request.source, month, settings)
        try:
            with error_context(month.label), file_lock(layout.lock(month), 0):
                return land(source, layout.raw(month.color), settings, force=request.force, report=report)
        except (LockTimeout, Stopped):  # another run has the month, or this one ends
            raise
        except Terminal as error:
            return error

    def _check_open(self) -> None:
        check_stopped()
        if self._is_closed:
            raise Stopped("the run has ended")


_landing: ContextVar[_Landing | None] = ContextVar("landing", default=None)


@contextlib.contextmanager
def landing_ahead(months: Sequence[TripMonth], request: LoadRequest) -> Generator[None]:
    """Land the files of months while the block runs, as many at once as months are worked on.

    At most twice as many lie there and wait for their month. A block within another one changes nothing.

    Args:
        months: which ones.
        request: what is asked for.
    """
    if _landing.get():
        yield
        return
    landing = _Landing(months, request)
    token = _landing.set(landing)
    try:
        yield
    finally:
        _landing.reset(token)
        landing.close()


def landed_ahead(month: TripMonth) -> Ahead:
    """What came of landing the file of a month ahead; waits for a file that is on its way.

    Args:
        month: which one; its lock must not be held yet.
    """
    landing = _landing.get()
    return landing.take(month) if landing else Ahead()


def rows_ahead(month: TripMonth, seconds: float) -> int | None:
    """The rows of a month's file that has landed ahead, or is on its way.

    Args:
        month: which one.
        seconds: how long to wait for a file that is on its way.

    Returns:
        The rows, see `LandedFile.most_rows`; None if they are not known.
    """
    landing = _landing.get()
    return landing.rows_of(month, seconds) if landing else None
