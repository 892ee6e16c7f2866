"""A connection to Postgres, and its failures as errors of this program: one line, with the next step."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import psycopg

from flows.destinations.postgres.address import PostgresAddress
from flows.destinations.postgres.identifiers import quoted
from flows.errors import DestinationBusy, DestinationRefused, TaxiError

SESSION_SETTINGS = {
    "DateStyle": "ISO",  # partition bounds are compared as text
    "TimeZone": "UTC",
    "quote_all_identifiers": "off",  # or the server would quote what is compared and parsed here
    "tcp_keepalives_idle": "60",  # a client that is gone frees its locks
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}

# Failed connections come without SQLSTATE, see https://www.postgresql.org/docs/current/libpq-status.html.
PROTOCOL_MESSAGES = re.compile(
    r"lost synchronization|invalid response|expected authentication request|unexpected response"
    r"|do(es)? not agree with length|without prior row description|unsupported frontend protocol"
    r"|invalid frontend message|unsupported protocol version",
    re.IGNORECASE,
)
FULL_MESSAGES = re.compile(
    r"too many (clients|connections)|connection slots are reserved|connection limit exceeded"
    r"|no more connections allowed|query_wait_timeout",  # PgBouncer's
    re.IGNORECASE,
)
STARTING_MESSAGES = re.compile(
    r"starting up|shutting down|in recovery|not yet accepting|not accepting connections", re.IGNORECASE
)
UNREACHABLE_MESSAGES = re.compile(
    r"refused|timeout expired|timed out|closed|reset|aborted|unreachable|No route to host"
    r"|No such file or directory|could not (send|receive)|EOF|no connection to the server"
    r"|cannot connect to server|server login has been failing",  # PgBouncer's
    re.IGNORECASE,
)
# SQLSTATEs by prefix; https://www.postgresql.org/docs/current/errcodes-appendix.html lists them.
TRANSIENT_STATES = ("08", "40", "53", "57P", "55006")
PERMANENT_STATES = ("08P01", "53100", "57P04", "57P05")  # in spite of their prefixes
ADVICE = {
    "42501": "grant the right, see docs/reference/postgres.md, Permissions",
    "25006": "this user or this database is set to read only (default_transaction_read_only); name another "
    "user in TAXI_POSTGRES_URL, or set it to off",
    "53100": "make room on the server's disk",
    "57014": "raise statement_timeout for this user",
    "22021": "Postgres cannot store the character \\x00 in text; remove it from the source file",
    "22P05": "the database has another encoding; create one with ENCODING 'UTF8'",
    **dict.fromkeys(
        ("23502", "23505", "23514"),
        "the rule was added to the table: change it there, or correct the row at its source",
    ),
}
FULL_ADVICE = (
    "every connection it allows is taken: end some, or raise the limit (max_connections, or CONNECTION LIMIT "
    "of the user or the database)"
)
PROTOCOL_ADVICE = "name host and port of a Postgres server in TAXI_POSTGRES_URL"
STANDBY_ADVICE = "the server is a standby; name the primary in TAXI_POSTGRES_URL"
POOLER_ADVICE = (
    "the month is held by a lock of the session: name the server itself in TAXI_POSTGRES_URL, or a pooler "
    "with pool_mode = session"
)


class LockNotAvailable(DestinationBusy):
    """A lock was not free in time; the transaction was rolled back."""


class DeadlockBroken(LockNotAvailable):
    """Two transactions waited for each other, and this one was rolled back."""


LOCK_STATES = {
    "55P03": (LockNotAvailable, "waited too long for a lock"),
    "40P01": (DeadlockBroken, "a deadlock was broken"),
}


class PostgresSession:
    """One connection; every statement belongs to a `transaction` block."""

    def __init__(
        self,
        connection: psycopg.Connection,
        address: PostgresAddress,
        *,
        schema: str = "public",
        is_standby: bool = False,
    ) -> None:
        """Wrap a connection.

        Args:
            connection: its cursors are `psycopg.RawCursor`s.
            address: what it was opened with.
            schema: the tables'.
            is_standby: the server only repeats what another one does.
        """
        self._connection, self._address, self._is_standby = connection, address, is_standby
        self.schema = schema

    @property
    def address(self) -> PostgresAddress:
        """The one server that was reached out of those in the address, and the password that it accepted."""
        info = self._connection.info
        reached = {"host": info.host, "hostaddr": info.hostaddr, "port": str(info.port)}
        actual = {key: value for key, value in (reached | {"password": info.password}).items() if value}
        return PostgresAddress({**self._address.parameters, **actual})

    def qualified(self, table: str) -> str:
        """Quote a table's name.

        Args:
            table: a name in the schema of this session.

        Returns:
            The name as an SQL identifier, with its schema.
        """
        return f"{quoted(self.schema)}.{quoted(table)}"

    def execute(self, sql: str, *values: object) -> None:
        """Run one statement.

        Args:
            sql: the statement.
            values: those of `$1`, `$2`, ...

        Raises:
            DestinationBusy, DestinationRefused: the statement failed; see `statement_error`.
        """
        with self._translate_errors():
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
        with self._translate_errors():
            return self._connection.execute(sql.encode(), values or None).fetchall()

    def copy(self, sql: str, rows: Iterable[Sequence[object]]) -> int:
        """Copy rows into a table.

        Args:
            sql: the statement, `COPY ... FROM STDIN`.
            rows: read while they are sent.

        Returns:
            The rows that the server has counted.

        Raises:
            DestinationBusy, DestinationRefused: the server does not accept them; see `statement_error`.
        """
        with self._translate_errors(), self._connection.cursor() as cursor:
            with cursor.copy(sql.encode()) as copy:
                for row in rows:
                    copy.write_row(row)
            return cursor.rowcount

    @contextlib.contextmanager
    def transaction(self) -> Generator[None]:
        """Commit what the block does, or roll all of it back if it raises, even a SET.

        Raises:
            DestinationBusy, DestinationRefused: the commit failed.
        """
        with self._translate_errors(), self._connection.transaction():
            yield

    def set_lock_timeout(self, seconds: float) -> None:
        """Limit how long each later statement waits for a lock.

        Args:
            seconds: at least a millisecond is set, because 0 would mean no limit.
        """
        self.execute(f"SET lock_timeout = {max(1, int(seconds * 1000))}")

    @contextlib.contextmanager
    def _translate_errors(self) -> Generator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise statement_error(
                str(error),
                error.sqlstate,
                is_operational=isinstance(error, psycopg.OperationalError),
                is_standby=self._is_standby,
            ) from error


@contextlib.contextmanager
def connected(
    address: PostgresAddress, schema: str = "public", lock_timeout_seconds: float = 600.0
) -> Generator[PostgresSession]:
    """Connect, and disconnect at the end of the block.

    Args:
        address: the database.
        schema: the tables'.
        lock_timeout_seconds: how long a statement waits for a lock, until the session sets another limit.

    Yields:
        The connection, with `SESSION_SETTINGS`.

    Raises:
        DestinationBusy: the server is starting, full, or cannot be reached right now.
        DestinationRefused: wrong password, no such host or database, or a pooler that has no sessions: the
            configuration has to be corrected.
    """
    with contextlib.closing(_connect(address)) as connection:
        session = PostgresSession(connection, address)
        with session.transaction():
            [[pid, is_standby, quotes_all, idle_timeout]] = session.rows(
                "SELECT pg_backend_pid(), pg_is_in_recovery(), "
                "current_setting('quote_all_identifiers')::bool, "
                "current_setting('idle_session_timeout', true)"
            )
        if pid != connection.info.backend_pid:
            _require_session_pooling(session, pid, address)
        if quotes_all:
            address = address.with_option("quote_all_identifiers=off")
        session = PostgresSession(connection, address, schema=schema, is_standby=is_standby)
        settings = SESSION_SETTINGS | {"lock_timeout": str(max(1, int(lock_timeout_seconds * 1000)))}
        if idle_timeout is not None:  # servers before Postgres 14 have no such limit
            settings["idle_session_timeout"] = "0"  # this connection idles while others copy
        values = (f"set_config('{key}', '{value}', false)" for key, value in settings.items())
        with session.transaction():
            session.rows(f"SELECT {', '.join(values)}")
        yield session


def _connect(address: PostgresAddress) -> psycopg.Connection:
    try:
        # Prepared statements pay off only when repeated, which these are not.
        return psycopg.connect(address.conninfo(), prepare_threshold=None, cursor_factory=psycopg.RawCursor)
    except psycopg.Error as error:
        raise connection_error(str(error), address) from error


def _require_session_pooling(session: PostgresSession, pid: int, address: PostgresAddress) -> None:
    """Refuse a pooler that lends a process of the server to us for the length of a transaction only.

    Args:
        session: through the pooler, which tells its clients another process id than the server's.
        pid: of the server's process that has just served the session.
        address: the pooler's.
    """
    with contextlib.closing(_connect(address)) as connection:
        served_by = list[int]()
        # Without sessions, a pooler serves a transaction by the process that has been idle longest: another
        # one than before; or by the one that has just become idle: the same for us and for the other.
        for asked in (session, PostgresSession(connection, address)):
            with asked.transaction():
                served_by += asked.rows("SELECT pg_backend_pid()")[0]
    ours, others = served_by
    if ours != pid or others == pid:
        raise DestinationRefused(f"{address} is a pooler in transaction mode; {POOLER_ADVICE}")


def connection_error(message: str, address: PostgresAddress) -> TaxiError:
    """The error to raise when a connection cannot be made.

    Args:
        message: the driver's.
        address: where the connection was to go.

    Returns:
        DestinationBusy if another attempt may succeed, otherwise DestinationRefused.
    """
    reason = " ".join(message.split())
    cause = re.sub('"[^"]*"', "", reason)  # not what stands in a quoted host or database name
    for prefix in ("IO: [libpq] Failed to connect: ", "connection failed: "):
        reason = reason.removeprefix(prefix)
    if PROTOCOL_MESSAGES.search(cause):
        return DestinationRefused(f"no Postgres answers at {address} ({reason}); {PROTOCOL_ADVICE}")
    for messages, advice in (
        (FULL_MESSAGES, FULL_ADVICE),
        (STARTING_MESSAGES, "the server is starting or stopping; run it again once it is up"),
        (UNREACHABLE_MESSAGES, "is the server running?"),
    ):
        if messages.search(cause):
            return DestinationBusy(f"no connection to Postgres at {address} ({reason})", advice)
    return DestinationRefused(
        f"no connection to Postgres at {address} ({reason}); correct TAXI_POSTGRES_URL (host, user, "
        "password, database) or the server, then run it again"
    )


def statement_error(
    message: str, sqlstate: str | None, *, is_operational: bool, is_standby: bool = False, row: str = ""
) -> TaxiError:
    """The error to raise when a statement fails.

    Args:
        message: the driver's.
        sqlstate: None if the server sent none.
        is_operational: the driver raised an OperationalError; without SQLSTATE the connection is lost.
        is_standby: the server only repeats what another one does.
        row: the row that it is about, if any, in words.

    Returns:
        LockNotAvailable or DestinationBusy if another attempt may succeed, otherwise DestinationRefused.
    """
    state, reason = sqlstate or "", _server_message(message)
    if state in LOCK_STATES:
        kind, what = LOCK_STATES[state]
        return kind(f"Postgres: {what} ({reason})", "let the others finish, then run it again")
    if state in {"", "08P01"}:
        if PROTOCOL_MESSAGES.search(reason):
            return DestinationRefused(f"this is not Postgres's protocol ({reason}); {PROTOCOL_ADVICE}")
        if FULL_MESSAGES.search(reason):
            return DestinationBusy(f"Postgres gives no connection ({reason})", FULL_ADVICE)
        if "statement pooling" in reason:
            return DestinationRefused(f"this is a pooler in statement mode ({reason}); {POOLER_ADVICE}")
    if not state and is_operational:
        return DestinationBusy(f"the connection to Postgres broke ({reason}); the month there stays")
    if state.startswith(TRANSIENT_STATES) and state not in PERMANENT_STATES:
        return DestinationBusy(f"Postgres cannot do it now ({reason}, SQLSTATE {state})")
    advice = ADVICE.get(state, "see docs/reference/postgres.md")
    if state == "25006" and is_standby:
        advice = STANDBY_ADVICE
    return DestinationRefused(
        f"Postgres refused{row and f' {row}'}: {reason} (SQLSTATE {state or 'unknown'}); {advice}"
    )


def _server_message(message: str) -> str:
    """The server's own words in a driver's message, without the statement."""
    match = re.search(r"(?:ERROR|FATAL|PANIC):\s+(.*)", message, re.DOTALL)
    lines = (match[1] if match else message).partition("\nQuery was:")[0].split("\n")
    noise = ("LINE ", " ", ". SQLSTATE", "CONTEXT:")
    return " ".join(" ".join(line for line in lines if not line.startswith(noise)).split())
