"""The one way to retry: attempts, growing pauses with jitter, `Retry-After`, and giving up."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception

from flows.errors import TaxiError
from flows.runtime.stopping import pause

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
ErrorTypes: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...]"


CONTENTION = (0.1, 1.0)
"""Jitter for callers that compete: with equal pauses they would meet again and again."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long a call is retried.

    Attributes:
        attempts: in a row without progress; None: no limit. An error's own `most_attempts` lowers it.
        first_pause_seconds: pause after the first failure; it doubles with each further one in a row.
        longest_pause_seconds: bound of the pauses, unless the server asks for a longer one.
        total_seconds: no new pause this long after the first attempt began; None: no limit.
        jitter: least and greatest random factor of a pause; `CONTENTION` for callers that compete.
    """

    attempts: int | None = None
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 30.0
    total_seconds: float | None = None
    jitter: tuple[float, float] = (1.0, 1.25)

    def pause_seconds(self, failures: int, error: BaseException | None = None) -> float:
        """Compute the pause before the next attempt.

        Args:
            failures: number of failures in a row, at least 1.
            error: the last one; its `retry_after_seconds` is the pause the server asked for.

        Returns:
            Seconds, at most `longest_pause_seconds` or what the server asked for.
        """
        longest = self.longest_pause_seconds
        doubled = min(self.first_pause_seconds * 2 ** min(failures - 1, 16), longest)
        jittered = doubled * random.uniform(*self.jitter)  # noqa: S311 - not a secret
        return max(min(jittered, longest), getattr(error, "retry_after_seconds", 0.0))

    def gives_up(self, failures: int, error: BaseException | None = None) -> bool:
        """Tell whether the limit of attempts is reached.

        Args:
            failures: number of failures in a row, at least 1.
            error: the last one; its `most_attempts` is a limit as well.

        Returns:
            True if there should be no further attempt.
        """
        limits = (self.attempts, getattr(error, "most_attempts", None))
        return any(limit is not None and failures >= limit for limit in limits)


def retry_transient(
    call: Callable[[], Result],
    policy: RetryPolicy,
    *,
    retry_on: ErrorTypes | Callable[[BaseException], bool],
    progress: Callable[[], int] = lambda: 0,
    before_pause: Callable[[BaseException, float], None] | None = None,
) -> Result:
    """Call a function until it succeeds, fails with a permanent error, or the policy gives up.

    Args:
        call: the function; it must be safe to call again after an error that `retry_on` accepts.
        policy: limits and pauses.
        retry_on: types of transient errors, or a function that tells whether an error is transient.
        progress: returns a number such as bytes received. When it has grown beyond its highest value so
            far, the failures are counted from zero again.
        before_pause: called with the error and the seconds of the pause that follows.

    Returns:
        The result of `call`.

    Raises:
        Stopped: the run was told to stop during a pause.
        BaseException: the last error, as `call` raised it.

    Example:
        >>> policy = RetryPolicy(attempts=5, first_pause_seconds=0.5)
        >>> retry_transient(connect, policy, retry_on=DestinationBusy)  # doctest: +SKIP
    """
    failures, furthest = 0, progress()

    def is_transient(error: BaseException) -> bool:
        return isinstance(error, retry_on) if isinstance(retry_on, (type, tuple)) else retry_on(error)

    def count_failure(error: BaseException) -> bool:
        nonlocal failures, furthest
        if not is_transient(error):
            return False
        reached = progress()
        failures = 0 if reached > furthest else failures + 1
        furthest = max(furthest, reached)
        return True

    def should_stop(state: RetryCallState) -> bool:
        elapsed = state.seconds_since_start or 0.0
        is_late = policy.total_seconds is not None and elapsed >= policy.total_seconds
        return is_late or policy.gives_up(failures, _error_of(state))

    def announce_pause(state: RetryCallState) -> None:
        error = _error_of(state)
        if before_pause and error:
            before_pause(error, state.upcoming_sleep)

    retrying = Retrying(
        retry=retry_if_exception(count_failure),
        stop=should_stop,
        wait=lambda state: policy.pause_seconds(max(failures, 1), _error_of(state)),
        before_sleep=announce_pause,
        sleep=pause,
        reraise=True,
    )
    return retrying(call)


def announce_retry(error: BaseException, seconds: float, where: str = "") -> None:
    """Log that another attempt follows; without the error's own advice, which would be to do just that.

    Args:
        error: of the attempt that failed.
        seconds: until the next one.
        where: what failed, if the error does not say so itself.
    """
    problem = error.problem if isinstance(error, TaxiError) else str(error)
    if place := getattr(error, "where", "") or where:
        problem = f"{place}: {problem}"
    logger.warning("%s. Trying again in %.1f s.", problem.rstrip("."), seconds)


def parse_retry_after(header: str | None, longest_seconds: float) -> float:
    """Read a `Retry-After` header.

    Args:
        header: its value, if there is one.
        longest_seconds: the longest pause to accept.

    Returns:
        Seconds; 0 if the server asks for no pause, or names a date.
    """
    return min(float(header), longest_seconds) if header and header.strip().isdecimal() else 0.0


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
