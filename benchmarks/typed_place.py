"""What the turns of the group `as typed` share: months, a web server, a durable Postgres, Prefect servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inputs import has_real_trips, month_file
from results import Process
from support.postgres import DURABLE, Database, wheel_server
from support.prefect_server import clean_environment, free_port, running_server
from variants import FIRST, MADE, PLAIN, OurSides
from whole_processes import ROOT, YEAR, Job, run

from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from whole_processes import Cost, Side

DURABLE_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes")


def id_of(side: str) -> str:
    """A side's name without blanks."""
    return side.replace(" ", "-")


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
        home = self.directory / id_of(variant)
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
    """What whole commands share: months on a web server, a durable Postgres, Prefect servers."""
    directory = tmp_path_factory.mktemp("as-typed")
    (directory / "web").mkdir()
    option = request.config.getoption
    with contextlib.ExitStack() as running:
        server = running.enter_context(durable_server())
        port = running.enter_context(web_server(directory / "web"))
        template = f"http://127.0.0.1:{port}/{{color}}_tripdata_{{year}}-{{month:02}}.csv.gz"
        file = option("--file").resolve() if option("--file") else None
        rows = request.getfixturevalue("rows") if file else option("--rows")
        yield Place(directory, rows, file, server, template, running)
        shutil.rmtree(directory)  # pytest would keep it, and twelve months are gigabytes


def source_of(place: Place) -> str:
    """Where the rows of the months come from."""
    return place.file.name if place.file else "real" if has_real_trips() else "synthetic"


def measured_process(
    side: Side,
    to: str,
    months: int,
    rows: int,
    rounds: Sequence[tuple[Cost, Cost | None]],
    case: str = "first load",
) -> Process:
    """What a side took in its rounds.

    Args:
        side: that was run.
        to: where it loads.
        months: how many.
        rows: of each.
        rounds: each turn's cost, and that of the same with one row if the side loads only some.
        case: what was measured.
    """
    return Process(
        side.name,
        side.what,
        side.ours,
        to,
        months,
        case,
        months * rows,
        min(months * rows, side.most_rows or months * rows),
        [round(cost.seconds, 4) for cost, _ in rounds],
        [round(cost.cpu_seconds, 4) for cost, _ in rounds],
        [round(start.seconds, 4) for _, start in rounds if start],
        [round(cost.peak_megabytes) for cost, _ in rounds if cost.peak_megabytes],
    )


@contextlib.contextmanager
def durable_server() -> Generator[Database]:
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
def web_server(directory: Path) -> Generator[int]:
    """A web server for the files of a directory; its port."""
    call = [sys.executable, str(ROOT / "benchmarks" / "web_server.py"), str(directory)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
