"""Transactions that conflict as the server's do.

Source: https://cloud.google.com/bigquery/docs/transactions. Snapshot isolation; an INSERT never conflicts;
of two transactions that UPDATE, DELETE or MERGE rows of the same *table* the later one is cancelled, also
if the earlier one has been committed since the later one began; statements outside a transaction wait.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.bigquery_fake.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_QUEUE_SECONDS = 60


@dataclass(eq=False)
class Transaction:
    """One that is open, or a single statement that stands for one."""

    began_at: int
    explicit: bool
    mutated: set[tuple[str, str]] = field(default_factory=set)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class Conflicts:
    """Who mutates which table."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._changed = threading.Condition()
        self._clock = itertools.count(1)
        self._now = 0
        self._writers: dict[tuple[str, str], Transaction] = {}
        self._mutated_at: dict[tuple[str, str], int] = {}
        self.aborts_on_request = 0

    def begin(self, *, explicit: bool) -> Transaction:
        with self._changed:
            return Transaction(self._now, explicit)

    def mutate(self, who: Transaction, key: tuple[str, str]) -> None:
        """Claim a table; raises if somebody was there first, waits if no transaction asks."""
        with self._changed:
            if who.explicit:
                on_request = self.aborts_on_request > 0
                self.aborts_on_request -= on_request
                held = self._writers.get(key, who) is not who
                if on_request or held or self._mutated_at.get(key, 0) > who.began_at:
                    raise ApiError(
                        "invalidQuery",
                        "Transaction is aborted due to concurrent update against table "
                        f"{self._project}:{key[0]}.{key[1]}. Transaction ID: {who.id}",
                    )
            elif not self._changed.wait_for(lambda: key not in self._writers, LONGEST_QUEUE_SECONDS):
                raise ApiError(
                    "invalidQuery",
                    f"Could not serialize access to table {self._project}:{key[0]}.{key[1]} due to "
                    "concurrent update",
                )
            self._writers[key] = who
            who.mutated.add(key)

    def end(self, who: Transaction, finish: Callable[[], object], *, committed: bool) -> None:
        """Finish it, and let go of its tables."""
        with self._changed:
            try:
                finish()
                if committed and who.mutated:
                    self._now = next(self._clock)
                    self._mutated_at.update(dict.fromkeys(who.mutated, self._now))
            finally:
                for key in who.mutated:
                    self._writers.pop(key, None)
                self._changed.notify_all()
