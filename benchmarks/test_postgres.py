"""Groups `load postgres` and `end to end`: a month into a real Postgres, ours against what else there is.

Run with `-s` to see the numbers. Nothing is asserted on seconds, only that both sides load the same rows.
"""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest
from adbc_driver_postgresql import dbapi
from pairs import interleaved
from pydantic import SecretStr

from flows.destinations.postgres import Postgres
from flows.destinations.postgres_connection import Address
from flows.settings import Settings
from flows.staged import StagingOptions
from flows.staging import stage
from transforms.datasets import YELLOW
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.postgres import Database

    from flows.sources import LandedFile
    from flows.staged import StagedMonth

MONTH = TripMonth("yellow", 2021, 1)
PANDAS_ROWS = 100_000  # the tutorial's chunk; its loop is too slow for more, so it is extrapolated
needs_psql = pytest.mark.skipif(not shutil.which("psql"), reason="needs the program psql")


@pytest.fixture
def staged(landed: LandedFile, tmp_path: Path) -> StagedMonth:
    return stage(landed, MONTH, tmp_path, StagingOptions())


def conninfo(database: Database) -> str:
    return Address.of_url(database.url).conninfo()


def destination(database: Database) -> Postgres:
    return Postgres.from_settings(Path(), Settings(postgres_url=SecretStr(database.url)))


def ours(database: Database, landed: LandedFile, directory: Path, month: TripMonth = MONTH) -> None:
    staged = stage(landed, month, directory, StagingOptions(), force=True)
    destination(database).publish(staged, force=True)


def psql(database: Database, *commands: str) -> None:
    arguments = [argument for command in commands for argument in ("-c", command)]
    call = ["psql", "-q", "-v", "ON_ERROR_STOP=1", conninfo(database), *arguments]
    subprocess.run(call, check=True, capture_output=True)


def create(table: str) -> str:
    columns = YELLOW.postgres_columns()
    names = [f'"{name}" {columns[name]}' for name in columns if name != "file_month"]
    return f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} ({', '.join(names[:18])})"


def copy_with_psql(database: Database, landed: LandedFile, table: str = "raw_copy") -> None:
    program = f"gunzip -c '{landed.path}'"
    psql(
        database,
        create(table),
        f"\\copy {table} FROM PROGRAM '{program.replace(chr(39), chr(39) * 2)}' CSV HEADER",
    )


def test_load_against_bare_adbc_ingest(postgres: Database, staged: StagedMonth) -> None:
    target, schema = destination(postgres), pq.read_schema(staged.path)
    columns = YELLOW.postgres_columns()
    definition = ", ".join(f'"{name}" {columns[name]}' for name in schema.names)

    def bare() -> None:
        with dbapi.connect(conninfo(postgres)) as connection, connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS bare")
            cursor.execute(f"CREATE TABLE bare ({definition})")
            with pq.ParquetFile(staged.path) as file:
                reader = file.iter_batches(16_384)
                cursor.adbc_ingest("bare", _reader(file, reader), mode="append")
            connection.commit()

    print(
        "\nload postgres, rival is bare adbc_ingest:",
        interleaved(lambda: target.publish(staged, force=True), bare),
    )
    assert postgres.value("SELECT count(*) FROM bare") == staged.rows
    assert postgres.value("SELECT count(*) FROM yellow_taxi_trips") == staged.rows


def _reader(file: pq.ParquetFile, batches: object) -> object:
    import pyarrow as pa

    return pa.RecordBatchReader.from_batches(file.schema_arrow, batches)


@needs_psql
def test_end_to_end_against_psql_copy(postgres: Database, landed: LandedFile, tmp_path: Path) -> None:
    print(
        "\nfile to Parquet and Postgres, rival is gunzip -c | psql \\copy:",
        interleaved(lambda: ours(postgres, landed, tmp_path), lambda: copy_with_psql(postgres, landed)),
    )
    for name in ("trip_distance", "total_amount", "PULocationID"):
        total = f'SELECT sum("{name}")::numeric(20, 2)::text FROM '
        assert postgres.value(total + "yellow_taxi_trips") == postgres.value(total + "raw_copy")


@needs_psql
def test_three_months_against_three_copies(postgres: Database, landed: LandedFile, tmp_path: Path) -> None:
    months = [TripMonth("yellow", 2021, number) for number in (1, 2, 3)]

    def side_by_side() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda month: ours(postgres, landed, tmp_path, month), months))

    def in_a_row() -> None:
        for month in months:
            copy_with_psql(postgres, landed, f"raw_{month.month}")

    print("\nthree months, rival is three psql copies in a row:", interleaved(side_by_side, in_a_row))
    assert postgres.value("SELECT count(*) FROM yellow_taxi_trips") == 3 * postgres.value(
        "SELECT count(*) FROM raw_3"
    )


def test_end_to_end_against_the_tutorials_pandas_loop(
    postgres: Database, landed: LandedFile, tmp_path: Path, rows: int
) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="the rival needs SQLAlchemy and psycopg2")
    pytest.importorskip("psycopg2", reason="the rival needs psycopg2; install psycopg2-binary")
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg2://", creator=lambda: __import__("psycopg2").connect(conninfo(postgres))
    )
    slow_rows = min(rows, PANDAS_ROWS)

    def tutorial() -> None:
        chunks = pd.read_csv(landed.path, iterator=True, chunksize=slow_rows, low_memory=False)
        chunk = next(chunks)
        for name in (YELLOW.pickup, YELLOW.dropoff):
            chunk[name] = pd.to_datetime(chunk[name])
        chunk.to_sql("pandas_trips", engine, if_exists="replace")
        chunks.close()

    result = interleaved(lambda: ours(postgres, landed, tmp_path), tutorial, pairs=3)
    factor = rows / slow_rows / result.ratio
    print(
        f"\nend to end, rival is the pandas loop on {slow_rows:,} rows: {result}; {factor:.0f} times faster"
    )
    engine.dispose()
    assert postgres.value("SELECT count(*) FROM pandas_trips") == slow_rows
