"""The program that serves Prefect's API: its database, its locks, its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sqlite3
import subprocess
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import prefect
import pytest
from support.prefect_schema import migrated_database, schema_of
from support.prefect_server import clean_environment

from flows.cli.serve_api import SCHEMA, create_database, prepare_database, revision_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_SECONDS = 120
PROGRAM = Path(__file__).parents[3] / "flows" / "cli" / "serve_api.py"

pytestmark = pytest.mark.xdist_group("servers of our own")


@contextlib.contextmanager
def temporary_server(home: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A temporary server, started as the command line does it: its port and its process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-P", PROGRAM, "--temporary", str(listening.fileno())],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            env=clean_environment(PREFECT_HOME=str(home)),
        )
    with process:
        yield port, process
        process.kill()


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_SECONDS)
    with contextlib.closing(connection):
        content = json.dumps(body) if body is not None else None
        connection.request(method, f"/api{path}", content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def url_of(database: Path) -> str:
    return f"sqlite+aiosqlite:///{database}"


def objects(database: Path) -> dict[tuple[str, str], list[str]]:
    """Tables and indexes: columns in their order, all else, which migrations write in any order, sorted."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT type, name, coalesce(sql, tbl_name) FROM sqlite_master").fetchall()
        columns = {
            name: connection.execute(f"PRAGMA table_xinfo('{name}')").fetchall() for _, name, _ in rows
        }
    return {
        (kind, name): [
            str(columns[name]),
            *sorted(line.strip().removesuffix(",") for line in sql.splitlines()),
        ]
        for kind, name, sql in rows
    }


def test_the_shipped_tables_are_those_of_the_migrations(tmp_path: Path) -> None:
    """Red after a change of Prefect's version; `make schema` writes the file again."""
    migrated = migrated_database(tmp_path / "home")
    ours = tmp_path / "ours.db"
    create_database(ours, SCHEMA.read_text(encoding="utf-8"))
    assert schema_of(migrated).partition("\n")[0] == SCHEMA.read_text(encoding="utf-8").partition("\n")[0]
    assert objects(ours) == objects(migrated)
    assert len(objects(ours)) > 100
    assert revision_of(ours) == revision_of(migrated)


def test_a_new_database_needs_no_migration_and_one_that_is_there_is_kept(tmp_path: Path) -> None:
    database = tmp_path / "new" / "home" / "prefect.db"
    assert prepare_database(url_of(database), prefect.__version__)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO flow (name) VALUES ('kept')")
    assert prepare_database(url_of(database), prefect.__version__)
    create_database(database, SCHEMA.read_text(encoding="utf-8"))  # as a process that was slower would
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT name FROM flow").fetchall() == [("kept",)]
    assert not list(database.parent.glob("*.part"))


def test_processes_that_create_the_database_at_the_same_time_agree(tmp_path: Path) -> None:
    database, schema = tmp_path / "prefect.db", SCHEMA.read_text(encoding="utf-8")
    code = f"""
import pathlib, runpy
ours, database = runpy.run_path({str(PROGRAM)!r}), pathlib.Path({str(database)!r})
input()
ours["create_database"](database, ours["SCHEMA"].read_text(encoding="utf-8"))
print(ours["revision_of"](database))
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    revisions = {process.communicate()[0].strip() for process in processes}
    assert len(revisions) == 1
    assert revisions.pop() in schema.partition("\n")[0]
    assert [path.name for path in tmp_path.iterdir()] == ["prefect.db"]


def test_garbage_is_not_collected_by_a_thread_that_others_wait_for(tmp_path: Path) -> None:
    code = f"""
import gc, runpy, sqlite3, threading, time
gc.disable()  # as `main` does
ours = runpy.run_path({str(PROGRAM)!r})
writer, waiting = (sqlite3.connect("x.db", timeout=10, check_same_thread=False) for _ in range(2))
with writer:
    writer.execute("CREATE TABLE t (x)")
ours["collect_garbage_apart"]()

def insert():
    with waiting:
        waiting.execute("INSERT INTO t VALUES (1)")

cycle = [waiting.execute("VALUES (1), (2)")]  # a cursor that only the garbage collector finds
cycle.append(cycle)
writer.execute("BEGIN IMMEDIATE")
thread = threading.Thread(target=insert)
thread.start()
time.sleep(0.5)  # now it waits for the lock
del cycle
garbage = [[] for _ in range(20_000)]  # a collection is due: by this thread, it would wait for the other
time.sleep(2)
writer.commit()
thread.join()
print(writer.execute("SELECT count(*) FROM t").fetchone())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(1,)", done.stderr


@pytest.mark.parametrize("kind", ["an older revision", "no tables", "of another version", "in memory"])
def test_prefect_migrates_what_is_not_of_its_version(kind: str, tmp_path: Path) -> None:
    database = tmp_path / "prefect.db"
    if kind == "an older revision":
        create_database(database, SCHEMA.read_text(encoding="utf-8"))
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = 'older'")
    elif kind == "no tables":
        database.touch()
    version = "0.1" if kind == "of another version" else prefect.__version__
    url = "sqlite+aiosqlite:///:memory:" if kind == "in memory" else url_of(database)
    assert not prepare_database(url, version)


def test_a_server_migrates_an_older_database(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").touch()  # as old as can be
    with temporary_server(tmp_path) as (port, _):
        assert ask(port, "GET", "/health") == (200, b"true")
        assert revision_of(tmp_path / "prefect.db") in SCHEMA.read_text(encoding="utf-8").partition("\n")[0]


def test_writes_that_meet_are_never_refused(tmp_path: Path) -> None:
    """With Prefect's own transactions most of these requests are answered with 503."""
    with temporary_server(tmp_path) as (port, _):
        status, answer = ask(port, "POST", "/flows/", {"name": "writes"})
        assert status == 201
        flow = {"flow_id": json.loads(answer)["id"]}

        def write(number: int) -> int:
            if number % 2:
                return ask(port, "POST", "/flow_runs/", flow)[0]
            key = {"task_key": "key", "dynamic_key": str(uuid.uuid4())}
            return ask(port, "POST", "/task_runs/", key | {"state": {"type": "PENDING"}})[0]

        with ThreadPoolExecutor(8) as pool:
            assert Counter(pool.map(write, range(80))) == {201: 80}


def test_a_temporary_server_ends_with_its_standard_input(tmp_path: Path) -> None:
    with temporary_server(tmp_path) as (port, process):
        assert ask(port, "GET", "/health") == (200, b"true")
        _, said = process.communicate(timeout=LONGEST_SECONDS)  # closes standard input
        assert (process.returncode, said) == (0, b"")
    with contextlib.closing(sqlite3.connect(tmp_path / "prefect.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_server_with_the_ui_listens_where_prefect_says_until_ctrl_c(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = clean_environment(PREFECT_HOME=str(tmp_path), PREFECT_SERVER_API_PORT=str(port))
    log = tmp_path / "log"
    with (
        log.open("wb") as lines,
        subprocess.Popen([sys.executable, "-P", PROGRAM], env=environment, stderr=lines) as process,
    ):
        while process.poll() is None:
            with contextlib.suppress(OSError):
                assert ask(port, "GET", "/health") == (200, b"true")
                break
        assert ask(port, "GET", "/admin/version")[1] == json.dumps(prefect.__version__).encode()
        process.send_signal(2)
        assert process.wait(LONGEST_SECONDS) == 0
    assert f"http://127.0.0.1:{port}" in log.read_text()
    assert "Traceback" not in log.read_text()
