"""Trying again: how often, with which pauses, and when it ends."""

from __future__ import annotations

import threading
import time

import pytest

from flows.errors import DestinationBusy, SourceBusy, SourceUnreachable, Stopped
from flows.runtime import (
    CONTENTION,
    RetryPolicy,
    clear_stop,
    parse_retry_after,
    request_stop,
    retry_transient,
)

QUICK = RetryPolicy(attempts=4, first_pause_seconds=0.0)


class Attempt:
    """Raises what it was given, one after the other, and then returns how often it was called."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of every pause; the test does not wait for them."""
    seconds: list[float] = []
    monkeypatch.setattr("flows.runtime.retry.pause", seconds.append)
    return seconds


def test_it_succeeds_when_the_trouble_passes() -> None:
    assert retry_transient(Attempt(SourceBusy("busy"), SourceBusy("busy")), QUICK, retry_on=SourceBusy) == 3


def test_the_last_error_is_raised_as_it_is() -> None:
    errors = [SourceBusy(str(number)) for number in range(4)]
    attempt = Attempt(*errors)
    with pytest.raises(SourceBusy) as raised:
        retry_transient(attempt, QUICK, retry_on=(SourceBusy, SourceUnreachable))
    assert raised.value is errors[-1]
    assert attempt.calls == 4


def test_another_error_is_not_tried_again() -> None:
    attempt = Attempt(ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        retry_transient(attempt, QUICK, retry_on=SourceBusy)
    assert attempt.calls == 1


def test_a_function_may_tell_which_errors_pass() -> None:
    attempt = Attempt(ValueError("passes"), ValueError("stays"))
    with pytest.raises(ValueError, match="stays"):
        retry_transient(attempt, QUICK, retry_on=lambda error: "passes" in str(error))
    assert attempt.calls == 2


def test_an_error_may_allow_fewer_attempts() -> None:
    attempt = Attempt(*[SourceUnreachable("no such host")] * 9)
    with pytest.raises(SourceUnreachable):
        retry_transient(attempt, RetryPolicy(attempts=9, first_pause_seconds=0), retry_on=SourceUnreachable)
    assert attempt.calls == SourceUnreachable.most_attempts == 3


def test_progress_counts_failures_anew() -> None:
    attempt = Attempt(*[SourceBusy("cut")] * 10)
    assert retry_transient(attempt, QUICK, retry_on=SourceBusy, progress=lambda: attempt.calls) == 11


def test_pauses_double_up_to_a_bound(pauses: list[float]) -> None:
    policy = RetryPolicy(attempts=8, first_pause_seconds=1.0, longest_pause_seconds=10.0)
    with pytest.raises(SourceBusy):
        retry_transient(Attempt(*[SourceBusy("busy")] * 8), policy, retry_on=SourceBusy)
    for seconds, usual in zip(pauses, [1, 2, 4, 8, 10, 10, 10], strict=True):
        assert usual <= seconds <= min(1.25 * usual, 10)


def test_callers_that_compete_do_not_wait_equally_long() -> None:
    policy = RetryPolicy(first_pause_seconds=1.0, longest_pause_seconds=4.0, jitter=CONTENTION)
    pauses = [policy.pause_seconds(9) for _ in range(100)]
    assert len(set(pauses)) > 90
    assert 0.4 <= min(pauses) <= max(pauses) <= 4.0


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), (" 7 ", 7.0), ("3600", 120.0), (None, 0.0), ("", 0.0), ("-1", 0.0)]
)
def test_a_pause_that_is_asked_for_is_read(header: str | None, seconds: float) -> None:
    assert parse_retry_after(header, 120.0) == seconds
    assert parse_retry_after("Fri, 31 Dec 1999 23:59:59 GMT", 120.0) == 0.0


def test_a_server_is_given_the_pause_it_asks_for(pauses: list[float]) -> None:
    busy = SourceBusy("busy")
    busy.retry_after_seconds = 77.0
    announced: list[tuple[BaseException, float]] = []
    policy = RetryPolicy(attempts=5)
    retry_transient(
        Attempt(busy), policy, retry_on=SourceBusy, before_pause=lambda *pause: announced.append(pause)
    )
    assert pauses == [77.0]
    assert announced == [(busy, 77.0)]


def test_it_gives_up_after_a_time() -> None:
    policy = RetryPolicy(first_pause_seconds=0.05, longest_pause_seconds=0.05, total_seconds=0.3)
    attempt = Attempt(*[DestinationBusy("locked")] * 1000)
    with pytest.raises(DestinationBusy):
        retry_transient(attempt, policy, retry_on=DestinationBusy)
    assert 2 < attempt.calls < 20


def test_a_pause_ends_when_the_run_is_told_to_stop() -> None:
    policy = RetryPolicy(attempts=2, first_pause_seconds=600.0, longest_pause_seconds=600.0)
    threading.Timer(0.1, request_stop).start()
    started = time.monotonic()
    try:
        with pytest.raises(Stopped):
            retry_transient(Attempt(SourceBusy("busy")), policy, retry_on=SourceBusy)
    finally:
        clear_stop()
    assert time.monotonic() - started < 60
