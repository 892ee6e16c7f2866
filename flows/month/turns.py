"""Whose turn it is: some months land while others, as many as the cores bear, are staged and published."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.runtime import check_stopped

if TYPE_CHECKING:
    from flows.month.outcome import MonthOutcome

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class _Turns:
    """The turns of one run.

    Attributes:
        landing: files that land at once.
        working: months that are staged and published at once.
    """

    landing: threading.Semaphore
    working: threading.Semaphore


_turns: ContextVar[_Turns | None] = ContextVar("turns", default=None)


@contextlib.contextmanager
def months_take_turns(concurrency: int) -> Generator[int]:
    """Let the next months land while the cores are busy with those before them.

    Args:
        concurrency: months that are staged and published at once; as many again may land ahead of them. 1:
            one month after the other.

    Yields:
        Threads to start for the months of the block, each in a copy of its context.
    """
    token = _turns.set(_Turns(threading.Semaphore(concurrency), threading.Semaphore(concurrency)))
    try:
        yield 2 * concurrency if concurrency > 1 else 1
    finally:
        _turns.reset(token)


@contextlib.contextmanager
def landing(outcome: MonthOutcome) -> Generator[None]:
    """Hold a turn to land a file for the length of the block; outside `months_take_turns`, simply go on.

    Args:
        outcome: of the month; the wait does not count as its time.

    Raises:
        Stopped: the run was told to stop meanwhile.
    """
    turns = _turns.get()
    with _held(turns and turns.landing, outcome):
        yield


@contextlib.contextmanager
def at_work(outcome: MonthOutcome) -> Generator[None]:
    """Hold a turn to stage and publish a month for the length of the block; otherwise as `landing`.

    Args:
        outcome: of the month; the wait does not count as its time.

    Raises:
        Stopped: the run was told to stop meanwhile.
    """
    turns = _turns.get()
    with _held(turns and turns.working, outcome):
        yield


@contextlib.contextmanager
def _held(turn: threading.Semaphore | None, outcome: MonthOutcome) -> Generator[None]:
    if turn is None:
        yield
        return
    started = time.perf_counter()
    while not turn.acquire(timeout=POLL_SECONDS):
        check_stopped()
    outcome.waited_seconds += time.perf_counter() - started
    try:
        yield
    finally:
        turn.release()
