"""What the contract has to know of Iceberg tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from support.destinations import Harness, Place

from flows.destinations import LEDGER, Load
from transforms.datasets import DATASETS

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


class IcebergHarness(Harness):
    """A local catalog. The ledger is no table: it is in the snapshots and properties of the others."""

    module = "flows.destinations.iceberg.destination"
    has_tables = False

    def __init__(self, directory: Path, request: pytest.FixtureRequest) -> None:
        super().__init__(directory, request)
        self.directory = directory / "iceberg"
        self._place = Place("iceberg", directory, {"lock_timeout_seconds": 30})

    @property
    def place(self) -> Place:
        return self._place

    def catalog(self) -> Catalog:
        """The catalog, as any other program opens it."""
        return load_catalog("local", uri=f"sqlite:///{self.directory}/catalog.db")

    def table(self, name: str = "yellow_taxi_trips") -> Table:
        with self.catalog() as catalog:
            return catalog.load_table(f"taxi.{name}")

    def tables(self) -> set[str]:
        if not self.directory.exists():
            return set()
        with self.catalog() as catalog:
            tables = [catalog.load_table(name) for name in catalog.list_tables("taxi")]
        names = {table.name()[-1] for table in tables if table.current_snapshot()}
        return {LEDGER, *names} if names else set()

    def read(self, table: str) -> pa.Table:
        rows = self.table(table).scan().to_arrow()
        plain = [
            field.with_type(pa.string()) if field.type == pa.large_string() else field
            for field in rows.schema
        ]
        return rows.cast(pa.schema(plain))

    def ledger(self) -> list[Load]:
        found = [holding for dataset in DATASETS.values() for holding in self.make().holdings(dataset)]
        return [holding.load for holding in found if holding.load]
