"""Commands that load months, run as whole processes; see rivals.py and variants.py for the commands."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import psutil
from contents import COLUMNS, in_database, in_parquet
from pyiceberg.catalog.sql import SqlCatalog
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
        to: `postgres`, `duckdb` or `iceberg`.
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
    """What a process took: from start to exit, of the processors, and of the memory if that was measured."""

    seconds: float
    cpu_seconds: float
    peak_megabytes: float = 0.0


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
        loads: our destination that it loads, if it is not the job's.
    """

    name: str
    what: str
    command: Callable[[Job], Command]
    ours: bool = False
    missing: str = ""
    table: str = "rival"
    names: Callable[[], Mapping[str, str]] | None = dict
    most_rows: int | None = None
    loads: str = ""

    def contents(self, job: Job) -> Contents:
        """Figures about what it has loaded."""
        names = self.names() if self.names else None
        if job.to == "postgres":
            if names is None:
                return {"rows": job.database.rows(f"SELECT count(*) FROM {self.table}")[0]}
            return in_database(job.database.rows, self.table, names)
        if (self.loads or job.to) == "iceberg":
            return in_parquet(_data_files(job.directory / "iceberg", self.table))
        file = "warehouse" if self.ours or self.loads else "rival"
        with duckdb.connect(job.directory / f"{file}.duckdb", read_only=True) as connection:
            return in_database(lambda query: connection.sql(query).fetchall(), self.table, names)


def _data_files(directory: Path, table: str) -> list[str]:
    """What pyiceberg would read of a table in the catalog of a data directory."""
    catalog = SqlCatalog("local", uri=f"sqlite:///{directory / 'catalog.db'}", warehouse=directory.as_uri())
    tasks = catalog.load_table(("taxi", table)).scan().plan_files()
    return [task.file.file_path.removeprefix("file://") for task in tasks]


def run(command: Command, directory: Path, *, measure_memory: bool = False) -> Cost:
    """Run a process to its end.

    Args:
        command: the process.
        directory: of the job; its output goes there.
        measure_memory: ask for its memory all the time, which takes some.

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
        with subprocess.Popen(
            command.arguments,
            cwd=command.cwd or directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
        ) as process:
            peak = _peak_megabytes(process) if measure_memory else 0.0
        cost = Cost(time.perf_counter() - started, _children_cpu_seconds() - before, peak)
    assert process.returncode == 0, f"{command.arguments}: {log.read_text()[-3000:]}"
    return cost


def _peak_megabytes(process: subprocess.Popen[bytes]) -> float:
    """The most that a process and its children have in memory together until it ends."""
    most = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):  # one of them has just ended
            parent = psutil.Process(process.pid)
            together = [parent, *parent.children(recursive=True)]
            # PSS: what processes share counts once.
            most = max(most, sum(one.memory_full_info().pss for one in together))
        time.sleep(0.05)
    return most / 2**20


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
