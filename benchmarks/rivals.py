"""What a user would type instead: sides of the group `as typed`."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

from contents import COLUMNS
from loading import conninfo, dlt_names, new_table, sling_program
from whole_processes import DUCKDB_TYPES, Command, Job, Side

from transforms.datasets import YELLOW

SCRIPTS = Path(__file__).with_name("scripts")
PEERS = "{}: install the dependency groups `bench` and `peers`"
TUTORIAL_ROWS = 100_000  # one chunk; all rows would take minutes
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


def missing_programs(*programs: str) -> str:
    """Those of these programs that are not installed, in words."""
    return ", ".join(f"the program {name}" for name in programs if not shutil.which(name))


def _missing_package(name: str) -> str:
    return "" if importlib.util.find_spec(name) else PEERS.format(name)


RIVALS = (
    Side(
        "psql",
        "curl | gunzip | psql \\copy, month after month",
        _psql,
        missing=missing_programs("bash", "curl", "gunzip", "psql"),
    ),
    Side(
        "tutorial",
        "the tutorial's script: curl, read_csv and to_sql in chunks of 100,000 rows",
        tutorial,
        missing=missing_programs("curl") or _missing_package("psycopg2"),
        most_rows=TUTORIAL_ROWS,
    ),
    Side(
        "dlt",
        "a dlt script: pyarrow's CSV reader, Parquet, dlt's ADBC loader",
        _dlt,
        missing=_missing_package("dlt"),
        table="rival.trips",
        names=lambda: dlt_names(),
    ),
    Side(
        "sling",
        "curl, then sling run, full-refresh",
        _sling,
        missing=missing_programs("bash", "curl") if sling_program() else PEERS.format("sling"),
        names=None,
    ),
    Side("duckdb", "a DuckDB script: create table, insert from read_csv(...gz)", _duckdb),
)
