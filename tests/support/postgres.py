"""A real Postgres for tests: the one `TAXI_TEST_POSTGRES_URL` names, else one from the wheel.

Each test gets an empty database. Tests that kill or restart a server get one from the wheel in any
case.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from adbc_driver_postgresql import dbapi

from flows.destinations.postgres.address import PostgresAddress
from flows.destinations.postgres.embedded_server import WHEEL, EmbeddedServer
from transforms.dimensions import dimensions

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import pyarrow as pa

QUICK = {"fsync": "off", "scram_iterations": "1"}
"""For tests, which need no data after a loss of power."""

DURABLE = {"shared_buffers": "128MB", "max_wal_size": "1GB", "wal_level": "replica", "max_wal_senders": "10"}
"""PostgreSQL's own defaults for what `EmbeddedServer` and these tests would set otherwise."""

PASSWORD = "p@ss/w:rd #1%? &=+'\\ü"
"""Everything that has a meaning in a URL or a conninfo."""


@dataclass(frozen=True)
class Database:
    """One database, and ways past the code under test.

    Attributes:
        url: as a user would write it, password included.
        kept: a connection to use; None: a new one for each question.
    """

    url: str
    kept: psycopg.Connection | None = None

    @property
    def parameters(self) -> dict[str, str]:
        return dict(PostgresAddress.of_url(self.url).parameters)

    def other(self, **changes: str | None) -> Database:
        """The same place with other user, password, host, port or dbname."""
        return Database(as_url(self.parameters | changes))

    def connect(self, *, autocommit: bool = True) -> contextlib.closing[psycopg.Connection]:
        """A connection, for `with`."""
        conninfo = PostgresAddress.of_url(self.url).conninfo()
        return contextlib.closing(psycopg.connect(conninfo, autocommit=autocommit))

    def _connected(self) -> contextlib.AbstractContextManager[psycopg.Connection]:
        return contextlib.nullcontext(self.kept) if self.kept else self.connect()

    def execute(self, *statements: str) -> None:
        with self._connected() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._connected() as connection:
            return connection.execute(query.encode()).fetchall()

    def value(self, query: str) -> Any:  # noqa: ANN401 - whatever it asks for
        [[found]] = self.rows(query)
        return found

    def table(self, query: str) -> pa.Table:
        conninfo = PostgresAddress.of_url(self.url).conninfo()
        with dbapi.connect(conninfo, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetch_arrow_table()

    def tables(self) -> set[str]:
        """Every table in `public`, partitions too, without dimension tables."""
        found = self.rows(
            "SELECT relname::text FROM pg_class "
            "WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        )
        return {name for (name,) in found} - {dimension.name for dimension in dimensions()}

    def clients(self) -> int:
        """How many connections the code under test has."""
        return self.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'taxi-etl' AND pid <> pg_backend_pid()"
        )


def as_url(parameters: dict[str, str | None]) -> str:
    """The URL of libpq parameters."""
    there = {name: quote(value, safe="") for name, value in parameters.items() if value}
    login = there.pop("user", "") + (f":{there.pop('password')}" if "password" in there else "")
    database = there.pop("dbname", "")
    host, port = parameters.get("host") or "", there.pop("port", "")
    there.pop("host", "")
    if host.startswith("/"):
        there["host"], host = quote(host, safe=""), ""
    place = f"[{host}]" if ":" in host else host
    rest = "&".join(f"{name}={value}" for name, value in there.items())
    return f"postgresql://{login and login + '@'}{place}{port and ':' + port}/{database}{rest and '?' + rest}"


class WheelServer:
    """A server from the wheel on a TCP port, with a password.

    Attributes:
        embedded: its processes and files.
        database: its first database.
        hosts: where it listens.
    """

    def __init__(self, directory: Path, more: Mapping[str, str]) -> None:
        self.hosts = ["127.0.0.1", *(["::1"] if _has_ipv6() else [])]
        port = str(_free_port())
        settings = {"listen_addresses": ",".join(self.hosts), "port": port, "wal_level": "replica"}
        self.embedded = EmbeddedServer(directory / "data", settings | dict(more))
        self.embedded.start()
        self.local = Database(as_url(dict(self.embedded.address.parameters)))
        self._demand_passwords()
        self.database = self.local.other(host="127.0.0.1", password=PASSWORD)

    def kill(self) -> None:
        """Every process of it ends at once and writes nothing, as if the machine had lost its power."""
        lock_file = self.embedded.directory / "postmaster.pid"
        os.kill(int(lock_file.read_text().split()[0]), signal.SIGQUIT)
        while lock_file.exists():
            time.sleep(0.01)

    def _demand_passwords(self) -> None:
        quoted = PASSWORD.replace("'", "''")
        self.local.execute(f"ALTER USER postgres PASSWORD '{quoted}'")
        rules = ["local all all trust", "host all all all scram-sha-256"]
        (self.embedded.directory / "pg_hba.conf").write_text("\n".join([*rules, ""]))
        assert self.local.value("SELECT pg_reload_conf()")


def _free_port() -> int:
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        return asking.getsockname()[1]


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as asking:
        asking.bind(("::1", 0))
        return True
    return False


@contextlib.contextmanager
def short_lived_directory() -> Generator[Path]:
    """Not below pytest's own, which another user (as root, the server's) may not enter."""
    directory = Path(tempfile.mkdtemp(prefix="taxi-test-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def wheel_server(settings: Mapping[str, str] = QUICK) -> Generator[WheelServer]:
    """A server from the wheel, for as long as the block."""
    if importlib.util.find_spec(WHEEL) is None:
        pytest.skip("set TAXI_TEST_POSTGRES_URL, or install the extra `embedded`")
    with short_lived_directory() as directory:
        server = WheelServer(directory, settings)
        try:
            yield server
        finally:
            server.embedded.stop("immediate")


@pytest.fixture(scope="session")
def postgres_server() -> Generator[Database]:
    """A database from which others can be made."""
    if url := os.environ.get("TAXI_TEST_POSTGRES_URL"):
        yield Database(url)
        return
    with wheel_server() as server:
        yield server.database


@pytest.fixture(scope="session")
def _database(postgres_server: Database) -> Generator[Database]:
    name = f"taxi_test_{os.getpid()}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    made = postgres_server.other(dbname=name)
    with made.connect() as connection:
        yield replace(made, kept=connection)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres(_database: Database) -> Generator[Database]:
    """An empty database. (One that is emptied, because making one takes a quarter of a second.)"""
    yield _database
    _database.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    _database.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")


@pytest.fixture(scope="module")
def own_server() -> Generator[WheelServer]:
    """A server that a test may stop and kill; it has to start it again."""
    with wheel_server() as server:
        yield server


@pytest.fixture(scope="module")
def own_durable_server() -> Generator[WheelServer]:
    """The same with PostgreSQL's own defaults: it forgets nothing that it has committed."""
    with wheel_server(DURABLE) as server:
        yield server
