"""Group `as typed`: whole processes from start to exit, ours and what a user would type instead, in turns.

The months come from an HTTP server on this machine, the Postgres is durable and has its default settings, and
every turn is a first load: into a new database or a new file, out of a new data directory.

Each test is one side of a part, such as `postgres-12-psql`. The first test of a part runs the sides that were
selected (`-k`), one after the other, in rounds; every test then shows its side.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inputs import has_real_trips, month_file
from results import Process
from rows import add_row
from support.postgres import DURABLE, Database, wheel_server
from support.prefect_server import clean_environment, free_port, running_server
from whole_processes import (
    DIRECT,
    FIRST,
    MADE,
    NONE,
    OURS,
    PLAIN,
    RIVALS,
    ROOT,
    Cost,
    Job,
    OurSides,
    run,
    source_contents,
    tutorial,
)

from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from contents import Contents
    from pytest_benchmark.fixture import BenchmarkFixture
    from results import Group
    from whole_processes import Side

GROUP = "as typed"
YEAR = 2021
DEFAULT_PREFECT_PORT = 4200
DURABLE_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes")
SHOWN_SETTINGS = ("server_version", *DURABLE_SETTINGS, "shared_buffers", "max_wal_size", "wal_level")
PARTS = {
    ("postgres", 1): ("psql", "dlt", "tutorial", "sling", PLAIN, MADE, NONE, FIRST, DIRECT),
    ("postgres", 3): ("psql", "dlt", PLAIN),
    ("postgres", 12): ("psql", "dlt", PLAIN, DIRECT),
    ("duckdb", 1): ("duckdb", PLAIN, MADE, NONE, FIRST, DIRECT),
    ("duckdb", 3): ("duckdb", PLAIN),
    ("duckdb", 12): ("duckdb", PLAIN, DIRECT),
}
NOTES = [
    "CPU seconds: of the command and what it waits for; without Postgres, a running Prefect server, the web",
    "before each turn the database or file is new and the server has written a checkpoint",
]


@dataclass
class Place:
    """What all turns share; made when it is needed.

    Attributes:
        directory: of the session.
        rows: of a month.
        file: the month to serve instead of real or synthetic ones.
        server: a database of the durable server.
        template: the months' URL.
    """

    directory: Path
    rows: int
    file: Path | None
    server: Database
    template: str
    running: contextlib.ExitStack
    files: list[Path] = field(default_factory=list)
    environments: dict[str, dict[str, str]] = field(default_factory=dict)

    def job(self, to: str, months: int) -> Job:
        """A job in a new directory and, for Postgres, with a new database."""
        directory = self.directory / "turn"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        database = self.server.other(dbname="as_typed")
        if to == "postgres":
            drop = "DROP DATABASE IF EXISTS as_typed WITH (FORCE)"
            self.server.execute(drop, "CREATE DATABASE as_typed", "CHECKPOINT")
        return Job(to, months, self.rows, self.template, directory, database)

    def serve(self, months: int) -> None:
        """Make the files of the first months, unless they are there."""
        for number in range(len(self.files) + 1, months + 1):
            month = TripMonth("yellow", YEAR, number)
            if self.file:
                path = self.directory / "web" / f"{month.stem}.csv.gz"
                path.symlink_to(self.file)
            else:
                path = month_file(self.directory / "web", month, self.rows)
            self.files.append(path)

    def prepare(self, variant: str) -> None:
        """Start the Prefect server of a variant, if it has one, and run the command once.

        Afterwards the database has been migrated, and the server has answered.
        """
        if variant == FIRST or variant in self.environments:
            return
        home = self.directory / _id(variant)
        home.mkdir()
        self.environments[variant] = {"PREFECT_HOME": str(home / "client")}
        if variant in (PLAIN, MADE):
            self.environments[variant]["PREFECT_API_URL"] = f"{self._start_prefect(variant, home)}/api"
        self.serve(1)
        job = self.job("duckdb", 1)
        run(OurSides(self.prefect_environment).command(variant, job), job.directory)

    def prefect_environment(self, variant: str) -> Mapping[str, str]:
        """Prefect's settings for a variant that has been prepared."""
        if variant != FIRST:
            return self.environments[variant]
        home = self.directory / "first"
        shutil.rmtree(home, ignore_errors=True)
        return {"PREFECT_HOME": str(home)}

    def _start_prefect(self, variant: str, home: Path) -> str:
        port = free_port()
        command = (
            [sys.executable, "-m", "prefect", "server", "start"] if variant == PLAIN else ["make", "server"]
        )
        url = f"http://127.0.0.1:{port}"
        environment = clean_environment(PREFECT_HOME=str(home), PREFECT_SERVER_API_PORT=str(port))
        self.running.enter_context(running_server(command, url, environment, home / "server.log", ROOT))
        return url


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Place]:
    directory = tmp_path_factory.mktemp("as-typed")
    (directory / "web").mkdir()
    option = request.config.getoption
    with contextlib.ExitStack() as running:
        server = running.enter_context(_durable_server())
        port = running.enter_context(_web_server(directory / "web"))
        template = f"http://127.0.0.1:{port}/{{color}}_tripdata_{{year}}-{{month:02}}.csv.gz"
        file = option("--file").resolve() if option("--file") else None
        rows = request.getfixturevalue("rows") if file else option("--rows")
        yield Place(directory, rows, file, server, template, running)
        shutil.rmtree(directory)  # pytest would keep it, and twelve months are gigabytes


@contextlib.contextmanager
def _durable_server() -> Generator[Database]:
    """The server that TAXI_TEST_POSTGRES_URL names, if it is durable; otherwise one from the wheel."""
    with contextlib.ExitStack() as stack:
        named = os.environ.get("TAXI_TEST_POSTGRES_URL")
        server = Database(named) if named else None
        if server is None or not _is_durable(server):
            server = stack.enter_context(wheel_server(DURABLE)).database
            # dlt and sling's driver cannot log in with the tests' password.
            server.execute("CREATE ROLE typed SUPERUSER LOGIN PASSWORD 'typed'")
            server = server.other(user="typed", password="typed")
        assert _is_durable(server)
        with server.connect() as kept:
            yield replace(server, kept=kept)


def _is_durable(server: Database) -> bool:
    return all(server.value(f"SHOW {name}") == "on" for name in DURABLE_SETTINGS)


@contextlib.contextmanager
def _web_server(directory: Path) -> Generator[int]:
    call = [sys.executable, str(ROOT / "benchmarks" / "web_server.py"), str(directory)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@dataclass
class Part:
    """The sides of one destination and number of months, run in turns.

    Attributes:
        processes: what was measured, by side.
        contents: what each side has loaded.
        expected: what the files say, for each number of rows that was loaded.
        missing: why a side was not run.
    """

    processes: dict[str, Process]
    contents: dict[str, Contents]
    expected: dict[int, Contents]
    missing: dict[str, str]


@pytest.fixture(scope="module")
def part_of(
    request: pytest.FixtureRequest, place: Place, group: Group, pairs: int
) -> Callable[[str, int], Part]:
    """Returns a part by destination and months; runs its selected sides when it is first asked for."""
    parts: dict[tuple[str, int], Part | None] = {}

    def part(to: str, months: int) -> Part:
        if (to, months) not in parts:
            parts[to, months] = None
            name = re.compile(rf"test_first_load\[{to}-{months}-(.+)\]")
            chosen = {found[1] for item in request.session.items if (found := name.fullmatch(item.name))}
            sides = [_side(side, place) for side in PARTS[to, months] if _id(side) in chosen]
            parts[to, months] = _measure(sides, to, months, place, group, pairs)
        if (measured := parts[to, months]) is None:
            pytest.fail("a side of this part failed, see its first test")
        return measured

    return part


def _id(side: str) -> str:
    return side.replace(" ", "-")


def _measure(sides: list[Side], to: str, months: int, place: Place, group: Group, pairs: int) -> Part:
    missing = {side.name: side.missing for side in sides if side.missing}
    group.notes += [
        note
        for note in (f"left out: {name}: {why}" for name, why in missing.items())
        if note not in group.notes
    ]
    sides = [side for side in sides if not side.missing]
    place.serve(months)
    for side in sides:
        if side.name in OURS:
            place.prepare(side.name)
    rounds: dict[str, list[tuple[Cost, Cost | None]]] = {side.name: [] for side in sides}
    contents: dict[str, Contents] = {}
    # One uncounted turn of each, but of one month only: with more it would take minutes and change nothing.
    warm_up = int(pairs > 1 and months == 1)
    for number in range(warm_up + pairs):
        for side in sides:
            job, start = place.job(to, months), None
            if side.most_rows and side.most_rows < job.rows:
                start = run(tutorial(job, 1), job.directory)
                job = place.job(to, months)
            cost = run(side.command(job), job.directory)
            if number >= warm_up:
                rounds[side.name].append((cost, start))
            if number == warm_up + pairs - 1:
                contents[side.name] = side.contents(job)
    processes = {side.name: _process(side, to, months, place.rows, rounds[side.name]) for side in sides}
    group.processes.extend(processes.values())
    job = place.job("duckdb", months)
    counts = {(process.rows_loaded, process.extrapolated) for process in processes.values()}
    expected = {
        loaded: source_contents(job, place.files, loaded if fewer else None) for loaded, fewer in counts
    }
    return Part(processes, contents, expected, missing)


def _side(name: str, place: Place) -> Side:
    if name not in OURS:
        return next(side for side in RIVALS if side.name == name)
    side = OurSides(place.prefect_environment).side(name)
    if name in (NONE, FIRST) and _answers(DEFAULT_PREFECT_PORT):
        return replace(side, missing="a Prefect server runs at its default address, and would be used")
    return side


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _process(
    side: Side,
    to: str,
    months: int,
    rows: int,
    rounds: list[tuple[Cost, Cost | None]],
    case: str = "first load",
) -> Process:
    return Process(
        side.name,
        side.what,
        side.name in OURS,
        to,
        months,
        case,
        months * rows,
        min(months * rows, side.most_rows or months * rows),
        [round(cost.seconds, 4) for cost, _ in rounds],
        [round(cost.cpu_seconds, 4) for cost, _ in rounds],
        [round(start.seconds, 4) for _, start in rounds if start],
    )


@pytest.fixture(scope="module")
def group(group_of: Callable[[str], Group], place: Place) -> Group:
    """The group's results; the first test that asks for them says what is true of all."""
    group = group_of(GROUP)
    if not place.file:
        group.source = "real" if has_real_trips() else "synthetic"
    group.settings.update({name: place.server.value(f"SHOW {name}") for name in SHOWN_SETTINGS})
    group.notes += NOTES
    return group


@pytest.mark.parametrize(
    ("to", "months", "side"),
    [
        pytest.param(to, months, side, id=f"{to}-{months}-{_id(side)}")
        for (to, months), sides in PARTS.items()
        for side in sides
    ],
)
def test_first_load(
    to: str, months: int, side: str, part_of: Callable[[str, int], Part], benchmark: BenchmarkFixture
) -> None:
    part = part_of(to, months)
    if side in part.missing:
        pytest.skip(part.missing[side])
    measured = part.processes[side]
    _show(benchmark, measured)
    expected, loaded = part.expected[measured.rows_loaded], part.contents[side]
    if set(loaded) == {"rows"}:
        assert loaded["rows"] == (measured.rows,)
    else:
        assert loaded == expected


@pytest.mark.parametrize("variant", [PLAIN, DIRECT])
def test_twelve_months_that_are_unchanged(
    variant: str, place: Place, group: Group, pairs: int, benchmark: BenchmarkFixture
) -> None:
    side = _side(variant, place)
    if side.missing:
        pytest.skip(side.missing)
    place.serve(12)
    place.prepare(variant)
    job = place.job("duckdb", 12)
    run(side.command(job), job.directory)
    again = OurSides(place.prefect_environment).command(variant, job, force=False)
    costs = [run(again, job.directory) for _ in range(pairs)]
    measured = _process(side, "duckdb", 12, place.rows, [(cost, None) for cost in costs], "unchanged")
    group.processes.append(measured)
    _show(benchmark, measured)
    assert (job.directory / "output.log").read_text().count("unchanged") >= 12
    assert side.contents(job) == source_contents(job, place.files)


def _show(benchmark: BenchmarkFixture, measured: Process) -> None:
    fewer = f", {measured.rows_loaded:,} rows" if measured.extrapolated else ""
    together = f"{GROUP}: {measured.months} to {measured.to}, {measured.case}"
    add_row(benchmark, together, measured.side + fewer, measured.seconds, **measured.as_json())
