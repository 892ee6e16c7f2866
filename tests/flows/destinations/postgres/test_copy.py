"""The process that copies: kept, never shared, ended with whoever started it, and replaced when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import adbc_driver_postgresql
import pytest
from support.postgres import PASSWORD
from support.postgres_harness import destination

from flows.destinations.postgres.address import PostgresAddress
from flows.destinations.postgres.connection import PostgresSession, connected
from flows.destinations.postgres.copier import Copier, CopyTarget, copier
from flows.errors import DestinationBusy, DestinationRefused, LocalStorageError, ReconciliationError
from flows.settings import override_settings
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.destinations import Months
    from support.postgres import Database

MONTH = TripMonth("yellow", 2021, 1)
TABLE = MONTH.dataset.table
LONGEST_WAIT_SECONDS = 20

FORKING = """
import os, pathlib, socket, threading
from types import SimpleNamespace
from flows.destinations.postgres.address import PostgresAddress
from flows.destinations.postgres.copier import CopyTarget, copier
with copier() as free, copier() as busy:
    pids = {free.pid, busy.pid}
assert len(pids) == 2
silent = socket.create_server(("127.0.0.1", 0))
nowhere = SimpleNamespace(address=PostgresAddress.of_url(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x"))
month = SimpleNamespace(path=pathlib.Path("x"), rows=1)
with copier() as busy:
    assert busy.pid in pids
    arguments = nowhere, CopyTarget("public", "x", 1, []), month, None
    threading.Thread(target=busy.copy, args=arguments, daemon=True).start()
    silent.accept()  # it has its request and waits, and so does the thread for its answer
    reading, writing = os.pipe()
    if not os.fork():
        with copier() as mine:
            assert mine.pid not in pids
        print(os.getpid(), mine.pid, flush=True)
        os.write(writing, b".")
        threading.Event().wait()
    os.read(reading, 1)
    print(*pids, flush=True)
    os.kill(os.getpid(), 9)
"""


def ended(pid: int) -> bool:
    """The process is gone, or will be as soon as somebody looks."""
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@needs_proc
def test_one_is_kept_and_never_shared_and_ends_with_its_process() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        fork, of_the_fork, *pids = [int(pid) for _ in range(2) for pid in process.stdout.readline().split()]
        assert process.wait(LONGEST_WAIT_SECONDS) == -signal.SIGKILL
        assert len(pids) == 2
        assert all(ended(pid) for pid in pids)
        assert not Path(f"/proc/{of_the_fork}/stat").read_text().rpartition(")")[2].startswith(" Z")
        os.kill(fork, signal.SIGKILL)
        assert ended(of_the_fork)


@pytest.mark.parametrize("words", ["throwing an instance of 'std::logic_error'", "recursively"])
def test_a_driver_that_aborts_says_that_the_connection_broke(
    postgres: Database, months: Months, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str
) -> None:
    aborting = tmp_path / "aborting.py"  # as libstdc++ does for one broken connection, and for two at once
    aborting.write_text(f'import os\nos.write(2, b"terminate called {words}")\nos.abort()\n')
    monkeypatch.setattr(f"{Copier.__module__}.PROGRAM", aborting)
    with (
        contextlib.closing(Copier()) as process,
        connected(PostgresAddress.of_url(postgres.url)) as session,
        pytest.raises(DestinationBusy, match="connection to Postgres broke"),
    ):
        process.copy(session, CopyTarget("public", "x", 1, []), months.trips(MONTH, 1), None)


@needs_proc
def test_one_that_is_killed_costs_an_attempt(postgres: Database, months: Months) -> None:
    staged, target = months.trips(MONTH, 40_000), destination(postgres)
    killed = set[int]()

    def kill(*_: object) -> None:
        if not killed:
            killed.update(copying())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(DestinationBusy, match=r"was ended \(Killed\); the month there stays"):
        target.publish(staged, report=kill)
    assert postgres.value(f"SELECT count(*) FROM {TABLE}") == 0
    assert not any(name.endswith("_loading") for name in postgres.tables())
    assert target.publish(staged).status == "published"
    assert postgres.value(f"SELECT count(*) FROM {TABLE}") == staged.rows


def a_table(postgres: Database) -> CopyTarget:
    postgres.execute(f"CREATE TABLE {TABLE} (trip_distance double precision)")
    return CopyTarget("public", TABLE, postgres.value(f"SELECT '{TABLE}'::regclass::oid::bigint"), [])


def test_what_goes_wrong_in_it_is_said_and_not_tried_again(postgres: Database, months: Months) -> None:
    target = replace(a_table(postgres), columns=["no such column"])
    with (
        connected(PostgresAddress.of_url(postgres.url)) as session,
        pytest.raises(DestinationRefused, match=r"failed \(.*no such column"),
        copier() as one,
    ):
        one.copy(session, target, months.trips(MONTH), None)


@pytest.mark.parametrize("taken", [False, True])
def test_nothing_stays_in_a_table_that_has_taken_the_place_of_its_own(
    postgres: Database, months: Months, taken: bool
) -> None:
    """The run's own session may end before the copy begins, and another run make the table anew."""
    target = replace(a_table(postgres), columns=["trip_distance"])
    target = replace(target, oid=target.oid + taken)
    refused = pytest.raises(DestinationBusy, match="another run has begun the same month")
    with (
        connected(PostgresAddress.of_url(postgres.url)) as session,
        refused if taken else contextlib.nullcontext(),
        copier() as one,
    ):
        one.copy(session, target, months.trips(MONTH, 40_000), None)
    assert postgres.value(f"SELECT count(*) FROM {TABLE}") == (0 if taken else 40_000)


def test_a_table_of_somebody_else_is_left_alone(postgres: Database, months: Months) -> None:
    theirs = f"{TABLE}_2021_01_loading"
    postgres.execute(f"CREATE TABLE {theirs} AS SELECT 1 AS one")
    with pytest.raises(DestinationRefused, match="already exists"):
        destination(postgres).publish(months.trips(MONTH))
    assert postgres.value(f"SELECT one FROM {theirs}") == 1


def test_interrupted_the_copy_ends_before_its_table_is_dropped(
    postgres: Database, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the DROP waits until the whole month is there."""
    done: list[str] = []
    close, execute = Copier.close, PostgresSession.execute

    def closed(self: Copier) -> None:
        close(self)
        done.append("ended")

    def executed(self: PostgresSession, sql: str, *values: object) -> None:
        execute(self, sql, *values)
        done.extend(["dropped"] * sql.startswith("DROP"))

    def interrupt(*_: object) -> None:
        monkeypatch.setattr(Copier, "close", closed)
        monkeypatch.setattr(PostgresSession, "execute", executed)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        destination(postgres).publish(months.trips(MONTH, 40_000), report=interrupt)
    assert done == ["ended", "dropped"]
    assert not any(name.endswith("_loading") for name in postgres.tables())


@needs_proc
def test_what_it_says_on_the_side_never_stops_it() -> None:
    with copier() as one:
        assert not str(Path(f"/proc/{one.pid}/fd/2").readlink()).startswith("pipe:")


def test_a_server_that_ends_idle_sessions_lets_the_month_be_held(postgres: Database, months: Months) -> None:
    name = postgres.parameters["dbname"]
    paused: list[int] = []

    def pause(done: int, _: int | None) -> None:
        if not paused:
            paused.append(done)
            time.sleep(0.5)

    postgres.execute(f"ALTER DATABASE {name} SET idle_session_timeout = '100ms'")
    try:
        assert destination(postgres).publish(months.trips(MONTH), report=pause).status == "published"
    finally:
        postgres.execute(f"ALTER DATABASE {name} RESET idle_session_timeout")
    assert paused


def test_both_go_to_the_same_server(postgres: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    there = postgres.parameters
    if there.get("host", "").startswith("/"):
        pytest.skip("the server is on a Unix socket")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ports = f"{closed.getsockname()[1]},{there['port']}"
        two = there | {"host": f"127.0.0.1,{there['host']}", "port": ports}
        monkeypatch.setenv("PGPASSWORD", two.pop("password", ""))
        with connected(PostgresAddress(two)) as session:
            found = session.address.parameters
    assert (found["host"], found["port"]) == (there["host"], there["port"])
    assert found.get("password") == there.get("password")


@needs_proc
def test_one_that_is_killed_at_rest_costs_nothing(postgres: Database, months: Months) -> None:
    with copier(), copier():
        at_rest = copying()
    for pid in at_rest:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # with all its threads
    assert destination(postgres).publish(months.trips(MONTH)).status == "published"


def copying() -> set[int]:
    """The processes of this one that copy."""
    found = set[int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"copy_process" in about(int(path.parent.name), "cmdline"):
                found.add(int(path.parent.name))
    return found


def about(pid: int, what: str) -> bytes:
    return Path(f"/proc/{pid}/{what}").read_bytes()


@needs_proc
def test_the_password_is_in_no_command_line_and_no_environment(postgres: Database, months: Months) -> None:
    seen: list[bytes] = []

    def look(*_: object) -> None:
        for pid in copying():
            seen.extend(about(pid, what) for what in ("cmdline", "environ"))

    destination(postgres).publish(months.trips(MONTH, 20_000), report=look)
    assert any(b"copy_process" in one for one in seen)
    secret = postgres.parameters.get("password", PASSWORD).encode()
    assert not any(secret in one for one in seen)


def test_one_connection_does_if_the_server_gives_no_more(postgres: Database, months: Months) -> None:
    postgres.execute(
        "DROP ROLE IF EXISTS frugal",
        "CREATE ROLE frugal LOGIN PASSWORD 'frugal' CONNECTION LIMIT 2",
        "GRANT ALL ON SCHEMA public TO frugal",
    )
    staged = months.trips(MONTH, 40_000)
    seen = set[int]()
    theirs = postgres.other(user="frugal", password="frugal")
    receipt = destination(theirs).publish(staged, report=lambda *_: seen.add(postgres.clients()))
    assert receipt.status == "published"
    assert max(seen) == 2
    assert postgres.value(f"SELECT count(*) FROM {TABLE}") == staged.rows
    postgres.execute("DROP OWNED BY frugal", "DROP ROLE frugal")


def test_a_file_in_the_working_directory_takes_no_librarys_place(
    postgres: Database, months: Months, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyarrow.py").write_text("raise SystemExit('not the library')")
    target = replace(a_table(postgres), columns=["trip_distance"])
    monkeypatch.chdir(tmp_path)
    one = Copier()
    with contextlib.closing(one), connected(PostgresAddress.of_url(postgres.url)) as session:
        assert one.copy(session, target, months.trips(MONTH), None) == 50


@pytest.mark.parametrize("lost_rows", [0, 1])
def test_a_server_that_does_not_count_is_counted_out(
    postgres: Database, months: Months, lost_rows: int
) -> None:
    staged = months.trips(MONTH)
    said = replace(staged, rows=staged.rows + lost_rows, source_rows=staged.source_rows + lost_rows)
    postgres.execute(f"ALTER DATABASE {postgres.parameters['dbname']} SET track_counts = off")
    try:
        if lost_rows:
            with pytest.raises(ReconciliationError, match="51 rows staged, 50 counted"):
                destination(postgres).publish(said)
        else:
            assert destination(postgres).publish(said).rows == staged.rows
    finally:
        postgres.execute(f"ALTER DATABASE {postgres.parameters['dbname']} RESET track_counts")


def driver_library() -> str:
    """The library of the installed wheel, which stands for another build of the driver."""
    [library] = Path(adbc_driver_postgresql.__file__).parent.glob("libadbc_driver_postgresql.*")
    return str(library)


@needs_proc
def test_another_build_of_the_driver_copies_in_this_process(postgres: Database, months: Months) -> None:
    staged, seen = months.trips(MONTH, 40_000), list[set[int]]()
    before = copying()
    with override_settings(adbc_postgresql_driver=driver_library()):
        receipt = destination(postgres).publish(staged, report=lambda *_: seen.append(copying()))
    assert (receipt.status, receipt.rows) == ("published", staged.rows)
    assert postgres.value(f"SELECT count(*) FROM {TABLE}") == staged.rows
    assert len(seen) > 1
    assert all(pids <= before for pids in seen)
    assert "libadbc_driver_postgresql" in Path("/proc/self/maps").read_text()


def test_the_errors_of_another_build_are_the_same(postgres: Database, months: Months) -> None:
    target = replace(a_table(postgres), columns=["trip_distance"])
    with (
        override_settings(adbc_postgresql_driver=driver_library()),
        connected(PostgresAddress.of_url(postgres.url)) as session,
        copier() as one,
    ):
        with pytest.raises(DestinationBusy, match="another run has begun the same month"):
            one.copy(session, replace(target, oid=1), months.trips(MONTH), None)
        with pytest.raises(LocalStorageError, match="cannot be read"):
            one.copy(session, target, replace(months.trips(MONTH), path=Path("missing")), None)


def test_a_run_that_is_stopped_ends_the_copy_in_its_own_process(postgres: Database, months: Months) -> None:
    class Stopped(Exception):
        """What the progress of a stopped run raises."""

    def stop(rows: int, _: int | None) -> None:
        if rows > 20_000:
            raise Stopped

    staged, target = months.trips(MONTH, 40_000), destination(postgres)
    with override_settings(adbc_postgresql_driver=driver_library()):
        with pytest.raises(Stopped):
            target.publish(staged, report=stop)
        assert postgres.value(f"SELECT count(*) FROM {TABLE}") == 0
        assert target.publish(staged).status == "published"


def test_a_build_that_does_not_exist_is_one_clear_line(postgres: Database, months: Months) -> None:
    with (
        override_settings(adbc_postgresql_driver="/no/such/driver.so"),
        pytest.raises(
            DestinationRefused, match=r"TAXI_ADBC_POSTGRESQL_DRIVER .*/no/such/driver\.so"
        ) as raised,
    ):
        destination(postgres).publish(months.trips(MONTH))
    assert "\n" not in raised.value.message
