"""The files of the next months land while the cores are busy; the first ones while Prefect is imported."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING

from flows.month import steps
from flows.runtime import Layout, check_stopped, file_lock, request_stop
from flows.settings import get_settings
from flows.sources import locate_source

if TYPE_CHECKING:
    from flows.request import LoadRequest
    from flows.sources import LandedFile
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2


class _Ahead:
    """Lands the files of a run in the order of its months, a few months ahead."""

    def __init__(self, months: Sequence[TripMonth], request: LoadRequest) -> None:
        at_once = request.runner.months_at_once
        self._request = request
        self._room = threading.Semaphore(2 * at_once)  # files that have landed and wait for their month
        self._pool = ThreadPoolExecutor(at_once, "landing")
        self._files: dict[TripMonth, Future[LandedFile | None]] = {
            month: self._pool.submit(copy_context().run, self._land, month) for month in months
        }

    def take(self, month: TripMonth) -> LandedFile | None:
        """The file of a month; None if it has to be landed by the month itself."""
        file = self._files.pop(month, None)
        if file is None or file.cancel():
            return None
        try:
            return file.result()
        except Exception as error:
            logger.debug("%s did not land ahead", month.label, exc_info=error)
            return None
        finally:
            self._room.release()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _land(self, month: TripMonth) -> LandedFile | None:
        while not self._room.acquire(timeout=POLL_SECONDS):
            check_stopped()
        layout, force = Layout(self._request.directory), self._request.force
        source = locate_source(self._request.source, month, get_settings())
        with file_lock(layout.lock(month), 0):  # another run's month is not touched
            return steps.extract(month, source, layout.raw(month.color), force=force)


_ahead: ContextVar[_Ahead | None] = ContextVar("ahead", default=None)


@contextlib.contextmanager
def landing_ahead(months: Sequence[TripMonth], request: LoadRequest) -> Generator[None]:
    """Land the files of months while the block runs, as many at once as months are worked on.

    At most twice as many lie there and wait for their month. A block within another one changes nothing.

    Args:
        months: which ones.
        request: what is asked for.
    """
    if _ahead.get():
        yield
        return
    ahead = _Ahead(months, request)
    token = _ahead.set(ahead)
    try:
        yield
    except KeyboardInterrupt:
        request_stop()  # what is landing ends soon
        raise
    finally:
        _ahead.reset(token)
        ahead.close()


def landed_ahead(month: TripMonth) -> LandedFile | None:
    """The file of a month that has landed ahead, waited for if it is on its way.

    Args:
        month: which one; its lock must not be held yet.

    Returns:
        The file; None if the month has to see to it itself.
    """
    ahead = _ahead.get()
    return ahead.take(month) if ahead else None
