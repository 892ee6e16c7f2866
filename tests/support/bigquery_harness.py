"""What the contract has to know of BigQuery; the server is the strict fake of `support.bigquery_fake`."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from unittest import mock

from google.cloud import bigquery
from support.bigquery import DATASET, client_of, settings_for
from support.destinations import DIMENSION_TABLES, LONGEST_WAIT_SECONDS, Harness, Place

from flows.destinations import LEDGER, Load
from flows.destinations.bigquery.staging_table import NAME
from flows.destinations.bigquery.tables import ILLEGAL_IN_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from multiprocessing.connection import Connection
    from pathlib import Path

    import pyarrow as pa
    import pytest
    from support.bigquery_fake import BigQueryFake

    from flows.staging import StagedMonth
    from transforms.dataset import ColumnType


class BigQueryHarness(Harness):
    module = "flows.destinations.bigquery.destination"

    def __init__(self, directory: Path, request: pytest.FixtureRequest) -> None:
        super().__init__(directory, request)
        self.server: BigQueryFake = request.getfixturevalue("bigquery_fake")
        settings = settings_for(self.server.rest_url, self.server.grpc_address, self.server.project)
        self._place = Place("bigquery", directory, settings)
        self._left: set[str] = set()

    @property
    def place(self) -> Place:
        return self._place

    def takes_name(self, name: str) -> bool:
        return not ILLEGAL_IN_NAMES.search(name)

    def settle(self) -> None:
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while any(call.name.startswith("jobs") and call.outcome is None for call in self.server.requests):
            assert time.monotonic() < deadline, "a job of the killed client goes on and on"
            time.sleep(0.01)
        # A killed run may leave its staging table to the next one; test_bigquery_failures.py sees to it.
        self._left = set()
        self._left = self.staging_tables()

    def all_tables(self) -> set[str]:
        """Every table, staging tables too."""
        if DATASET not in self.server.catalog.datasets:
            return set()
        tables = self.server.catalog.tables(DATASET)
        return {table.name for table in tables if not table.is_view} - DIMENSION_TABLES

    def staging_tables(self) -> set[str]:
        return {name for name in self.all_tables() if NAME.fullmatch(name)}

    def tables(self) -> set[str]:
        return self.all_tables() - self._left

    def read(self, table: str) -> pa.Table:
        found = self.server.catalog.table(DATASET, table)
        return self.server.rows(found, [field.name for field in found.fields])

    def ledger(self) -> list[Load]:
        if LEDGER not in self.tables():
            return []
        names = [field.name for field in fields(Load)]
        rows = self.server.rows(self.server.catalog.table(DATASET, LEDGER), names).to_pylist()
        return [Load(**row | {"loaded_at": row["loaded_at"].astimezone(dt.UTC)}) for row in rows]

    def create_table(self, name: str, columns: Mapping[str, ColumnType]) -> None:
        with contextlib.closing(client_of(self.server.rest_url)) as client:
            client.create_dataset(DATASET, exists_ok=True)
            schema = [bigquery.SchemaField(column, kind.bigquery) for column, kind in columns.items()]
            client.create_table(bigquery.Table(f"{self.server.project}.{DATASET}.{name}", schema=schema))

    def execute(self, statement: str) -> None:
        with self.reader() as query:
            query(statement)

    @contextlib.contextmanager
    def reader(self) -> Generator[Callable[[str], list[tuple[Any, ...]]]]:
        with contextlib.closing(client_of(self.server.rest_url)) as client:
            yield lambda sql: [tuple(row.values()) for row in client.query_and_wait(sql)]


MOMENTS = {
    "after some requests": ("flows.destinations.bigquery.write_streams._AppendStream", "_receive"),
    "after the streams are sealed": ("flows.destinations.bigquery.write_streams", "_commit"),
    "after the commit, before the transaction": ("flows.destinations.bigquery.destination", "ensure_tables"),
    "after the transaction": ("flows.destinations.bigquery.staging_table", "drop"),
}
"""Where a publish can be killed: when it looks up that name."""


def die_at(_: Connection, place: Place, staged: StagedMonth, moment: str) -> None:
    """Publish, and be killed at that moment."""
    target = place.make()
    with mock.patch(".".join(MOMENTS[moment]), _be_killed):
        target.publish(staged, force=True)


def _be_killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
