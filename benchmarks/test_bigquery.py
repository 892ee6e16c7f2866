"""Groups `load bigquery` and `push bigquery`: a month into BigQuery, ours, `to_gbq` and the client's own way.

`load bigquery` uses bqemulator, which shares the cores with both sides and takes most of their time.
`push bigquery` uses the fake of the tests, in another process: it reads 1.44 million rows column by column in
about a second, so most of the measured time is spent in the client.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlglot
from contents import in_database, in_parquet
from google.auth.credentials import AnonymousCredentials
from support.bigquery import client_of, settings_for
from support.bigquery_fake import process

from flows.destinations import make_destination
from flows.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from conftest import Versus
    from contents import Contents
    from google.cloud import bigquery

    from flows.destinations import Destination
    from flows.staging import StagedMonth

CHUNK_ROWS = 500_000  # the tutorial's
MOST_ROWS = 200_000  # with more, the emulator would take most of the measured time
OURS = "trips_data_all.yellow_taxi_trips"

# Raised by the libraries of the rivals.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


@dataclass(frozen=True)
class Server:
    """The server that both sides load into.

    Attributes:
        group: name of the measured group.
        rest_url, grpc_address: where it listens.
        most_rows: maximum number of rows that are loaded; None: all.
    """

    group: str
    rest_url: str
    grpc_address: str
    most_rows: int | None = None


@pytest.fixture(scope="session")
def bigquery_process() -> Generator[process.BigQueryProcess]:
    with process.running() as running:
        yield running


@pytest.fixture(params=["emulator", "fake"])
def server(request: pytest.FixtureRequest) -> Server:
    if request.param == "emulator":
        emulator = request.getfixturevalue("bqemulator")
        return Server("load bigquery", emulator.rest_url, emulator.grpc_address, MOST_ROWS)
    fake = request.getfixturevalue("bigquery_process")
    return Server("push bigquery", fake.rest_url, fake.grpc_address)


@pytest.fixture
def month(staged: StagedMonth, server: Server, tmp_path: Path) -> StagedMonth:
    """The month for both sides: the staged one, or its first rows if it is too large for the server."""
    if server.most_rows is None or staged.rows <= server.most_rows:
        return staged
    path = tmp_path / staged.path.name
    with pq.ParquetFile(staged.path) as file, pq.ParquetWriter(path, file.schema_arrow) as writer:
        for batch in file.iter_batches(server.most_rows):
            writer.write_batch(batch)
            break
    return replace(staged, path=path, rows=server.most_rows, source_rows=server.most_rows)


@pytest.fixture
def target(server: Server, tmp_path: Path) -> Destination:
    settings = settings_for(server.rest_url, server.grpc_address)
    return make_destination("bigquery", tmp_path, Settings(_env_file=None, **settings))


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Generator[bigquery.Client]:
    # pandas-gbq creates another client. The emulator does not support uploads of unknown content.
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.rest_url)
    if server.group == "load bigquery":
        monkeypatch.setattr("google.cloud.bigquery.client._GENERIC_CONTENT_TYPE", "application/octet-stream")
    with contextlib.closing(client_of(server.rest_url)) as client:
        client.create_dataset("rivals", exists_ok=True)
        yield client


# In chunks it sends CSV, all it could do when the tutorial was written; its default now is one Parquet file.
@pytest.mark.parametrize("method", ["load_csv", "load_parquet"])
def test_push_against_the_tutorials_to_gbq(
    server: Server,
    target: Destination,
    client: bigquery.Client,
    month: StagedMonth,
    method: str,
    versus: Versus,
) -> None:
    pandas_gbq = pytest.importorskip("pandas_gbq")

    def tutorial() -> None:
        client.delete_table("taxi-test.rivals.to_gbq", not_found_ok=True)
        pandas_gbq.to_gbq(
            pd.read_parquet(month.path),
            "rivals.to_gbq",
            project_id="taxi-test",
            bigquery_client=client,
            credentials=AnonymousCredentials(),
            chunksize=CHUNK_ROWS if method == "load_csv" else None,
            api_method=method,
            if_exists="append",
            progress_bar=False,
        )

    versus(
        server.group,
        f"to_gbq, {method}",
        "pandas-gbq, as the tutorial" if method == "load_csv" else "pandas-gbq, its default of today",
        ours=lambda: target.publish(month, force=True),
        theirs=tutorial,
        rows=month.rows,
        at_most_pairs=3,
    )
    if server.group == "push bigquery":
        expected = in_parquet(month.path)
        assert _contents(client, OURS) == expected
        assert _contents(client, "rivals.to_gbq") == expected
    else:
        assert _rows(client, OURS) == month.rows
        # The emulator guesses whether the first line of a CSV is a header; with 1,000 rows it was wrong.
        assert _rows(client, "rivals.to_gbq") in {month.rows, month.rows - (method == "load_csv")}


def test_push_against_load_table_from_dataframe(
    server: Server, target: Destination, client: bigquery.Client, month: StagedMonth, versus: Versus
) -> None:
    def rival() -> None:
        client.delete_table("taxi-test.rivals.from_dataframe", not_found_ok=True)
        frame = pd.read_parquet(month.path)
        client.load_table_from_dataframe(frame, "taxi-test.rivals.from_dataframe").result()

    versus(
        server.group,
        "load_table_from_dataframe",
        "the client's own load job, one Parquet file",
        ours=lambda: target.publish(month, force=True),
        theirs=rival,
        rows=month.rows,
        at_most_pairs=3,
    )
    expected = in_parquet(month.path)
    contents = _contents if server.group == "push bigquery" else _contents_here
    assert contents(client, OURS) == expected
    assert contents(client, "rivals.from_dataframe") == expected


def _rows(client: bigquery.Client, table: str) -> int:
    [[rows]] = client.query_and_wait(f"SELECT count(*) FROM {table}")
    return rows


def _contents(client: bigquery.Client, table: str) -> Contents:
    """The content of the table, computed by the server: reading a month back would take minutes."""

    def rows(query: str) -> list[tuple[object, ...]]:
        [google] = sqlglot.transpile(query, read="duckdb", write="bigquery")
        google = re.sub(r"EXTRACT\(EPOCH FROM (`\w+`)\)", r"UNIX_SECONDS(TIMESTAMP(\1))", google)
        return [tuple(row.values()) for row in client.query_and_wait(google)]

    return in_database(rows, table)


def _contents_here(client: bigquery.Client, table: str) -> Contents:
    """The same, read back as Arrow and computed here: not every emulator has the functions."""
    import duckdb

    with duckdb.connect() as connection:
        connection.register("loaded", client.list_rows(table).to_arrow(create_bqstorage_client=False))
        return in_database(lambda query: connection.sql(query).fetchall(), "loaded")
