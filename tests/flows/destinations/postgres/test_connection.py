"""From a URL to a connection, and every way in which none comes about."""

from __future__ import annotations

import socketserver
import threading
import traceback
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from pydantic import SecretStr
from support.postgres import PASSWORD, Database
from support.postgres_harness import destination

from flows.destinations import make_destination
from flows.destinations.postgres.address import PostgresAddress
from flows.destinations.postgres.connection import (
    DeadlockBroken,
    LockNotAvailable,
    connected,
    connection_error,
    statement_error,
)
from flows.errors import DestinationBusy, DestinationRefused, TaxiError, Terminal, Transient, UsageError
from flows.settings import Settings
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from support.destinations import Months
    from support.postgres import WheelServer

JANUARY = TripMonth("yellow", 2021, 1)


# URLs


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        (
            "postgresql://me:secret@db.example.com:5433/ny_taxi",
            {
                "user": "me",
                "password": "secret",
                "host": "db.example.com",
                "port": "5433",
                "dbname": "ny_taxi",
            },
        ),
        ("postgres://me@h", {"user": "me", "host": "h"}),
        ("postgresql+psycopg2://me@h/d", {"user": "me", "host": "h", "dbname": "d"}),
        (
            "postgresql://me:p%40s%2Fs%3A%25%20+%C3%BC@h/d",
            {"user": "me", "password": "p@s/s:% +ü", "host": "h", "dbname": "d"},
        ),
        ("postgresql://me:p@s:s@h/d", {"user": "me", "password": "p@s:s", "host": "h", "dbname": "d"}),
        ("postgresql://me@[::1]:5433/d", {"user": "me", "host": "::1", "port": "5433", "dbname": "d"}),
        ("postgresql:///d?host=/var/run/postgresql", {"host": "/var/run/postgresql", "dbname": "d"}),
        ("postgresql://me@%2Fvar%2Frun/d", {"user": "me", "host": "/var/run", "dbname": "d"}),
        ("postgresql://h?sslmode=require&x=a%26b", {"host": "h", "sslmode": "require", "x": "a&b"}),
        ("postgresql://a:1,b:2,[::1]/d", {"host": "a,b,::1", "port": "1,2,", "dbname": "d"}),
        ("postgresql://", {}),
        (" postgresql://h/two%20words \n", {"host": "h", "dbname": "two words"}),
    ],
)
def test_a_url_is_read(url: str, parameters: dict[str, str]) -> None:
    assert PostgresAddress.of_url(url).parameters == parameters


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:hush@h/d",
        "me:hush@h/d",
        "host=h password=hush",
        "embeded",
        "postgresql://me:hush@h:port/d",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError, match=r"TAXI_POSTGRES_URL.*legal are postgresql://") as refused:
        PostgresAddress.of_url(url)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("postgresql://localhost/d", ("allow", "disable")),
        ("postgresql://127.0.0.1/d", ("allow", "disable")),
        ("postgresql://[::1]/d", ("allow", "disable")),
        ("postgresql://localhost,127.0.0.2/d", ("allow", "disable")),
        ("postgresql://localhost/d?sslmode=verify-full", ("verify-full", "disable")),
        ("postgresql://localhost/d?gssencmode=require", ("allow", "require")),
        ("postgresql://localhost,db.example.com/d", (None, None)),
        ("postgresql://db.example.com/d", (None, None)),
        ("postgresql:///d", (None, None)),
        ("postgresql://db.example.com/d?hostaddr=127.0.0.1", ("allow", "disable")),
    ],
)
def test_encryption_is_left_out_on_loopback_only(url: str, options: tuple[str | None, str | None]) -> None:
    words = dict(pair.split("=") for pair in PostgresAddress.of_url(url).conninfo().split())
    found = [words.get(name) for name in ("sslmode", "gssencmode")]
    assert found == list(options)


def test_an_address_does_not_show_its_password() -> None:
    address = PostgresAddress.of_url("postgresql://me:hush@h:1/d")
    assert "hush" in address.conninfo()
    assert "hush" not in f"{address} {address!r} {address!s}"
    assert str(address) == "h:1/d"


# Settings


@pytest.mark.parametrize("url", [None, "", "  "])
def test_no_url_lists_every_place_that_was_tried(tmp_path: Path, url: str | None) -> None:
    with pytest.raises(UsageError) as refused:
        make_destination("postgres", tmp_path, Settings(_env_file=None, postgres_url=url))
    for place in ("TAXI_POSTGRES_URL", ".env", "postgres-connector", "embedded"):
        assert place in refused.value.message


def test_the_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAXI_POSTGRES_URL", "mysql://hush")
    settings = Settings(_env_file=None)
    assert "hush" not in repr(settings)
    with pytest.raises(UsageError, match="not a Postgres URL"):
        make_destination("postgres", tmp_path, settings)


def test_the_url_comes_from_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("TAXI_POSTGRES_URL=postgresql://h/d\n")
    assert Settings().postgres_url == SecretStr("postgresql://h/d")


# Connections that come about


def test_every_way_to_a_server(own_server: WheelServer) -> None:
    own_server.embedded.start()
    ways = [own_server.local, *(own_server.database.other(host=host) for host in own_server.hosts)]
    for way in ways:
        with connected(PostgresAddress.of_url(way.url)) as session, session.transaction():
            asked = "SELECT current_user::text, current_setting('client_encoding'), inet_server_addr()::text"
            [[user, encoding, host]] = session.rows(asked)
        assert (user, encoding) == ("postgres", "UTF8")
        assert (host or "").split("/")[0] == ("" if way is own_server.local else way.parameters["host"])


# Connections that do not


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"password": "hush-hush"}, DestinationRefused, "password authentication failed"),
        ({"user": "nobody"}, DestinationRefused, "authentication failed"),
        ({"dbname": "reset"}, DestinationRefused, 'database "reset" does not exist'),
        ({"host": "no-such-host.invalid"}, DestinationRefused, "no-such-host.invalid"),
        ({"sslmode": "require"}, DestinationRefused, "does not support SSL"),
        ({"nonsense": "1"}, DestinationRefused, 'invalid connection option "nonsense"'),
        ({"port": "1"}, DestinationBusy, "Connection refused"),
        ({"host": "/nowhere"}, DestinationBusy, "No such file"),
    ],
    ids=lambda value: "" if isinstance(value, type | str) else next(iter(value)),
)
def test_one_line_that_says_what_is_wrong(
    own_server: WheelServer, months: Months, changes: dict[str, str], kind: type[TaxiError], says: str
) -> None:
    own_server.embedded.start()
    database = own_server.database.other(**changes)
    with pytest.raises(kind) as refused:
        destination(database).publish(months.trips(JANUARY))
    assert says in refused.value.message
    _assert_discreet(refused.value, database)
    with pytest.raises(kind):
        destination(database).loaded(JANUARY)


def _assert_discreet(error: TaxiError, database: Database) -> None:
    assert "\n" not in str(error)
    password = database.parameters["password"]
    everything = "".join(traceback.format_exception(error)) + repr(error)
    assert password not in everything
    assert quote(password, safe="") not in everything


def test_no_right_to_create(own_server: WheelServer, months: Months) -> None:
    own_server.embedded.start()
    own_server.local.execute(
        "DROP DATABASE IF EXISTS fenced",
        "DROP ROLE IF EXISTS fenced",
        f"CREATE ROLE fenced LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'",
        "CREATE DATABASE fenced",
    )
    fenced = own_server.database.other(user="fenced", dbname="fenced")
    with pytest.raises(
        DestinationRefused, match=r"permission denied for schema public.*42501.*Permissions"
    ) as no:
        destination(fenced).publish(months.trips(JANUARY))
    _assert_discreet(no.value, fenced)
    assert fenced.tables() == set()

    own_server.local.other(dbname="fenced").execute("GRANT CREATE ON SCHEMA public TO fenced")
    assert destination(fenced).publish(months.trips(JANUARY)).status == "published"

    own_server.local.execute("ALTER ROLE fenced SET default_transaction_read_only = on")
    with pytest.raises(DestinationRefused, match=r"25006.*set to read only \(default_trans"):
        destination(fenced).publish(months.trips(JANUARY, 80, first=500))

    own_server.local.execute("ALTER ROLE fenced CONNECTION LIMIT 0")
    with pytest.raises(DestinationBusy, match=r"too many connections.*every connection it allows is taken"):
        destination(fenced).loaded(JANUARY)


def test_a_standby_and_a_role_that_only_reads_get_different_advice() -> None:
    said = "cannot execute CREATE TABLE in a read-only transaction"
    advice = {
        is_standby: statement_error(said, "25006", is_operational=False, is_standby=is_standby).message
        for is_standby in (True, False)
    }
    assert "standby; name the primary" in advice[True]
    assert "standby" not in advice[False]
    assert "default_transaction_read_only" in advice[False]


def test_a_standby_is_recognised(own_server: WheelServer, months: Months) -> None:
    signal_file = own_server.embedded.directory / "standby.signal"
    own_server.embedded.stop()
    try:
        signal_file.touch()
        own_server.embedded.start()
        with pytest.raises(DestinationRefused, match="is a standby; name the primary"):
            destination(own_server.database).publish(months.trips(JANUARY))
    finally:
        own_server.embedded.stop()
        signal_file.unlink()
        own_server.embedded.start()


class _Web(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(10_000)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_what_does_not_speak_the_protocol_is_not_tried_again(months: Months) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), _Web) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        database = Database(f"postgresql://me@127.0.0.1:{web.server_address[1]}/d")
        with pytest.raises(DestinationRefused, match=r"no Postgres answers at .*name host and port"):
            destination(database).publish(months.trips(JANUARY))
        web.shutdown()


@pytest.mark.parametrize(
    ("said", "state", "kind", "advice"),
    [
        ("lost synchronization with server: got message type", None, DestinationRefused, "protocol"),
        (
            'message contents do not agree with length in message type "D"',
            None,
            DestinationRefused,
            "protocol",
        ),
        ("invalid frontend message type 88", "08P01", DestinationRefused, "protocol"),
        ("query_wait_timeout", "08P01", DestinationBusy, "connection it allows is taken"),
        ("server closed the connection unexpectedly", None, DestinationBusy, "connection to Postgres broke"),
    ],
)
def test_a_protocol_error_is_not_a_connection_that_broke(
    said: str, state: str | None, kind: type[TaxiError], advice: str
) -> None:
    made = statement_error(said, state, is_operational=True)
    assert type(made) is kind
    assert advice in made.message


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("FATAL:  too many connections for role taxi", "every connection it allows is taken"),
        ("FATAL:  sorry, too many clients already", "every connection it allows is taken"),
        ("FATAL:  connection limit exceeded for non-superusers", "every connection it allows is taken"),
        ("FATAL:  remaining connection slots are reserved for roles", "every connection it allows is taken"),
        ("::1: Connection refused, 127.0.0.1: FATAL:  too many connections for role", "every connection it"),
        ("FATAL:  the database system is starting up", "starting or stopping"),
        ("Connection refused", "is the server running?"),
    ],
)
def test_the_advice_fits_the_reason(said: str, advice: str) -> None:
    made = connection_error(f"connection failed: {said}\n", PostgresAddress.of_url("postgresql://me@h/d"))
    assert advice in made.message
    assert ("is the server running" in made.message) == (said == "Connection refused")


# The schema


@pytest.mark.parametrize("schema", ["etl", 'My "own"'])
def test_everything_is_in_the_schema_that_the_settings_name(
    postgres: Database, months: Months, tmp_path: Path, schema: str
) -> None:
    settings = Settings(_env_file=None, postgres_url=postgres.url, postgres_schema=schema)
    target = make_destination("postgres", tmp_path, settings)
    usual = destination(postgres)
    usual.publish(months.trips(JANUARY))
    name = '"' + schema.replace('"', '""') + '"'
    try:
        target.publish(months.trips(JANUARY, 40_000))
        target.publish(months.trips(JANUARY, 80, first=500, new=["tip_jar"]))
        assert target.publish(months.trips(JANUARY, 80, first=500, new=["tip_jar"])).status == "unchanged"
        assert [holding.rows for holding in target.holdings(JANUARY.dataset)] == [80]
        assert postgres.value(f"SELECT count(*) FROM {name}.{JANUARY.dataset.table}") == 80
        assert postgres.value(f"SELECT row_count FROM {name}.taxi_loads") == 80
        assert [holding.rows for holding in usual.holdings(JANUARY.dataset)] == [50]
    finally:
        postgres.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


def test_a_schema_that_may_not_be_created(own_server: WheelServer, months: Months) -> None:
    own_server.embedded.start()
    own_server.local.execute(
        "DROP DATABASE IF EXISTS walled",
        "DROP ROLE IF EXISTS walled",
        f"CREATE ROLE walled LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'",
        "CREATE DATABASE walled",
    )
    walled = own_server.database.other(user="walled", dbname="walled")
    with pytest.raises(DestinationRefused, match=r"permission denied for database walled.*Permissions"):
        destination(walled, schema="etl").publish(months.trips(JANUARY))
    own_server.local.other(dbname="walled").execute("CREATE SCHEMA etl AUTHORIZATION walled")
    assert destination(walled, schema="etl").publish(months.trips(JANUARY)).status == "published"


def test_a_search_path_in_the_url_is_not_ignored_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for url, warns in (("?options=-csearch_path%3Detl", True), ("?options=-cwork_mem%3D1MB", False)):
        caplog.clear()
        settings = Settings(_env_file=None, postgres_url=f"postgresql://me@h/d{url}")
        make_destination("postgres", tmp_path, settings)
        assert ("set with TAXI_POSTGRES_SCHEMA" in caplog.text) is warns


# What is worth another attempt


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("FATAL:  the database system is starting up", Transient),
        ("FATAL:  the database system is shutting down", Transient),
        ("FATAL:  the database system is not yet accepting connections", Transient),
        ("FATAL:  the database system is in recovery mode", Transient),
        ("FATAL:  sorry, too many clients already", Transient),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", Transient),
        ("Connection refused\n\tIs the server running on that host?", Transient),
        ("timeout expired", Transient),
        ("server closed the connection unexpectedly\n\tThis probably means ...", Transient),
        ('could not translate host name "closed.refused" to address: Name or service not known', Terminal),
        ('FATAL:  password authentication failed for user "reset"', Terminal),
        ('FATAL:  no pg_hba.conf entry for host "::1", user "me", database "d", no encryption', Terminal),
        ('root certificate file "/home/me/.postgresql/root.crt" does not exist', Terminal),
    ],
)
def test_a_connection_that_fails(said: str, kind: type[TaxiError]) -> None:
    for prefix in ("IO: [libpq] Failed to connect: ", "connection failed: "):
        made = connection_error(f"{prefix}{said}\n", PostgresAddress.of_url("postgresql://me:hush@h/d"))
        assert isinstance(made, kind)
        assert "\n" not in made.message
        assert prefix not in made.message


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("55P03", LockNotAvailable),
        ("40P01", DeadlockBroken),
        ("40001", DestinationBusy),
        ("08006", DestinationBusy),
        ("53300", DestinationBusy),
        ("57P01", DestinationBusy),
        ("57P03", DestinationBusy),
        (None, DestinationBusy),
        ("53100", DestinationRefused),
        ("08P01", DestinationRefused),
        ("57P04", DestinationRefused),
        ("42501", DestinationRefused),
        ("57014", DestinationRefused),
        ("XX000", DestinationRefused),
    ],
)
def test_a_statement_that_fails(state: str | None, kind: type[TaxiError]) -> None:
    said = "it went wrong\nDETAIL:  here\nLINE 1: SELECT\n               ^\n"
    by_adbc = f"IO: [libpq] Failed to execute query: could not begin COPY: ERROR:  {said}Query was: SELECT 1"
    for message in (said, by_adbc):
        made = statement_error(message, state, is_operational=True)
        assert type(made) is kind
        assert "it went wrong DETAIL: here" in made.message
        assert "SELECT" not in made.message
