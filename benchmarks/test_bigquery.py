"""Group `load bigquery`: a month into bqemulator, ours against `to_gbq` and the client's own way.

The server is the same for all and works on the same cores, so a part of every number is its own time.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest
from contents import in_database, in_parquet
from google.auth.credentials import AnonymousCredentials
from support.bigquery import client_of, settings_for

from flows.destinations import make_destination
from flows.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from conftest import Versus
    from contents import Contents
    from google.cloud import bigquery
    from support.bqemulator import BqEmulator

    from flows.destinations import Destination
    from flows.staged import StagedMonth

GROUP = "load bigquery"
CHUNK_ROWS = 500_000  # the tutorial's
MOST_ROWS = 200_000  # of a larger month the emulator would be most of what is measured

# Of the rivals, among themselves.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


@pytest.fixture
def month(staged: StagedMonth, tmp_path: Path) -> StagedMonth:
    """The staged month, its first rows if it is too large for an emulator; for both sides."""
    if staged.rows <= MOST_ROWS:
        return staged
    path = tmp_path / staged.path.name
    with pq.ParquetFile(staged.path) as file, pq.ParquetWriter(path, file.schema_arrow) as writer:
        for batch in file.iter_batches(MOST_ROWS):
            writer.write_batch(batch)
            break
    return replace(staged, path=path, rows=MOST_ROWS, source_rows=MOST_ROWS)


@pytest.fixture
def target(bqemulator: BqEmulator, tmp_path: Path) -> Destination:
    settings = settings_for(bqemulator.rest_url, bqemulator.grpc_address)
    return make_destination("bigquery", tmp_path, Settings(_env_file=None, **settings))


@pytest.fixture
def client(bqemulator: BqEmulator, monkeypatch: pytest.MonkeyPatch) -> Generator[bigquery.Client]:
    # pandas-gbq makes a client of its own; and the emulator knows no uploads of unknown content.
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", bqemulator.rest_url)
    monkeypatch.setattr("google.cloud.bigquery.client._GENERIC_CONTENT_TYPE", "application/octet-stream")
    with contextlib.closing(client_of(bqemulator.rest_url)) as made:
        made.create_dataset("rivals", exists_ok=True)
        yield made


def _rows(client: bigquery.Client, table: str) -> int:
    [[rows]] = client.query(f"SELECT count(*) FROM {table}").result()
    return rows


# In chunks it sends CSV, which was all it could in the tutorial's days; today's default is one Parquet file.
@pytest.mark.parametrize("method", ["load_csv", "load_parquet"])
def test_push_against_the_tutorials_to_gbq(
    target: Destination, client: bigquery.Client, month: StagedMonth, method: str, versus: Versus
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
        GROUP,
        f"to_gbq, {method}",
        "pandas-gbq, as the tutorial" if method == "load_csv" else "pandas-gbq, its default of today",
        ours=lambda: target.publish(month, force=True),
        theirs=tutorial,
        rows=month.rows,
        at_most_pairs=3,
    )
    assert _rows(client, "trips_data_all.yellow_taxi_trips") == month.rows
    # The emulator guesses whether a CSV's first line is a header, at times wrongly: seen with 1,000 rows.
    assert _rows(client, "rivals.to_gbq") in {month.rows, month.rows - (method == "load_csv")}


def test_push_against_load_table_from_dataframe(
    target: Destination, client: bigquery.Client, month: StagedMonth, versus: Versus
) -> None:
    def rival() -> None:
        client.delete_table("taxi-test.rivals.from_dataframe", not_found_ok=True)
        frame = pd.read_parquet(month.path)
        client.load_table_from_dataframe(frame, "taxi-test.rivals.from_dataframe").result()

    versus(
        GROUP,
        "load_table_from_dataframe",
        "the client's own load job, one Parquet file",
        ours=lambda: target.publish(month, force=True),
        theirs=rival,
        rows=month.rows,
        at_most_pairs=3,
    )
    expected = in_parquet(month.path)
    assert _contents(client, "trips_data_all.yellow_taxi_trips") == expected
    assert _contents(client, "rivals.from_dataframe") == expected


def _contents(client: bigquery.Client, table: str) -> Contents:
    """What came out at the other end, read back as Arrow and measured here."""
    import duckdb

    with duckdb.connect() as connection:
        connection.register("came_out", client.list_rows(table).to_arrow(create_bqstorage_client=False))
        return in_database(lambda query: connection.sql(query).fetchall(), "came_out")
