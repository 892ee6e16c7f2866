"""The private server: starts when needed, is shared, stops with the last run, keeps its data."""

from __future__ import annotations

import importlib.util
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support.postgres import Database, as_url, short_lived_directory

from flows.destinations import make_destination
from flows.destinations.postgres.embedded_server import WHEEL, EmbeddedServer, release_servers
from flows.errors import LocalStorageError, UsageError
from flows.settings import Settings
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from support.destinations import Months

    from flows.destinations import Destination

JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
TABLE = JANUARY.dataset.table


def embedded(data_dir: Path) -> Destination:
    return make_destination("postgres", data_dir, Settings(_env_file=None, postgres_url="embedded"))


@pytest.fixture(scope="module")
def data_dir() -> Generator[Path]:
    """A data directory whose server has been made."""
    with short_lived_directory() as directory:
        yield directory
        release_servers()


def _rows(data_dir: Path) -> int:
    address = EmbeddedServer(data_dir / "postgres").address
    return Database(as_url(dict(address.parameters))).value(f"SELECT count(*) FROM {TABLE}")


def test_it_starts_when_needed_and_keeps_its_data(data_dir: Path, months: Months) -> None:
    staged, server = months.trips(JANUARY), EmbeddedServer(data_dir / "postgres")
    target = embedded(data_dir)
    assert list(data_dir.iterdir()) == [], "nothing is made before it is used"

    assert target.publish(staged).status == "published"
    assert server.is_running()
    assert embedded(data_dir).publish(staged).status == "unchanged"
    assert _rows(data_dir) == staged.rows

    release_servers()
    assert not server.is_running()
    assert target.publish(staged).status == "unchanged"
    release_servers()


def test_threads_start_it_once(data_dir: Path) -> None:
    together = threading.Barrier(4, timeout=60)

    def ask(_: int) -> object:
        together.wait()
        return embedded(data_dir).loaded(FEBRUARY)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [None] * 4
    release_servers()
    assert not EmbeddedServer(data_dir / "postgres").is_running()


RUN = """
import pickle, sys
from pathlib import Path
from flows.destinations import make_destination
from flows.settings import Settings
staged = pickle.loads(bytes.fromhex(sys.argv[2]))
target = make_destination("postgres", Path(sys.argv[1]), Settings(_env_file=None, postgres_url="embedded"))
print(target.publish(staged, force=True).rows, flush=True)
sys.stdin.readline()
print(target.loaded(staged.month).row_count, flush=True)
"""


def _run(data_dir: Path, months: Months, month: TripMonth) -> subprocess.Popen[str]:
    staged = pickle.dumps(months.trips(month)).hex()
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(data_dir), staged],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_runs_at_the_same_time_share_it_and_the_last_one_stops_it(data_dir: Path, months: Months) -> None:
    server = EmbeddedServer(data_dir / "postgres")
    with _run(data_dir, months, JANUARY) as first, _run(data_dir, months, FEBRUARY) as second:
        for run in (first, second):
            assert run.stdout
            assert run.stdout.readline() == "50\n"
        assert first.communicate("\n")[0] == "50\n"
        assert first.returncode == 0
        assert server.is_running(), "the second run still uses it"
        assert second.communicate("\n")[0] == "50\n"
        assert second.returncode == 0
    assert not server.is_running()


def test_what_a_killed_run_leaves_running_the_next_one_stops(data_dir: Path, months: Months) -> None:
    server = EmbeddedServer(data_dir / "postgres")
    with _run(data_dir, months, JANUARY) as killed:
        assert killed.stdout
        assert killed.stdout.readline() == "50\n"
        killed.send_signal(signal.SIGKILL)
    assert server.is_running()
    with _run(data_dir, months, JANUARY) as run:
        assert run.communicate("\n")[0] == "50\n50\n"
    assert not server.is_running()


def test_a_server_that_was_killed_starts_again(data_dir: Path, months: Months) -> None:
    embedded(data_dir).publish(months.trips(JANUARY))
    server = EmbeddedServer(data_dir / "postgres")
    server.stop("immediate")
    assert embedded(data_dir).publish(months.trips(JANUARY)).status == "unchanged"
    release_servers()


@pytest.mark.parametrize("name", ["x" * 120, 'a, b\'s "c" $(d)'])
def test_a_directory_in_which_no_socket_can_be(data_dir: Path, months: Months, name: str) -> None:
    elsewhere = data_dir / name
    target = embedded(elsewhere)
    target.publish(months.trips(JANUARY))
    server = EmbeddedServer(elsewhere / "postgres")
    sockets = server.socket_path.parent
    assert sockets != server.directory
    assert sockets.stat().st_mode & 0o077 == 0
    release_servers()
    assert not sockets.exists()
    assert target.publish(months.trips(JANUARY)).status == "unchanged"
    release_servers()


def test_only_its_user_can_reach_it(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir / "postgres")
    server.start()
    assert server.directory.stat().st_mode & 0o077 == 0
    listens = "SELECT current_setting('listen_addresses')"
    assert Database(as_url(dict(server.address.parameters))).value(listens) == ""
    server.stop()


def test_one_that_does_not_start_says_why(data_dir: Path, months: Months) -> None:
    embedded(data_dir).loaded(JANUARY)
    release_servers()
    version = data_dir / "postgres" / "PG_VERSION"
    before = version.read_text()
    try:
        version.write_text("9\n")
        with pytest.raises(LocalStorageError, match=r"does not start .*version") as refused:
            embedded(data_dir).publish(months.trips(JANUARY))
        assert "\n" not in str(refused.value)
    finally:
        version.write_text(before)
    release_servers()


def test_without_the_wheel_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == WHEEL else ...)
    with pytest.raises(UsageError, match=r"extra `embedded`.*pip install 'taxi-etl\[embedded\]'"):
        embedded(tmp_path)
