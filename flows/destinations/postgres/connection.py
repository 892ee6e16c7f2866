"""A connection to Postgres: where it goes, what it may say, and every refusal explained in one line."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import psycopg

from flows.errors import DestinationBusy, DestinationRefused, TaxiError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Self

WAYS_TO_SAY_IT = (
    "postgresql://USER:PASSWORD@HOST:5432/DATABASE (characters such as @ : / ? # % in a password as %40 "
    "%3A %2F %3F %23 %25), postgresql:///DATABASE?host=/var/run/postgresql, or embedded"
)

DEFAULTS = {
    "application_name": "taxi-etl",
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    # A server that has gone without a word is noticed after two minutes instead of two hours.
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "6",
}
# Nobody listens in on loopback: no TLS unless the server insists, no Kerberos encryption. A third faster.
LOOPBACK_DEFAULTS = {"sslmode": "allow", "gssencmode": "disable"}

SESSION_SETTINGS = {
    "DateStyle": "ISO",  # partition bounds are compared as text
    "TimeZone": "UTC",
    "tcp_keepalives_idle": "60",  # a client that is gone frees its locks
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}

IDLE_LIMIT = "idle_session_timeout"

# What the server, or the way to it, says while it is worth trying again. No SQLSTATE comes with a
# connection that fails, see https://www.postgresql.org/docs/current/libpq-status.html.
PASSES = re.compile(
    r"starting up|shutting down|in recovery|not yet accepting|not accepting connections"
    r"|too many (clients|connections)|connection slots are reserved|connection limit exceeded"
    r"|refused|timeout expired|timed out|closed|reset|aborted|unreachable|No route to host"
    r"|No such file or directory|could not (send|receive)|EOF|no connection to the server",
    re.IGNORECASE,
)
LOCKED = {"55P03": "waited too long for a lock", "40P01": "a deadlock was broken"}
PASSING_STATES = ("08", "40", "53", "57P", "55006")
LASTING_STATES = ("08P01", "53100", "57P04", "57P05")
ADVICE = {
    "42501": "grant the right, see docs/postgres.md, Permissions",
    "25006": "the server is read-only, perhaps a standby; name the primary in TAXI_POSTGRES_URL",
    "53100": "make room on the server's disk",
    "57014": "raise statement_timeout for this user",
    "22021": "Postgres cannot store the character \\x00 in text; remove it from the source file",
    "22P05": "the database has another encoding; create one with ENCODING 'UTF8'",
}


class Locked(DestinationBusy):
    """A lock was not free in time, or two waited for each other; nothing of the transaction stays."""


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where a database is, as libpq's keywords.

    Attributes:
        parameters: such as host, port, user, password; see
            https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS.
    """

    parameters: Mapping[str, str] = field(repr=False)

    @classmethod
    def of_url(cls, url: str) -> Self:
        """Read a URL as libpq or SQLAlchemy write it (`postgresql+psycopg2://` means `postgresql://`).

        Raises:
            UsageError: it is none; does not repeat it, because there may be a password in it.
        """
        found = re.fullmatch(r"postgres(?:ql)?(?:\+\w+)?://([^?]*)(?:\?(.*))?", url.strip(), re.DOTALL)
        if not found:
            raise UsageError(f"TAXI_POSTGRES_URL is not a Postgres URL; legal are {WAYS_TO_SAY_IT}")
        # The last @, so that one in the password does no harm.
        login, _, place = found[1].rpartition("@")
        user, _, password = login.partition(":")
        hosts, _, database = place.partition("/")
        named = {"user": user, "password": password, "dbname": database, **_hosts_and_ports(hosts)}
        for pair in filter(None, (found[2] or "").split("&")):
            key, _, value = pair.partition("=")
            named[key] = value
        return cls({key: unquote(value) for key, value in named.items() if value})

    def __str__(self) -> str:
        """What people may read: no password."""
        host = self.parameters.get("host", "local socket")
        return f"{host}:{self.parameters.get('port', '5432')}/{self.parameters.get('dbname', '')}"

    def conninfo(self) -> str:
        """What libpq connects with; holds the password."""
        defaults = DEFAULTS | (LOOPBACK_DEFAULTS if self._is_loopback() else {})
        return " ".join(f"{key}={_escaped(value)}" for key, value in (defaults | {**self.parameters}).items())

    def _is_loopback(self) -> bool:
        hosts = self.parameters.get("hostaddr", self.parameters.get("host", "")).split(",")
        return all(host in {"localhost", "::1"} or host.startswith("127.") for host in hosts)


def _hosts_and_ports(text: str) -> dict[str, str]:
    """`host`, `[v6]:port` or several of them with commas, as libpq's two lists."""
    places = [re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::(\d*))?", place) for place in text.split(",")]
    if not all(places):
        raise UsageError(f"TAXI_POSTGRES_URL names no host and port; legal are {WAYS_TO_SAY_IT}")
    hosts = [place[1] or place[2] or "" for place in places if place]
    ports = [place[3] or "" for place in places if place]
    return {"host": ",".join(hosts).strip(","), "port": ",".join(ports) if any(ports) else ""}


def _escaped(value: str) -> str:
    """A value as conninfo writes it, whatever is in it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class PostgresSession:
    """One connection. A statement belongs to the `transaction` around it."""

    def __init__(self, connection: psycopg.Connection, address: PostgresAddress) -> None:
        """Wrap a connection that is not in autocommit mode."""
        self._connection, self._address = connection, address

    @property
    def address(self) -> PostgresAddress:
        """Where it goes: the one server that was found, and the password that it took."""
        info = self._connection.info
        found = {
            "host": info.host,
            "hostaddr": info.hostaddr,
            "port": str(info.port),
            "password": info.password,
        }
        return PostgresAddress(
            {**self._address.parameters, **{key: value for key, value in found.items() if value}}
        )

    def execute(self, sql: str, *values: object) -> None:
        """Run one statement; `$1` in it is the first value."""
        with _explained(), psycopg.RawCursor(self._connection) as cursor:
            cursor.execute(sql.encode(), values or None)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of one query."""
        with _explained(), psycopg.RawCursor(self._connection) as cursor:
            return cursor.execute(sql.encode(), values or None).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Generator[None]:
        """All of the block, or nothing of it. Not even a SET stays of a block that raises."""
        try:
            yield
            with _explained():
                self._connection.commit()
        except BaseException:
            with contextlib.suppress(psycopg.Error):  # the connection may be gone; the first error matters
                self._connection.rollback()
            raise


@contextlib.contextmanager
def connected(address: PostgresAddress) -> Generator[PostgresSession]:
    """Connect, and disconnect at the end of the block.

    Raises:
        DestinationBusy: the server is starting, full, or cannot be reached right now.
        DestinationRefused: wrong password, no such host or database: somebody has to change something.
    """
    try:
        # What it prepares on the server is of use for statements that come again and again; ours do not.
        connection = psycopg.connect(address.conninfo(), prepare_threshold=None)
    except psycopg.Error as error:
        raise no_connection(str(error), address) from error
    with contextlib.closing(connection):
        session = PostgresSession(connection, address)
        settings = (f"set_config('{key}', '{value}', false)" for key, value in SESSION_SETTINGS.items())
        with session.transaction():
            session.rows(f"SELECT {', '.join(settings)}")
            # While others copy, this one only holds the month. (Older servers know no such limit.)
            session.rows(f"SELECT set_config(name, '0', false) FROM pg_settings WHERE name = '{IDLE_LIMIT}'")
        yield session


def no_connection(said: str, address: PostgresAddress) -> TaxiError:
    """What to raise for a connection that does not come about, by what the driver said."""
    reason = " ".join(said.split())
    for prefix in ("IO: [libpq] Failed to connect: ", "connection failed: "):
        reason = reason.removeprefix(prefix)
    if PASSES.search(re.sub('"[^"]*"', "", reason)):  # not in the name of a host or database
        return DestinationBusy(f"no connection to Postgres at {address} ({reason}); is the server running?")
    return DestinationRefused(
        f"no connection to Postgres at {address} ({reason}); correct TAXI_POSTGRES_URL (host, user, "
        "password, database) or the server, then run it again"
    )


@contextlib.contextmanager
def _explained() -> Generator[None]:
    """Raise what the driver raises as one of ours."""
    try:
        yield
    except psycopg.Error as error:
        lost = isinstance(error, psycopg.OperationalError)
        raise refusal(str(error), error.sqlstate, lost=lost) from error


def refusal(said: str, state: str | None, *, lost: bool) -> TaxiError:
    """What to raise for a statement that fails.

    Args:
        said: what the driver says.
        state: the SQLSTATE; None: the server said nothing.
        lost: without a state, it is the connection that failed.
    """
    state, reason = state or "", _reason(said)
    if state in LOCKED:
        return Locked(f"Postgres: {LOCKED[state]} ({reason}); let the others finish, then run it again")
    if not state and lost:
        return DestinationBusy(f"the connection to Postgres broke ({reason}); the month there stays")
    if state.startswith(PASSING_STATES) and state not in LASTING_STATES:
        return DestinationBusy(f"Postgres cannot do it now ({reason}, SQLSTATE {state})")
    advice = ADVICE.get(state, "see docs/postgres.md")
    return DestinationRefused(f"Postgres refused: {reason} (SQLSTATE {state or 'unknown'}); {advice}")


def _reason(text: str) -> str:
    """The server's own words out of the driver's message, without the statement."""
    said = re.search(r"(?:ERROR|FATAL|PANIC):\s+(.*)", text, re.DOTALL)
    lines = (said[1] if said else text).partition("\nQuery was:")[0].split("\n")
    kept = [line for line in lines if not line.startswith(("LINE ", " ", ". SQLSTATE", "CONTEXT:"))]
    return " ".join(" ".join(kept).split())
