"""Commands that load months, run as whole processes; see rivals.py and variants.py for the commands."""

from __future__ import annotations

import resource
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
from contents import COLUMNS, in_database
from support.prefect_server import clean_environment

from transforms.datasets import YELLOW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from contents import Contents
    from support.postgres import Database

ROOT = Path(__file__).parents[1]
YEAR = 2021
DUCKDB_TYPES = {column.name: column.type.duckdb for column in YELLOW.columns if column.name in COLUMNS}


@dataclass(frozen=True)
class Job:
    """What a side has to load in one turn.

    Attributes:
        to: `postgres` or `duckdb`.
        months: how many, from January.
        rows: of each month.
        template: the months' URL, with fields as our command takes it.
        directory: new and empty.
        database: new and empty.
    """

    to: str
    months: int
    rows: int
    template: str
    directory: Path
    database: Database

    @property
    def urls(self) -> list[str]:
        return [
            self.template.format(color="yellow", year=YEAR, month=month + 1) for month in range(self.months)
        ]


@dataclass(frozen=True)
class Command:
    """A process to run: in the job's directory, unless it is ours."""

    arguments: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


@dataclass(frozen=True)
class Cost:
    """What a process took: from start to exit, and of the processors."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Side:
    """One way to load months.

    Attributes:
        name: short.
        what: it does, in a few words.
        command: the process for a job.
        ours: whether it is a variant of our command.
        missing: what it lacks on this machine; empty: nothing.
        table: the table in Postgres, or the file and table of DuckDB.
        names: names of columns that the table calls differently; None: only rows can be counted.
        most_rows: that it loads, if it is too slow for all.
    """

    name: str
    what: str
    command: Callable[[Job], Command]
    ours: bool = False
    missing: str = ""
    table: str = "rival"
    names: Callable[[], Mapping[str, str]] | None = dict
    most_rows: int | None = None

    def contents(self, job: Job) -> Contents:
        """Figures about what it has loaded."""
        names = self.names() if self.names else None
        if job.to == "postgres":
            if names is None:
                return {"rows": job.database.rows(f"SELECT count(*) FROM {self.table}")[0]}
            return in_database(job.database.rows, self.table, names)
        file = "warehouse" if self.ours else "rival"
        with duckdb.connect(job.directory / f"{file}.duckdb", read_only=True) as connection:
            return in_database(lambda query: connection.sql(query).fetchall(), self.table, names)


def run(command: Command, directory: Path) -> Cost:
    """Run a process to its end.

    Raises:
        AssertionError: it fails; with its output.
    """
    environment = clean_environment(**command.environment)
    for name in list(environment):
        # As in a usual installation: compiled files are used and written, settings of ours are the defaults.
        if name == "PYTHONDONTWRITEBYTECODE" or (
            name.startswith("TAXI_") and name not in command.environment
        ):
            del environment[name]
    log = directory / "output.log"
    with log.open("w") as lines:
        before, started = _children_cpu_seconds(), time.perf_counter()
        done = subprocess.run(
            command.arguments,
            cwd=command.cwd or directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
            check=False,
        )
        cost = Cost(time.perf_counter() - started, _children_cpu_seconds() - before)
    assert done.returncode == 0, f"{command.arguments}: {log.read_text()[-3000:]}"
    return cost


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def source_contents(job: Job, files: list[Path], rows: int | None = None) -> Contents:
    """Figures about the files themselves, as DuckDB reads them.

    Args:
        job: of the sides.
        files: every month that is served.
        rows: of the first month only.
    """
    names = [str(file) for file in files[: job.months]]
    limit = f" LIMIT {rows}" if rows else ""
    source = f"(FROM read_csv({names}, header = true, columns = {DUCKDB_TYPES}){limit}) AS source"
    with duckdb.connect() as connection:
        return in_database(lambda query: connection.sql(query).fetchall(), source)
