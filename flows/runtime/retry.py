"""Trying again: the one place for attempts, growth, jitter, `Retry-After` and giving up."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception

from flows.runtime.progress import pause

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")
ErrorTypes: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...]"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long something that may pass is tried again.

    Attributes:
        attempts: in a row without progress; None: no limit. An error's own `most_attempts` lowers it.
        first_pause_seconds: pause after the first failure; it doubles with every further one in a row.
        longest_pause_seconds: bound of the pauses, unless the server asks for a longer one.
        total_seconds: no new attempt later than this after the first one began; None: no limit.
    """

    attempts: int | None = None
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 30.0
    total_seconds: float | None = None

    def pause_seconds(self, failures: int, error: BaseException | None = None) -> float:
        """How long to wait before the next attempt.

        Args:
            failures: in a row, at least 1.
            error: the last one; its `retry_after_seconds` is what the server asked for.

        Returns:
            Seconds, with up to a quarter of jitter either way.
        """
        doubled = self.first_pause_seconds * 2 ** min(failures - 1, 16)
        jittered = min(doubled, self.longest_pause_seconds) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        return max(jittered, getattr(error, "retry_after_seconds", 0.0))

    def gives_up(self, failures: int, error: BaseException | None = None) -> bool:
        """Whether so many failures in a row are enough.

        Args:
            failures: in a row, at least 1.
            error: the last one.
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
    """Call until it succeeds, fails in a way that will not pass, or the policy gives up.

    Args:
        call: what to do; it may be called again after an error that `retry_on` names.
        policy: how often, and with which pauses.
        retry_on: error types worth another attempt, or a function that tells.
        progress: a number that grows when an attempt got further than any before it, such as bytes received;
            failures are then counted anew.
        before_pause: called with the error and the seconds of the pause that follows.

    Returns:
        What `call` returns.

    Raises:
        Stopped: the run was told to stop during a pause.
        BaseException: the last error, as `call` raised it.
    """
    failures, furthest = 0, progress()
    passes = _is_one_of(retry_on) if isinstance(retry_on, (type, tuple)) else retry_on

    def counted(error: BaseException) -> bool:
        nonlocal failures, furthest
        if not passes(error):
            return False
        failures = 0 if progress() > furthest else failures + 1
        furthest = max(furthest, progress())
        return True

    def stop(state: RetryCallState) -> bool:
        elapsed = state.seconds_since_start or 0.0
        is_late = policy.total_seconds is not None and elapsed >= policy.total_seconds
        return is_late or policy.gives_up(failures, _error(state))

    def announce(state: RetryCallState) -> None:
        error = _error(state)
        if before_pause and error:
            before_pause(error, state.next_action.sleep if state.next_action else 0.0)

    attempts = Retrying(
        retry=retry_if_exception(counted),
        stop=stop,
        wait=lambda state: policy.pause_seconds(max(failures, 1), _error(state)),
        sleep=lambda seconds: pause(float(seconds)),
        before_sleep=announce,
        reraise=True,
    )
    return attempts(call)


def _is_one_of(
    types: type[BaseException] | tuple[type[BaseException], ...],
) -> Callable[[BaseException], bool]:
    return lambda error: isinstance(error, types)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
