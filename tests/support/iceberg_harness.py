"""What the contract has to know of Iceberg tables."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pyarrow as pa
import pyiceberg.catalog
from pyiceberg.catalog import load_catalog
from pyiceberg.utils.config import Config
from support.destinations import Harness, Place
from support.iceberg_rest import rest_catalog

from flows.destinations import LEDGER, REJECTS, Destination, Load
from flows.destinations.iceberg.storage import referenced_files
from transforms.datasets import DATASETS

if TYPE_CHECKING:
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
        self._at_the_end = request.addfinalizer
        self._place = Place("iceberg", directory, {"lock_timeout_seconds": 30})

    @property
    def place(self) -> Place:
        return self._place

    def catalog(self) -> Catalog:
        """The catalog, as any other program opens it."""
        uri = f"sqlite:///file:{quote(str(self.directory))}/catalog.db?uri=true"
        catalog = load_catalog("local", uri=uri, warehouse=str(self.directory))
        self._at_the_end(catalog.close)  # a table connects again when it is used
        return catalog

    def table(self, name: str = "yellow_taxi_trips") -> Table:
        with self.catalog() as catalog:
            return catalog.load_table(f"taxi.{name}")

    def files(self) -> set[Path]:
        """Every file of data and of metadata there is."""
        folders = (self.directory.glob(f"taxi/*/{name}/**/*") for name in ("data", "metadata"))
        return {path for path in chain.from_iterable(folders) if path.is_file()}

    def unnamed_files(self) -> set[Path]:
        """Those that no snapshot and no metadata names."""
        with self.catalog() as catalog:
            tables = [catalog.load_table(name) for name in catalog.list_tables("taxi")]
        return self.files() - {Path(path) for table in tables for path in referenced_files(table)}

    def tables(self) -> set[str]:
        if not self.directory.exists():
            return set()
        with self.catalog() as catalog:
            tables = [catalog.load_table(name) for name in catalog.list_tables("taxi")]
        names = {table.name()[-1] for table in tables if table.current_snapshot()} - {REJECTS}
        return {LEDGER, REJECTS, *names} if names else set()

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


@dataclass(frozen=True)
class RestPlace(Place):
    """A catalog on a server, named in pyiceberg's configuration, which reads the environment only once."""

    uri: str = ""

    def make(self) -> Destination:
        os.environ["PYICEBERG_CATALOG__REST__URI"] = self.uri
        pyiceberg.catalog._ENV_CONFIG = Config()
        return super().make()


class IcebergRestHarness(IcebergHarness):
    """The same tables in a REST catalog."""

    def __init__(self, directory: Path, request: pytest.FixtureRequest) -> None:
        super().__init__(directory, request)
        server = rest_catalog(self.directory)
        uri = server.__enter__()
        request.addfinalizer(lambda: server.__exit__(None, None, None))
        self._place = RestPlace("iceberg", directory / "data", {"iceberg_catalog": "rest"}, uri)

    def catalog(self) -> Catalog:
        return load_catalog("rest", uri=self._place.uri)

    def tables(self) -> set[str]:
        with sqlite3.connect(self.directory / "catalog.db") as connection:
            names = {name for (name,) in connection.execute("SELECT table_name FROM iceberg_tables")}
        found = {name for name in names - {REJECTS} if self.table(name).current_snapshot()}
        return {LEDGER, REJECTS, *found} if found else set()
