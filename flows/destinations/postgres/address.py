"""Where a Postgres database is, and how libpq is told to connect to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

from psycopg.conninfo import make_conninfo

from flows.errors import UsageError

LEGAL_URLS = (
    "postgresql://USER:PASSWORD@HOST:5432/DATABASE (characters such as @ : / ? # % in a password as %40 "
    "%3A %2F %3F %23 %25), postgresql:///DATABASE?host=/var/run/postgresql, or embedded"
)

DEFAULTS = {
    "application_name": "taxi-etl",
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    # A server that vanished is noticed after two minutes instead of two hours.
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "6",
}
# Loopback traffic cannot be intercepted: without encryption, loading takes a third less time.
LOOPBACK_DEFAULTS = {"sslmode": "allow", "gssencmode": "disable"}


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """The address of a database, without the password in its `str` and `repr`.

    Attributes:
        parameters: libpq's keywords, such as host, port, user, password; see
            https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS.
    """

    parameters: Mapping[str, str] = field(repr=False)

    @classmethod
    def of_url(cls, url: str) -> Self:
        """Parse a URL as libpq or SQLAlchemy write it (`postgresql+psycopg2://` means `postgresql://`).

        Args:
            url: such as `postgresql://me:secret@localhost:5432/ny_taxi`.

        Returns:
            The address; parameters unknown to libpq are kept, and refused when connecting.

        Raises:
            UsageError: not a Postgres URL; the message does not repeat it, because it may hold a password.
        """
        match = re.fullmatch(r"postgres(?:ql)?(?:\+\w+)?://([^?]*)(?:\?(.*))?", url.strip(), re.DOTALL)
        if not match:
            raise UsageError(f"TAXI_POSTGRES_URL is not a Postgres URL; legal are {LEGAL_URLS}")
        # Split at the last @, because an unescaped password may contain others.
        login, _, location = match[1].rpartition("@")
        user, _, password = login.partition(":")
        hosts, _, database = location.partition("/")
        parameters = {"user": user, "password": password, "dbname": database, **_hosts_and_ports(hosts)}
        for pair in filter(None, (match[2] or "").split("&")):
            key, _, value = pair.partition("=")
            parameters[key] = value
        return cls({key: unquote(value) for key, value in parameters.items() if value})

    def with_option(self, setting: str) -> Self:
        """The same address, whose connections begin with a setting of the server.

        Connections of ADBC need some from the beginning, because the driver reads `pg_type` before anyone can
        set them. Poolers refuse such options, so they are used only where they are needed.

        Args:
            setting: such as `quote_all_identifiers=off`.
        """
        options = f"{self.parameters.get('options', '')} -c {setting}".strip()
        return type(self)({**self.parameters, "options": options})

    def __str__(self) -> str:
        """`host:port/database`, for people."""
        host = self.parameters.get("host", "local socket")
        return f"{host}:{self.parameters.get('port', '5432')}/{self.parameters.get('dbname', '')}"

    def conninfo(self) -> str:
        """The connection string for libpq, password included, completed with this program's defaults.

        Raises:
            psycopg.ProgrammingError: libpq does not know a parameter.
        """
        hosts = self.parameters.get("hostaddr", self.parameters.get("host", "")).split(",")
        is_loopback = all(host in {"localhost", "::1"} or host.startswith("127.") for host in hosts)
        defaults = DEFAULTS | (LOOPBACK_DEFAULTS if is_loopback else {})
        return make_conninfo(**(defaults | {**self.parameters}))


def _hosts_and_ports(text: str) -> dict[str, str]:
    """The lists `host` and `port` of libpq, for `host`, `[v6]:port`, or several of them with commas."""
    matches = [re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::(\d*))?", part) for part in text.split(",")]
    if not all(matches):
        raise UsageError(f"TAXI_POSTGRES_URL names no host and port; legal are {LEGAL_URLS}")
    hosts = [match[1] or match[2] or "" for match in matches if match]
    ports = [match[3] or "" for match in matches if match]
    return {"host": ",".join(hosts).strip(","), "port": ",".join(ports) if any(ports) else ""}
