"""Ways to load a month into Postgres: ours, and what a user would take instead."""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from adbc_driver_postgresql import dbapi
from contents import COLUMNS, in_database
from inputs import MONTH
from pydantic import SecretStr

from flows.destinations.postgres import Postgres, PostgresAddress
from flows.settings import Settings
from flows.staging import StagingOptions, stage
from transforms.datasets import YELLOW

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from contents import Contents
    from sqlalchemy import Engine
    from support.postgres import Database

    from flows.sources import LandedFile
    from transforms.trip_month import TripMonth

TUTORIAL_CHUNK_ROWS = 100_000
MULTI_CHUNK_ROWS = 1_000  # one statement each, with 18,000 parameters
BATCH_ROWS = 16_384  # what a COPY is fed at a time; see docs/reference/postgres.md
TIMES = [YELLOW.pickup, YELLOW.dropoff]


def conninfo(database: Database) -> str:
    return PostgresAddress.of_url(database.url).conninfo()


def destination(database: Database) -> Postgres:
    return Postgres.from_settings(Path(), Settings(_env_file=None, postgres_url=SecretStr(database.url)))


def ours(database: Database, landed: LandedFile, directory: Path, month: TripMonth = MONTH) -> None:
    """File to Parquet and Postgres."""
    staged = stage(landed, month, directory, StagingOptions(), force=True)
    destination(database).publish(staged, force=True)


def contents(database: Database, table: str, names: Mapping[str, str] | None = None) -> Contents:
    return in_database(database.rows, table, names)


def new_table(table: str, columns: Sequence[str]) -> list[str]:
    types = YELLOW.postgres_columns()
    definition = ", ".join(f'"{name}" {types[name]}' for name in columns)
    return [f"DROP TABLE IF EXISTS {table}", f"CREATE TABLE {table} ({definition})"]


def copy_with_psql(database: Database, landed: LandedFile, table: str = "rival") -> None:
    """`gunzip -c FILE | psql -c '\\copy'`: the raw CSV, without a Parquet file."""
    program = f"gunzip -c '{landed.path}'".replace("'", "''")
    commands = [
        *new_table(table, COLUMNS),
        f"\\copy {table} FROM PROGRAM '{program}' WITH (FORMAT csv, HEADER true)",
    ]
    arguments = [argument for command in commands for argument in ("-c", command)]
    call = ["psql", "-q", "-v", "ON_ERROR_STOP=1", conninfo(database), *arguments]
    quiet = os.environ | {"PGOPTIONS": "-c client_min_messages=warning"}
    subprocess.run(call, check=True, capture_output=True, env=quiet)


def tutorials_engine(database: Database) -> Engine:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="the rival needs SQLAlchemy")
    psycopg2 = pytest.importorskip("psycopg2", reason="the rival needs psycopg2-binary")
    return sqlalchemy.create_engine(
        "postgresql+psycopg2://", creator=lambda: psycopg2.connect(conninfo(database))
    )


def tutorials_loop(engine: Engine, landed: LandedFile, rows: int) -> None:
    """The tutorial's ingest_data.py, word for word but for the number of rows."""
    chunks = pd.read_csv(
        landed.path, iterator=True, chunksize=TUTORIAL_CHUNK_ROWS, nrows=rows, low_memory=False
    )
    for at, chunk in enumerate(chunks):
        for name in TIMES:
            chunk[name] = pd.to_datetime(chunk[name])
        if at == 0:
            chunk.head(n=0).to_sql(name="rival", con=engine, if_exists="replace")
        chunk.to_sql(name="rival", con=engine, if_exists="append")


def to_sql(engine: Engine, path: Path, rows: int, *, method: str | None) -> None:
    """`to_sql` of a staged month in chunks."""
    frame = next(pq.ParquetFile(path).iter_batches(rows, columns=COLUMNS)).to_pandas()
    chunk_rows = MULTI_CHUNK_ROWS if method == "multi" else TUTORIAL_CHUNK_ROWS
    frame.to_sql("rival", engine, if_exists="replace", index=False, chunksize=chunk_rows, method=method)


def copy_csv(database: Database, path: Path) -> None:
    """psycopg: COPY in CSV, written by pyarrow."""
    psycopg = pytest.importorskip("psycopg", reason="install the dependency group `peers`")
    options = pa.csv.WriteOptions(include_header=False)
    with psycopg.connect(conninfo(database)) as connection, connection.cursor() as cursor:
        for statement in new_table("rival", COLUMNS):
            cursor.execute(statement)
        with cursor.copy("COPY rival FROM STDIN WITH (FORMAT csv)") as copy:
            for batch in _batches(path):
                text = io.BytesIO()
                pa.csv.write_csv(batch, text, options)
                copy.write(text.getbuffer())


def copy_with_pgpq(database: Database, path: Path) -> None:
    """psycopg: COPY in binary, encoded by pgpq."""
    psycopg = pytest.importorskip("psycopg", reason="install the dependency group `peers`")
    pgpq = pytest.importorskip("pgpq", reason="install the dependency group `peers`")
    with psycopg.connect(conninfo(database)) as connection, connection.cursor() as cursor:
        for statement in new_table("rival", COLUMNS):
            cursor.execute(statement)
        encoder = pgpq.ArrowToPostgresBinaryEncoder(_schema(path))
        with cursor.copy("COPY rival FROM STDIN WITH (FORMAT binary)") as copy:
            copy.write(encoder.write_header())
            for batch in _batches(path):
                copy.write(encoder.write_batch(batch))
            copy.write(encoder.finish())


def bare_adbc_ingest(database: Database, path: Path) -> None:
    """The driver that we use, without the swap of the month, the checks and the counts."""
    with dbapi.connect(conninfo(database)) as connection, connection.cursor() as cursor:
        for statement in new_table("rival", COLUMNS):
            cursor.execute(statement)
        reader = pa.RecordBatchReader.from_batches(_schema(path), _batches(path))
        cursor.adbc_ingest("rival", reader, mode="append")
        connection.commit()


def _schema(path: Path) -> pa.Schema:
    schema = pq.read_schema(path).remove_metadata()
    return pa.schema([schema.field(name) for name in COLUMNS])


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(BATCH_ROWS, columns=COLUMNS)


def plain_login(database: Database) -> Database:
    """The same database with a plain password: dlt writes a blank in one as `+`, which libpq refuses."""
    if " " not in (database.parameters.get("password") or ""):
        return database
    exists = "SELECT FROM pg_roles WHERE rolname = 'rival'"
    create = "CREATE ROLE rival SUPERUSER LOGIN PASSWORD 'rival'"
    # The tests' server takes a password in one iteration, which sling's driver refuses.
    database.execute(
        "SET scram_iterations = 4096", f"DO $$BEGIN IF NOT EXISTS ({exists}) THEN {create}; END IF; END$$"
    )
    return database.other(user="rival", password="rival")


def dlt_names() -> dict[str, str]:
    """What dlt calls the columns."""
    from dlt.common.normalizers.naming.snake_case import NamingConvention

    naming = NamingConvention()
    return {name: naming.normalize_identifier(name) for name in COLUMNS}


def sling_program() -> str | None:
    """The program sling: on the path, or out of the wheel of the dependency group `peers`."""
    if importlib.util.find_spec("sling_linux_amd64"):
        return str(importlib.import_module("sling_linux_amd64").SLING_BIN)
    return shutil.which("sling")


def run_dlt(database: Database, landed: LandedFile, directory: Path) -> None:
    """dlt at its fastest: Arrow from pyarrow's CSV reader, its Parquet handed on to its ADBC loader.

    Args:
        database: where the table `rival.trips` is made.
        landed: the file.
        directory: for dlt's own files.
    """
    import dlt

    # Types said and not guessed: quicker, and the columns come out as ours do.
    types = dict(zip(COLUMNS, csv_schema(), strict=True))
    convert = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True)

    @dlt.resource(name="trips", write_disposition="replace")
    def trips() -> Iterator[pa.RecordBatch]:
        read = pa.csv.ReadOptions(block_size=16 << 20)
        with pa.input_stream(str(landed.path), compression="gzip") as stream:
            yield from pa.csv.open_csv(stream, read_options=read, convert_options=convert)

    shutil.rmtree(directory, ignore_errors=True)
    pipeline = dlt.pipeline(
        "rival",
        pipelines_dir=str(directory),
        destination=dlt.destinations.postgres(credentials=database.url),
        dataset_name="rival",
        progress=None,
    )
    pipeline.run(trips(), loader_file_format="parquet").raise_on_failed_jobs()


def csv_schema() -> list[pa.DataType]:
    schema = YELLOW.arrow_schema(())
    return [schema.field(name).type for name in COLUMNS]
