"""The process that copies: kept, never shared, ended with whoever started it, and replaced when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.postgres import PASSWORD
from support.postgres_harness import destination

from flows.destinations.postgres_connection import Address
from flows.destinations.postgres_copy import copier
from flows.errors import DestinationBusy, ReconciliationError
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.destinations import Months
    from support.postgres import Database

MONTH = TripMonth("yellow", 2021, 1)
TABLE = MONTH.dataset.table
LONGEST_WAIT_SECONDS = 20

FORKING = """
import os
from flows.destinations.postgres_copy import copier
with copier() as free, copier() as busy:
    pids = {free.pid, busy.pid}
assert len(pids) == 2
with copier() as busy:
    assert busy.pid in pids
    if not os.fork():
        with copier() as mine:
            assert mine.pid not in pids
        print(mine.pid, flush=True)
        os._exit(0)  # as a process made by a fork ends: nothing is tidied up
    os.wait()
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
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 3
    assert all(ended(pid) for pid in pids)


@needs_proc
def test_one_that_is_killed_costs_an_attempt(postgres: Database, months: Months) -> None:
    staged, target = months.trips(MONTH, 40_000), destination(postgres)
    killed = set[int]()

    def kill(*_: object) -> None:
        if not killed:
            killed.update(copying())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(DestinationBusy, match="was ended by SIGKILL; the month there stays"):
        target.publish(staged, report=kill)
    assert postgres.value(f"SELECT count(*) FROM {TABLE}") == 0
    assert not any(name.endswith("_loading") for name in postgres.tables())
    assert target.publish(staged).status == "published"
    assert postgres.value(f"SELECT count(*) FROM {TABLE}") == staged.rows


def test_what_goes_wrong_in_it_is_said(postgres: Database, months: Months) -> None:
    address = Address.of_url(postgres.url)
    with pytest.raises(DestinationBusy, match=r"failed \(.*no such column"), copier() as one:
        one.copy(address, ("public", TABLE), months.trips(MONTH), ["no such column"], None)


@needs_proc
def test_one_that_is_killed_at_rest_costs_nothing(postgres: Database, months: Months) -> None:
    with copier(), copier():
        at_rest = copying()
    for pid in at_rest:
        os.kill(pid, signal.SIGKILL)
        assert ended(pid)
    assert destination(postgres).publish(months.trips(MONTH)).status == "published"


def copying() -> set[int]:
    """The processes of this one that copy."""
    found = set[int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"postgres_copy" in about(int(path.parent.name), "cmdline"):
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
    assert any(b"postgres_copy" in one for one in seen)
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
    monkeypatch.chdir(tmp_path)
    with copier() as kept:
        pass
    with copier() as kept, copier():
        assert destination(postgres).publish(months.trips(MONTH)).status == "published"
    assert kept.pid


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
