"""Sides of the group `as typed`: commands that load months, ours and other tools', as somebody types them."""

from __future__ import annotations

import importlib.util
import json
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
from contents import COLUMNS, in_database
from loading import conninfo, dlt_names, new_table, sling_program
from support.prefect_server import clean_environment

from transforms.datasets import YELLOW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from contents import Contents
    from support.postgres import Database

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(__file__).with_name("scripts")
TUTORIAL_ROWS = 100_000  # one chunk; all rows would take minutes
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
            self.template.format(color="yellow", year=2021, month=month + 1) for month in range(self.months)
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
        missing: what it lacks on this machine; empty: nothing.
        table: the table in Postgres, or the file and table of DuckDB.
        names: names of columns that the table calls differently; None: only rows can be counted.
        most_rows: that it loads, if it is too slow for all.
    """

    name: str
    what: str
    command: Callable[[Job], Command]
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
        file = "warehouse" if self.name in OURS else "rival"
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


# --- rivals ---

PSQL = """
set -euo pipefail
psql -qc "$CREATE" "$DATABASE"
for url in "$@"; do
    curl -sf "$url" | gunzip | psql -qc '\\copy rival FROM STDIN WITH (FORMAT csv, HEADER true)' "$DATABASE"
done
"""


def _psql(job: Job) -> Command:
    login = {"DATABASE": conninfo(job.database), "CREATE": new_table("rival", COLUMNS)[1]}
    return Command(["bash", "-c", PSQL, "bash", *job.urls], login)


def tutorial(job: Job, rows: int = TUTORIAL_ROWS) -> Command:
    """The script for so many rows of the first month."""
    login = {"DATABASE": job.database.url}
    return Command(
        [sys.executable, str(SCRIPTS / "tutorial.py"), job.urls[0], str(min(rows, job.rows))], login
    )


def _dlt(job: Job) -> Command:
    types = YELLOW.arrow_schema(())
    quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    environment = quiet | {
        "DATABASE": job.database.url,
        "COLUMNS": json.dumps({name: str(types.field(name).type) for name in COLUMNS}),
        "DLT_DATA_DIR": str(job.directory / "dlt-home"),
    }
    return Command([sys.executable, str(SCRIPTS / "with_dlt.py"), *job.urls], environment)


def _sling(job: Job) -> Command:
    [url] = job.urls
    file = (job.directory / "month.csv.gz").as_uri()
    call = [str(sling_program()), "run", "--src-stream", file, "--tgt-conn", "TARGET"]
    call += ["--tgt-object", "public.rival", "--mode", "full-refresh"]
    environment = {
        "TARGET": f"{job.database.url}?sslmode=disable",
        "SLING_DISABLE_TELEMETRY": "TRUE",
        "SLING_HOME_DIR": str(job.directory / "sling"),
    }
    return Command(["bash", "-c", 'curl -sfo month.csv.gz "$0" && "$@"', url, *call], environment)


def _duckdb(job: Job) -> Command:
    return Command(
        [sys.executable, str(SCRIPTS / "with_duckdb.py"), *job.urls], {"COLUMNS": json.dumps(DUCKDB_TYPES)}
    )


def _missing(*programs: str) -> str:
    return ", ".join(f"the program {name}" for name in programs if not shutil.which(name))


def _missing_package(name: str) -> str:
    return "" if importlib.util.find_spec(name) else f"{name}: install the dependency group `peers`"


RIVALS = (
    Side("psql", "curl | gunzip | psql \\copy, month after month", _psql, _missing("bash", "curl", "psql")),
    Side(
        "tutorial",
        "the tutorial's script: curl, read_csv and to_sql in chunks of 100,000 rows",
        tutorial,
        _missing("curl") or _missing_package("psycopg2"),
        most_rows=TUTORIAL_ROWS,
    ),
    Side(
        "dlt",
        "a dlt script: pyarrow's CSV reader, Parquet, dlt's ADBC loader",
        _dlt,
        _missing_package("dlt"),
        table="rival.trips",
        names=lambda: dlt_names(),
    ),
    Side(
        "sling",
        "curl, then sling run, full-refresh",
        _sling,
        _missing("bash", "curl") if sling_program() else "sling: install the dependency group `peers`",
        names=None,
    ),
    Side("duckdb", "a DuckDB script: create table, insert from read_csv(...gz)", _duckdb),
)

# --- ours ---

PLAIN, MADE, NONE, FIRST, DIRECT = "plain server", "make server", "no server", "first run ever", "direct"
OURS = {
    PLAIN: "flows/parent.py; `prefect server start` runs",
    MADE: "flows/parent.py; `make server` runs",
    NONE: "flows/parent.py without a server",
    FIRST: "flows/parent.py without a server, the first run of Prefect ever",
    DIRECT: "flows/parent.py --runner direct",
}


@cache
def _help() -> str:
    call = [sys.executable, "flows/parent.py", "--help"]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True)
class OurSides:
    """The variants of our command.

    Attributes:
        prefect_environment: returns the settings of Prefect for a variant, by its name.
    """

    prefect_environment: Callable[[str], Mapping[str, str]]

    def side(self, name: str) -> Side:
        """A variant by its name."""
        missing = ""
        if name == DIRECT and "direct" not in _help():
            missing = "--runner direct is not a choice of flows/parent.py"
        if name == MADE:
            missing = _missing("make")

        def command(job: Job) -> Command:
            return self.command(name, job)

        return Side(name, OURS[name], command, missing, "yellow_taxi_trips")

    def command(self, name: str, job: Job, *, force: bool = True) -> Command:
        """The command of a variant.

        Args:
            name: of the variant.
            job: what to load.
            force: load what is unchanged too.
        """
        call = [sys.executable, "flows/parent.py", "--color", "yellow", "--source", job.template]
        call += ["--months", *(str(month + 1) for month in range(job.months))]
        call += ["--to", job.to, "--data-dir", str(job.directory)]
        call += ["--force"] if force else []
        call += ["--runner", "direct"] if name == DIRECT else []
        return Command(call, {**self.prefect_environment(name), "TAXI_POSTGRES_URL": job.database.url}, ROOT)
