"""Whatever breaks, one whole month stays, and the next run repairs the rest."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from typing import TYPE_CHECKING, Self

import pytest
from support.destinations import Apart, assert_holds
from support.postgres_harness import MOMENTS, PostgresHarness, destination, die_at
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from flows.destinations import LEDGER, REJECTS
from flows.destinations.postgres.loading_table import LOADING_COMMENT
from flows.destinations.postgres.tables import lock_key
from flows.errors import DestinationBusy, Transient
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.destinations import Months
    from support.postgres import Database, WheelServer

    from flows.staging import StagedMonth

pytestmark = pytest.mark.xdist_group("a Postgres that is killed")

JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
TABLE = JANUARY.dataset.table
MONTH = f"{TABLE}_2021_01"
LOADING = f"{MONTH}_loading"


# The process is killed


@pytest.mark.parametrize("had_before", [True, False], ids=["replacing", "its first month"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_killed_around_the_swap(
    harness: PostgresHarness, postgres: Database, months: Months, moment: str, had_before: bool
) -> None:
    old, other = months.trips(JANUARY), months.trips(FEBRUARY)
    new = months.trips(JANUARY, 80, first=500)
    there = [old, other] if had_before else [other]
    for staged in there:
        harness.make().publish(staged)

    with Apart(die_at, harness.place, new, moment) as process:
        assert process.wait() == -signal.SIGKILL
    harness.settle()

    swapped = moment == "after the swap"
    load = harness.make().loaded(JANUARY)
    assert (load and load.source_sha256) == (
        new.source_sha256 if swapped else old.source_sha256 if had_before else None
    )
    assert (LOADING in postgres.tables()) is not swapped

    assert harness.make().publish(new).status == ("unchanged" if swapped else "published")
    assert_holds(harness, new, other)
    assert postgres.tables() == {TABLE, MONTH, f"{TABLE}_2021_02", LEDGER, REJECTS}


def test_the_next_run_removes_what_others_left_and_nothing_else(
    harness: PostgresHarness, postgres: Database, months: Months
) -> None:
    with Apart(die_at, harness.place, months.trips(JANUARY), "before the swap") as process:
        process.wait()
    harness.settle()
    under_way, lookalike, unnamed = f"{TABLE}_2021_03_loading", f"{TABLE}_2021_04_loading", "my_loading"
    postgres.execute(
        f"CREATE TABLE {under_way} ()",
        f"COMMENT ON TABLE {under_way} IS '{LOADING_COMMENT}'",
        f"CREATE TABLE {lookalike} ()",
        f"CREATE TABLE {unnamed} ()",
        f"COMMENT ON TABLE {unnamed} IS '{LOADING_COMMENT}'",
    )
    assert LOADING in postgres.tables()
    with postgres.connect() as connection, connection.cursor() as holder:
        holder.execute(f"SELECT pg_advisory_lock({lock_key(under_way)})")
        holder.fetchall()
        harness.make().publish(months.trips(FEBRUARY))
        theirs = {under_way, lookalike, unnamed}
        assert postgres.tables() == {TABLE, f"{TABLE}_2021_02", LEDGER, REJECTS, *theirs}
    while postgres.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"):
        pass
    assert harness.make().publish(months.trips(FEBRUARY)).status == "unchanged"
    assert postgres.tables() == {TABLE, f"{TABLE}_2021_02", LEDGER, REJECTS, lookalike, unnamed}


# The connection is cut


class CutOff:
    """A way to the server that breaks when the client has sent certain words, and then so many bytes.

    Attributes:
        port: where it listens.
        happened: it broke.
    """

    def __init__(self, server: dict[str, str], *after: bytes, more_bytes: int = 0) -> None:
        self._server, self._after, self._more_bytes = server, after, more_bytes
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.happened = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, self._connect() as server:
            back = threading.Thread(target=self._forward, args=(server, client))
            back.start()
            with contextlib.suppress(OSError):
                self._forward_until_cut(client, server)
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join()

    def _forward_until_cut(self, client: socket.socket, server: socket.socket) -> None:
        words, tail, left = [*self._after], b"", self._more_bytes
        while sent := client.recv(65_536):
            if not words:
                left -= len(sent)
            elif words[0] in tail + sent:
                words.pop(0)
            cut = not words and left <= 0
            if cut:
                self.happened = True
                client.shutdown(socket.SHUT_RDWR)  # first, because the answer may be quick
            server.sendall(sent)
            if cut:
                return
            tail = sent[-100:]

    def _forward(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while answer := server.recv(65_536):
                client.sendall(answer)

    def _connect(self) -> socket.socket:
        host, port = self._server.get("host", "localhost"), self._server.get("port", "5432")
        if not host.startswith("/"):
            return socket.create_connection((host, int(port)))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server


def _publish_through(way: CutOff, database: Database, staged: StagedMonth) -> None:
    through = database.other(host="127.0.0.1", port=str(way.port))
    with pytest.raises(DestinationBusy, match="connection to Postgres broke") as broken:
        destination(through).publish(staged)
    assert way.happened
    assert "\n" not in str(broken.value)


@pytest.mark.parametrize(
    ("after", "more_bytes"),
    [(b'COPY "public"', 0), (b'COPY "public"', 1_000_000), (b"LOCK TABLE ONLY", 0), (b"ATTACH PARTITION", 0)],
    ids=["before the first row", "among the rows", "before the swap", "before the commit"],
)
def test_a_connection_that_is_cut(
    harness: PostgresHarness, postgres: Database, months: Months, after: bytes, more_bytes: int
) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 30_000, first=500)
    harness.make().publish(old)
    with CutOff(postgres.parameters, after, more_bytes=more_bytes) as way:
        _publish_through(way, postgres, new)
    harness.settle()
    load = harness.make().loaded(JANUARY)
    assert load is not None
    assert load.source_sha256 == old.source_sha256
    assert postgres.value(f"SELECT count(*) FROM {TABLE}") == old.rows

    assert harness.make().publish(new).status == "published"
    assert_holds(harness, new)
    assert postgres.tables() == {TABLE, MONTH, LEDGER, REJECTS}


def test_a_connection_that_is_cut_before_the_commit_is_answered(
    harness: PostgresHarness, postgres: Database, months: Months
) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    harness.make().publish(old)
    with CutOff(postgres.parameters, b"ATTACH PARTITION", b"COMMIT") as way:
        _publish_through(way, postgres, new)
    harness.settle()
    assert_holds(harness, new)
    assert harness.make().publish(new).status == "unchanged"


# The server is killed, or starts again


@pytest.fixture
def killable(own_server: WheelServer) -> Database:
    """An empty database on a server of our own."""
    own_server.embedded.start()
    own_server.local.execute("DROP DATABASE IF EXISTS victim WITH (FORCE)", "CREATE DATABASE victim")
    return own_server.database.other(dbname="victim")


def test_a_killed_server(own_server: WheelServer, killable: Database, months: Months) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 40_000, first=500)
    target = destination(killable)
    target.publish(old)
    loaded = target.loaded(JANUARY)

    def kill(done: int, _: int | None) -> None:
        if 0 < done < new.rows and own_server.embedded.is_running():
            own_server.kill()

    with pytest.raises(DestinationBusy, match="connection to Postgres broke"):
        target.publish(new, report=kill)
    with pytest.raises(DestinationBusy, match="no connection to Postgres"):
        target.loaded(JANUARY)

    own_server.embedded.start()
    assert target.loaded(JANUARY) == loaded
    assert killable.tables() == {TABLE, MONTH, LOADING, LEDGER, REJECTS}
    assert killable.value(f"SELECT count(*) FROM {TABLE}") == old.rows
    assert target.publish(new).status == "published"
    assert killable.value(f"SELECT count(*) FROM {TABLE}") == new.rows
    assert killable.tables() == {TABLE, MONTH, LEDGER, REJECTS}


def test_a_server_that_starts_again_is_tried_again(
    own_server: WheelServer, killable: Database, months: Months
) -> None:
    own_server.kill()
    starting = threading.Timer(0.5, own_server.embedded.start)
    starting.start()
    errors: list[BaseException | None] = []
    attempts = Retrying(
        retry=retry_if_exception_type(Transient),
        wait=wait_fixed(0.1),
        stop=stop_after_delay(60),
        before_sleep=lambda state: errors.append(state.outcome and state.outcome.exception()),
    )
    assert attempts(destination(killable).publish, months.trips(JANUARY)).status == "published"
    starting.join()
    assert errors
    assert all(isinstance(error, DestinationBusy) for error in errors)


def test_attaching_a_month_looks_at_no_row(
    own_server: WheelServer, killable: Database, months: Months
) -> None:
    killable.execute("ALTER DATABASE victim SET log_min_messages = 'debug1'")
    for first in (0, 500):
        destination(killable).publish(months.trips(JANUARY, first=first))
    log = own_server.embedded.log.read_text()
    said = [line for line in log.splitlines() if f'partition constraint for table "{MONTH}"' in line]
    assert len(said) == 2
    assert all(line.endswith("is implied by existing constraints") for line in said), said
