"""What goes wrong on request, and a log of everything that arrived.

Calls have names: those of the API's own methods, such as `jobs.insert`, `tables.get`, `AppendRows`,
`BatchCommitWriteStreams`; a job that brings its file is `jobs.upload`, and `jobs.uploadChunk`. A rule
counts the calls of its name from the moment it is made.
"""

from __future__ import annotations

import contextlib
import fnmatch
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

LONGEST_HOLD_SECONDS = 120


@dataclass
class Call:
    """Something that arrived.

    Attributes:
        name: the API's method, such as `tables.get` or `AppendRows`.
        target: path of a REST call, stream or table of a gRPC call.
        bytes: size of the body, or of the serialized request.
        body: of a REST call; of an append its offset and rows.
        outcome: `ok`, or the reason or code it was answered with; None: not answered yet.
    """

    name: str
    target: str
    bytes: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    outcome: str | None = None


class Cut(Exception):
    """Hang up without an answer."""


@dataclass
class Hold:
    """A call that is held: `reached` is set when it has arrived; it goes on when the block ends."""

    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


@dataclass
class Rule:
    """One thing to go wrong.

    Attributes:
        call: name of the calls it is about; `*` and `?` match as in a file name.
        error: what to answer; for REST a reason such as `quotaExceeded`, for gRPC a code such as
            `UNAVAILABLE`; `cut`: hang up; `hold`: see `Failures.hold`; for a commit `stream_errors:CODE`.
        nth: the first call to fail, counted from 1.
        times: how many calls in a row.
        applied: do what was asked for first, and then fail.
    """

    call: str
    error: str
    nth: int = 1
    times: int = 1
    applied: bool = False
    hold: Hold | None = None
    seen: int = 0

    def is_due(self, name: str) -> bool:
        """Count a call; whether it is one to fail."""
        if not fnmatch.fnmatchcase(name, self.call):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class Failures:
    """The rules in force, and the log."""

    def __init__(self) -> None:
        self.requests: list[Call] = []
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def clear(self) -> None:
        """Forget rules and log; whatever is held goes on."""
        with self._lock:
            for rule in self._rules:
                if rule.hold:
                    rule.hold.release.set()
            self._rules.clear()
            self.requests.clear()

    def arrived(self, call: Call) -> Rule | None:
        """Log a call; the rule that it falls under."""
        with self._lock:
            self.requests.append(call)
            # Every rule counts every call, also one that another rule has taken.
            due = [rule for rule in self._rules if rule.is_due(call.name)]
        return due[0] if due else None

    @contextlib.contextmanager
    def hold(self, call: str, nth: int = 1, *, applied: bool = False) -> Generator[Hold]:
        """Hold the nth call of that name for as long as the block lasts; the others go through."""
        rule = Rule(call, "hold", nth, applied=applied, hold=Hold())
        self.add(rule)
        assert rule.hold
        try:
            yield rule.hold
        finally:
            rule.hold.release.set()
            with self._lock, contextlib.suppress(ValueError):
                self._rules.remove(rule)


def wait_while_held(rule: Rule) -> None:
    """Say that the call is there, and wait for the word."""
    assert rule.hold
    rule.hold.reached.set()
    rule.hold.release.wait(LONGEST_HOLD_SECONDS)
