"""Waiting for locks: one limit for all the waits of a month, and who holds what is waited for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.destinations.base import LEDGER
from flows.destinations.postgres.connection import DeadlockBroken, LockNotAvailable
from flows.destinations.postgres.tables import is_attached, lock_key
from flows.errors import LockTimeout

if TYPE_CHECKING:
    from flows.destinations.postgres.connection import PostgresSession
    from flows.destinations.postgres.tables import MonthNames


@dataclass
class LockBudget:
    """How long the locks of one month may be waited for, in all.

    Attributes:
        seconds: the limit.
        left_seconds: what the transactions so far have left of it.
    """

    seconds: float
    left_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin with the whole limit."""
        self.left_seconds = self.seconds

    @contextlib.contextmanager
    def transaction(self, session: PostgresSession, longest_seconds: float | None = None) -> Generator[None]:
        """A transaction that waits for locks no longer than is left, and whose length is taken off.

        Args:
            session: the connection; its limit stays set after the transaction.
            longest_seconds: a lower limit for this transaction.
        """
        limits = (self.left_seconds, longest_seconds if longest_seconds is not None else self.left_seconds)
        started = time.monotonic()
        try:
            with session.transaction():
                session.set_lock_timeout(min(limits))
                yield
        finally:
            self.left_seconds = max(0.0, self.left_seconds - (time.monotonic() - started))


@contextlib.contextmanager
def lock_timeouts(session: PostgresSession, names: MonthNames, limit_seconds: float) -> Generator[None]:
    """Raise a lock that was not free in time as the end of all waiting, and name who holds it.

    Args:
        session: outside of a transaction.
        names: of the month's tables.
        limit_seconds: how long they were waited for.

    Raises:
        LockTimeout: with the processes that hold the month's locks.
    """
    try:
        yield
    except DeadlockBroken:
        raise
    except LockNotAvailable as error:
        holders = lock_holders(session, names)
        advice = "let it finish, or end it with SELECT pg_terminate_backend(PID)" if holders else "try again"
        raise LockTimeout(
            f"waited {limit_seconds:g} s for a lock of {names.month} that is held by "
            f"{' and '.join(holders) or 'somebody who has just let it go'}; {advice}; "
            "TAXI_LOCK_TIMEOUT_SECONDS says how long to wait"
        ) from error


def lock_holders(session: PostgresSession, names: MonthNames) -> list[str]:
    """Who holds the locks that a month needs.

    Args:
        session: the connection, outside of a transaction.
        names: of the month's tables.

    Returns:
        At most three, the oldest transaction first, such as `PID 4711 (user joe, psql, idle in transaction
        since 2026-11-21 16:20:11 UTC)`.
    """
    relations = [session.qualified(name) for name in (names.parent, names.month, names.loading, LEDGER)]
    key = lock_key(names.loading, session.schema) & (2**64 - 1)
    with session.transaction():
        # Readers are in the way of a month that is replaced, and not of a new one.
        readers_block = is_attached(session, names)
        rows = session.rows(
            """
            SELECT l.pid, a.usename::text, a.application_name, a.backend_type, a.state,
                   to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
            FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
            WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND (l.relation IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
                     AND (l.mode <> 'AccessShareLock' OR $2)
                   OR l.locktype = 'advisory' AND l.classid::bigint = $3 AND l.objid::bigint = $4)
              AND a.backend_type IS DISTINCT FROM 'parallel worker'
            GROUP BY 1, 2, 3, 4, 5, 6
            ORDER BY min(a.xact_start) LIMIT 3
            """,
            relations,
            readers_block,
            key >> 32,
            key & (2**32 - 1),
        )
    return [_describe(*row) for row in rows]


def _describe(
    pid: int | None,
    user: str | None,
    application: str | None,
    kind: str | None,
    state: str | None,
    since: str | None,
) -> str:
    if pid is None:
        return "a prepared transaction (see pg_prepared_xacts)"
    # Of other users' processes the server tells state and time only to roles with pg_read_all_stats.
    told = [
        f"user {user}" if user else kind or "of the server",
        application,
        f"{state or 'in a transaction'} since {since} UTC" if since else state,
    ]
    return f"PID {pid} ({', '.join(filter(None, told))})"
