"""What the contract has to know of Postgres."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import time
from dataclasses import fields, replace
from itertools import starmap
from typing import TYPE_CHECKING, Any
from unittest import mock

from support.destinations import DIMENSION_TABLES, LONGEST_WAIT_SECONDS, Harness, Place

from flows.destinations import LEDGER, Load
from flows.destinations.postgres import Postgres, PostgresAddress, swap
from flows.destinations.postgres import destination as postgres_destination
from flows.destinations.postgres.tables import LOADING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from multiprocessing.connection import Connection
    from pathlib import Path

    import pyarrow as pa
    import pytest
    from support.postgres import Database

    from flows.staging import StagedMonth
    from transforms.dataset import ColumnType


class PostgresHarness(Harness):
    module = "flows.destinations.postgres.swap"
    drop = "DROP TABLE {} CASCADE"

    def __init__(
        self, directory: Path, request: pytest.FixtureRequest, database: Database | None = None
    ) -> None:
        """Prepare an empty destination: this database, or one of the session's server."""
        super().__init__(directory, request)
        self.database: Database = database or request.getfixturevalue("postgres")
        settings = {"postgres_url": self.database.url, "lock_timeout_seconds": 30}
        self._place = Place("postgres", directory, settings)
        self._left: set[str] = set()

    @property
    def place(self) -> Place:
        return self._place

    def settle(self) -> None:
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while self.database.clients():
            assert time.monotonic() < deadline, "the server does not notice that its client is gone"
            time.sleep(0.01)
        # A killed run may leave such a table to the next one; test_postgres_failures.py sees to it.
        self._left = set()
        self._left = {name for name in self.tables() if name.endswith(LOADING)}

    def tables(self) -> set[str]:
        found = self.database.rows(
            "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
            "AND relnamespace = 'public'::regnamespace"
        )
        return {name for (name,) in found} - self._left - DIMENSION_TABLES

    def read(self, table: str) -> pa.Table:
        return self.database.table(f"SELECT * FROM {table}")

    def ledger(self) -> list[Load]:
        if LEDGER not in self.tables():
            return []
        rows = self.database.rows(f"SELECT {', '.join(f.name for f in fields(Load))} FROM {LEDGER}")
        return [replace(load, loaded_at=load.loaded_at.astimezone(dt.UTC)) for load in starmap(Load, rows)]

    def create_table(self, name: str, columns: Mapping[str, ColumnType]) -> None:
        defined = ", ".join(f'"{column}" {kind.postgres}' for column, kind in columns.items())
        self.execute(f"CREATE TABLE {name} ({defined})")

    def execute(self, statement: str) -> None:
        self.database.execute(statement)

    @contextlib.contextmanager
    def reader(self) -> Generator[Callable[[str], list[tuple[Any, ...]]]]:
        with self.database.connect() as connection:
            yield lambda sql: connection.execute(sql.encode()).fetchall()


def destination(database: Database, **options: Any) -> Postgres:  # noqa: ANN401
    """The destination at a database, with such options."""
    return Postgres(lambda: PostgresAddress.of_url(database.url), **options)


MOMENTS = {
    "before the swap": (swap, "_swap"),
    "in the middle of the swap": (swap, "_align_columns"),
    "after the swap": (postgres_destination, "Receipt"),
}
"""Where a publish can be killed: when it looks up that name."""


def die_at(_: Connection, place: Place, staged: StagedMonth, moment: str) -> None:
    """Publish, and be killed at that moment."""
    target = place.make()
    module, name = MOMENTS[moment]
    with mock.patch.object(module, name, _be_killed):
        target.publish(staged, force=True)


def _be_killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
