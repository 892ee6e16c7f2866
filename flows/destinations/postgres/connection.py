"""A connection to Postgres, and its failures as errors of this program: one line, with the next step."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from typing import Any

import psycopg

from flows.destinations.postgres.address import PostgresAddress
from flows.errors import DestinationBusy, DestinationRefused, TaxiError

SESSION_SETTINGS = {
    "DateStyle": "ISO",  # partition bounds are compared as text
    "TimeZone": "UTC",
    "tcp_keepalives_idle": "60",  # a client that is gone frees its locks
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}

# Failed connections come without SQLSTATE, see https://www.postgresql.org/docs/current/libpq-status.html.
TRANSIENT_MESSAGES = re.compile(
    r"starting up|shutting down|in recovery|not yet accepting|not accepting connections"
    r"|too many (clients|connections)|connection slots are reserved|connection limit exceeded"
    r"|refused|timeout expired|timed out|closed|reset|aborted|unreachable|No route to host"
    r"|No such file or directory|could not (send|receive)|EOF|no connection to the server",
    re.IGNORECASE,
)
LOCK_STATES = {"55P03": "waited too long for a lock", "40P01": "a deadlock was broken"}
# SQLSTATEs by prefix; https://www.postgresql.org/docs/current/errcodes-appendix.html lists them.
TRANSIENT_STATES = ("08", "40", "53", "57P", "55006")
PERMANENT_STATES = ("08P01", "53100", "57P04", "57P05")  # in spite of their prefixes
ADVICE = {
    "42501": "grant the right, see docs/postgres.md, Permissions",
    "25006": "the server is read-only, perhaps a standby; name the primary in TAXI_POSTGRES_URL",
    "53100": "make room on the server's disk",
    "57014": "raise statement_timeout for this user",
    "22021": "Postgres cannot store the character \\x00 in text; remove it from the source file",
    "22P05": "the database has another encoding; create one with ENCODING 'UTF8'",
}


class LockNotAvailable(DestinationBusy):
    """A lock was not free in time, or a deadlock was broken; the transaction was rolled back."""


class PostgresSession:
    """One connection; every statement belongs to a `transaction` block."""

    def __init__(self, connection: psycopg.Connection, address: PostgresAddress) -> None:
        """Wrap a connection.

        Args:
            connection: its cursors are `psycopg.RawCursor`s.
            address: what it was opened with.
        """
        self._connection, self._address = connection, address

    @property
    def address(self) -> PostgresAddress:
        """The one server that was reached out of those in the address, and the password that it accepted."""
        info = self._connection.info
        reached = {"host": info.host, "hostaddr": info.hostaddr, "port": str(info.port)}
        actual = {key: value for key, value in (reached | {"password": info.password}).items() if value}
        return PostgresAddress({**self._address.parameters, **actual})

    def execute(self, sql: str, *values: object) -> None:
        """Run one statement.

        Args:
            sql: the statement.
            values: those of `$1`, `$2`, ...

        Raises:
            DestinationBusy, DestinationRefused: the statement failed; see `statement_error`.
        """
        with _translate_errors():
            self._connection.execute(sql.encode(), values or None)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one query.

        Args:
            sql: the query.
            values: those of `$1`, `$2`, ...

        Returns:
            All its rows.

        Raises:
            DestinationBusy, DestinationRefused: the query failed; see `statement_error`.
        """
        with _translate_errors():
            return self._connection.execute(sql.encode(), values or None).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Generator[None]:
        """Commit what the block does, or roll all of it back if it raises, even a SET.

        Raises:
            DestinationBusy, DestinationRefused: the commit failed.
        """
        with _translate_errors(), self._connection.transaction():
            yield

    def set_lock_timeout(self, seconds: float) -> None:
        """Limit how long each later statement waits for a lock.

        Args:
            seconds: at least a millisecond is set, because 0 would mean no limit.
        """
        self.execute(f"SET lock_timeout = {max(1, int(seconds * 1000))}")


@contextlib.contextmanager
def connected(address: PostgresAddress) -> Generator[PostgresSession]:
    """Connect, and disconnect at the end of the block.

    Args:
        address: the database.

    Yields:
        The connection, with `SESSION_SETTINGS`.

    Raises:
        DestinationBusy: the server is starting, full, or cannot be reached right now.
        DestinationRefused: wrong password, no such host or database: the configuration has to be corrected.
    """
    try:
        # Prepared statements pay off only when repeated, which these are not.
        connection = psycopg.connect(
            address.conninfo(), prepare_threshold=None, cursor_factory=psycopg.RawCursor
        )
    except psycopg.Error as error:
        raise connection_error(str(error), address) from error
    with contextlib.closing(connection):
        session = PostgresSession(connection, address)
        settings = (f"set_config('{key}', '{value}', false)" for key, value in SESSION_SETTINGS.items())
        with session.transaction():
            session.rows(f"SELECT {', '.join(settings)}")
            # This connection idles while others copy. (Servers before Postgres 14 have no such limit.)
            session.rows(
                "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
            )
        yield session


def connection_error(message: str, address: PostgresAddress) -> TaxiError:
    """The error to raise when a connection cannot be made.

    Args:
        message: the driver's.
        address: where the connection was to go.

    Returns:
        DestinationBusy if another attempt may succeed, otherwise DestinationRefused.
    """
    reason = " ".join(message.split())
    for prefix in ("IO: [libpq] Failed to connect: ", "connection failed: "):
        reason = reason.removeprefix(prefix)
    if TRANSIENT_MESSAGES.search(re.sub('"[^"]*"', "", reason)):  # not in a quoted host or database name
        return DestinationBusy(f"no connection to Postgres at {address} ({reason}); is the server running?")
    return DestinationRefused(
        f"no connection to Postgres at {address} ({reason}); correct TAXI_POSTGRES_URL (host, user, "
        "password, database) or the server, then run it again"
    )


@contextlib.contextmanager
def _translate_errors() -> Generator[None]:
    try:
        yield
    except psycopg.Error as error:
        is_operational = isinstance(error, psycopg.OperationalError)
        raise statement_error(str(error), error.sqlstate, is_operational=is_operational) from error


def statement_error(message: str, sqlstate: str | None, *, is_operational: bool) -> TaxiError:
    """The error to raise when a statement fails.

    Args:
        message: the driver's.
        sqlstate: None if the server sent none.
        is_operational: the driver raised an OperationalError; without SQLSTATE the connection is lost.

    Returns:
        LockNotAvailable or DestinationBusy if another attempt may succeed, otherwise DestinationRefused.
    """
    state, reason = sqlstate or "", _server_message(message)
    if state in LOCK_STATES:
        return LockNotAvailable(
            f"Postgres: {LOCK_STATES[state]} ({reason}); let the others finish, then run it again"
        )
    if not state and is_operational:
        return DestinationBusy(f"the connection to Postgres broke ({reason}); the month there stays")
    if state.startswith(TRANSIENT_STATES) and state not in PERMANENT_STATES:
        return DestinationBusy(f"Postgres cannot do it now ({reason}, SQLSTATE {state})")
    advice = ADVICE.get(state, "see docs/postgres.md")
    return DestinationRefused(f"Postgres refused: {reason} (SQLSTATE {state or 'unknown'}); {advice}")


def _server_message(message: str) -> str:
    """The server's own words in a driver's message, without the statement."""
    match = re.search(r"(?:ERROR|FATAL|PANIC):\s+(.*)", message, re.DOTALL)
    lines = (match[1] if match else message).partition("\nQuery was:")[0].split("\n")
    noise = ("LINE ", " ", ". SQLSTATE", "CONTEXT:")
    return " ".join(" ".join(line for line in lines if not line.startswith(noise)).split())
