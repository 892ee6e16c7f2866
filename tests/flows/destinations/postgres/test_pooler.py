"""PgBouncer before the server: in session mode it works, in the others one line says what is needed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from support.postgres import Database, short_lived_directory
from support.postgres_harness import destination

from flows.errors import DestinationRefused
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Generator

    from support.destinations import Months

JANUARY = TripMonth("yellow", 2021, 1)
TABLE = JANUARY.dataset.table
LONGEST_WAIT_SECONDS = 30

CONFIGURATION = """
[databases]
{dbname} = host={host} port={port} user={role} password=pooled
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
server_round_robin = {round_robin}
min_pool_size = 2
"""


@pytest.fixture
def role(postgres: Database) -> Generator[str]:
    """A user whose password PgBouncer's file can spell."""
    name = f"{postgres.parameters['dbname']}_pooled"
    postgres.execute(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD 'pooled'")
    yield name
    postgres.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER", f"DROP ROLE {name}")


@contextlib.contextmanager
def pgbouncer(database: Database, role: str, mode: str, round_robin: int = 0) -> Generator[Database]:
    """PgBouncer before a database."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    there = database.parameters
    if there.get("host", "").startswith("/"):
        pytest.skip("the server is on a Unix socket")
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        port = asking.getsockname()[1]
    with short_lived_directory() as directory:
        directory.chmod(0o755)
        file = directory / "pgbouncer.ini"
        words = {"port": "5432"} | there | {"role": role, "mode": mode}
        file.write_text(CONFIGURATION.format(**words, listen_port=port, round_robin=round_robin))
        owner = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None  # it refuses to run as root
        with subprocess.Popen([program, "-q", file], user=owner) as process:
            try:
                _wait_for(process, port)
                yield database.other(host="127.0.0.1", port=str(port), user=role, password=None)
            finally:
                process.terminate()


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        assert process.poll() is None, "PgBouncer has not started"
        assert time.monotonic() < deadline, "PgBouncer has not started"
        time.sleep(0.02)


def test_session_mode_works(postgres: Database, months: Months, role: str) -> None:
    with pgbouncer(postgres, role, "session") as pooled:
        target = destination(pooled)
        assert target.publish(months.trips(JANUARY, 40_000)).status == "published"
        assert target.publish(months.trips(JANUARY, 80, first=500)).status == "published"
        assert target.publish(months.trips(JANUARY, 80, first=500)).status == "unchanged"
        load = target.loaded(JANUARY)
        assert load is not None
        assert load.row_count == postgres.value(f"SELECT count(*) FROM {TABLE}") == 80


@pytest.mark.parametrize("round_robin", [0, 1])
def test_transaction_mode_is_refused_before_anything_is_done(
    postgres: Database, months: Months, role: str, round_robin: int
) -> None:
    """Its processes would keep the month's lock for whoever they serve next."""
    with pgbouncer(postgres, role, "transaction", round_robin) as pooled:
        for _ in range(3):
            with pytest.raises(
                DestinationRefused, match=r"transaction mode; .*pool_mode = session"
            ) as refused:
                destination(pooled).publish(months.trips(JANUARY))
            assert "\n" not in refused.value.message
        assert postgres.tables() == set()
        assert postgres.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


def test_statement_mode_is_refused(postgres: Database, months: Months, role: str) -> None:
    with (
        pgbouncer(postgres, role, "statement") as pooled,
        pytest.raises(DestinationRefused, match=r"statement mode .*pool_mode = session"),
    ):
        destination(pooled).publish(months.trips(JANUARY))
