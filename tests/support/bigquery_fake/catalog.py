"""Datasets and tables: what they are, what may be made, what may be changed, and when they expire."""

from __future__ import annotations

import re
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from support.bigquery_fake.errors import ApiError, unknown
from support.bigquery_fake.values import CLUSTERABLE, DUCKDB, LEGACY, standard_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

DATASET_NAME = re.compile(r"[A-Za-z0-9_]{1,1024}")
TABLE_NAME = re.compile(r"[\w\- ]{1,1024}")
# https://cloud.google.com/bigquery/docs/schemas#flexible-column-names, and the prefixes that are reserved.
COLUMN_NAME = re.compile(r"[^!\"$()*,./;?@\[\\\]^`{}~\x00-\x1f]{1,300}")
RESERVED = ("_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER")
PARTITION_ID = {"HOUR": 10, "DAY": 8, "MONTH": 6, "YEAR": 4}
TABLE_KEYS = {
    "tableReference", "schema", "timePartitioning", "clustering", "expirationTime", "labels", "description",
    "friendlyName", "etag", "kind", "id", "type", "location", "requirePartitionFilter",
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A column."""

    name: str
    type: str
    mode: str = "NULLABLE"
    description: str | None = None

    @classmethod
    def parse(cls, given: dict[str, Any]) -> Field:
        if extra := given.keys() - {"name", "type", "mode", "description"}:
            raise unknown(f"{', '.join(sorted(extra))} of a field")
        made = cls(
            given["name"],
            standard_type(given["type"]),
            (given.get("mode") or "NULLABLE").upper(),
            given.get("description"),
        )
        if made.mode not in {"NULLABLE", "REQUIRED"}:
            raise unknown(f"the mode {made.mode}")
        if not COLUMN_NAME.fullmatch(made.name) or made.name.upper().startswith(RESERVED):
            raise ApiError("invalid", f'Invalid field name "{made.name}".')
        return made

    def answer(self) -> dict[str, Any]:
        made = {"name": self.name, "type": LEGACY.get(self.type, self.type), "mode": self.mode}
        return made | ({"description": self.description} if self.description else {})


@dataclass(frozen=True)
class Table:
    """The metadata of a table or a view; the rows are in DuckDB under the same names."""

    dataset: str
    name: str
    fields: tuple[Field, ...]
    partitioning: dict[str, Any] | None = None
    clustering: tuple[str, ...] = ()
    expires_ms: int | None = None
    is_view: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    created_ms: int = 0
    modified_ms: int = 0
    etag: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.dataset, self.name

    @property
    def sql_name(self) -> str:
        return f"{quoted(self.dataset)}.{quoted(self.name)}"

    def field(self, name: str) -> Field | None:
        """A column by name; case does not count."""
        return next((one for one in self.fields if one.name.lower() == name.lower()), None)

    def check(self) -> None:
        """Refuse what the server would not make.

        Raises:
            ApiError: says what.
        """
        if not TABLE_NAME.fullmatch(self.name):
            raise ApiError("invalid", f'Invalid table ID "{self.name}".')
        if not self.fields:
            raise unknown("tables without columns")
        names = [one.name.lower() for one in self.fields]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ApiError("invalid", f"Duplicate field name: {min(twice)}. Field names ignore case.")
        if self.partitioning is not None:
            self._check_partitioning(self.partitioning)
        if len(self.clustering) > 4:
            raise ApiError("invalid", "Table must have at most 4 clustering fields.")
        for name in self.clustering:
            if not (found := self.field(name)):
                raise ApiError("invalid", f"The field specified for clustering cannot be found: {name}.")
            if found.type not in CLUSTERABLE:
                raise ApiError("invalid", f"{name} is not a valid clustering column type: {found.type}.")

    def _check_partitioning(self, given: dict[str, Any]) -> None:
        if extra := given.keys() - {"type", "field", "requirePartitionFilter"}:
            raise unknown(f"{', '.join(sorted(extra))} of timePartitioning")
        if given.get("type") not in PARTITION_ID:
            raise ApiError("invalid", f"Invalid time partitioning type {given.get('type')!r}.")
        if not given.get("field"):
            raise unknown("partitioning by ingestion time")
        column = self.field(given["field"])
        if not column:
            raise ApiError(
                "invalid", f"The field specified for partitioning cannot be found: {given['field']}."
            )
        if column.type not in {"DATE", "DATETIME", "TIMESTAMP"} or (
            column.type == "DATE" and given["type"] == "HOUR"
        ):
            raise ApiError("invalid", f"{column.type} cannot be partitioned by {given['type']}.")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Catalog:
    """Every dataset and table of the one project, and the DuckDB database that holds the rows."""

    def __init__(self, database: duckdb.DuckDBPyConnection, project: str, location: str) -> None:
        self.project, self.location = project, location
        self.lock = threading.RLock()
        self.seconds_ahead = 0.0
        self.datasets: dict[str, dict[str, Any]] = {}
        self._tables: dict[tuple[str, str], Table] = {}
        self._database = database

    def now_ms(self) -> int:
        return int((time.time() + self.seconds_ahead) * 1000)

    def execute(self, statement: str) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(statement)

    def dataset(self, name: str) -> dict[str, Any]:
        if name not in self.datasets:
            raise ApiError("notFound", f"Not found: Dataset {self.project}:{name}")
        return self.datasets[name]

    def create_dataset(self, name: str, given: dict[str, Any]) -> None:
        with self.lock:
            if not DATASET_NAME.fullmatch(name):
                raise ApiError("invalid", f'Invalid dataset ID "{name}".')
            if name in self.datasets:
                raise ApiError("duplicate", f"Already Exists: Dataset {self.project}:{name}")
            self.execute(f"CREATE SCHEMA {quoted(name)}")
            location = given.get("location") or self.location
            self.datasets[name] = {**given, "location": location, "etag": uuid.uuid4().hex}

    def drop_dataset(self, name: str, *, with_tables: bool) -> None:
        with self.lock:
            self.dataset(name)
            if not with_tables and self.tables(name):
                raise ApiError("resourceInUse", f"Dataset {self.project}:{name} is still in use")
            self.execute(f"DROP SCHEMA {quoted(name)} CASCADE")
            del self.datasets[name]
            self._tables = {key: table for key, table in self._tables.items() if key[0] != name}

    def tables(self, dataset: str) -> list[Table]:
        with self.lock:
            self.dataset(dataset)
            self._drop_expired()
            return sorted((t for t in self._tables.values() if t.dataset == dataset), key=lambda t: t.name)

    def find(self, dataset: str, name: str) -> Table | None:
        with self.lock:
            self._drop_expired()
            return self._tables.get((dataset, name))

    def table(self, dataset: str, name: str) -> Table:
        self.dataset(dataset)
        if not (found := self.find(dataset, name)):
            raise ApiError(
                "notFound",
                f"Not found: Table {self.project}:{dataset}.{name} was not found in location {self.location}",
            )
        return found

    def create(self, table: Table) -> Table:
        with self.lock:
            self.dataset(table.dataset)
            table.check()
            if self.find(*table.key):
                raise ApiError(
                    "duplicate", f"Already Exists: Table {self.project}:{table.dataset}.{table.name}"
                )
            if table.expires_ms is not None and table.expires_ms <= self.now_ms():
                raise ApiError("invalid", "Invalid expiration time: it lies in the past.")
            columns = ", ".join(map(_definition, table.fields))
            self.execute(f"CREATE TABLE {table.sql_name} ({columns})")
            return self._keep(replace(table, created_ms=self.now_ms()))

    def replace(self, table: Table, query: str) -> Table:
        """Make a view, or a table with the rows of a query, in the place of the one of that name."""
        with self.lock:
            self.dataset(table.dataset)
            table.check()
            kind = "VIEW" if table.is_view else "TABLE"
            if (found := self.find(*table.key)) and found.is_view != table.is_view:
                name = f"{self.project}:{table.dataset}.{table.name}"
                raise ApiError("invalidQuery", f"{name} is not a {kind}, and cannot be replaced by one.")
            self.execute(f"CREATE OR REPLACE {kind} {table.sql_name} AS {query}")
            return self._keep(replace(table, created_ms=self.now_ms()))

    def drop(self, table: Table) -> None:
        with self.lock:
            self.execute(f"DROP {'VIEW' if table.is_view else 'TABLE'} {table.sql_name}")
            del self._tables[table.key]

    def change(self, table: Table, **changes: Any) -> Table:  # noqa: ANN401 - as dataclasses.replace
        """Change metadata; the columns only in the ways that are allowed."""
        with self.lock:
            changed = replace(table, **changes)
            for what in ("partitioning", "clustering"):
                # NOTE: the server lets clustering be changed for future rows; nobody here means to.
                if getattr(changed, what) != getattr(table, what):
                    raise ApiError("invalid", f"Cannot change the {what} spec of a table.")
            changed.check()
            for statement in _alterations(self.project, table, changed.fields):
                self.execute(statement)
            return self._keep(changed)

    def touch(self, table: Table) -> None:
        with self.lock:
            if table.key in self._tables:
                self._keep(self._tables[table.key])

    def _keep(self, table: Table) -> Table:
        kept = replace(table, modified_ms=self.now_ms(), etag=uuid.uuid4().hex)
        self._tables[table.key] = kept
        return kept

    def _drop_expired(self) -> None:
        now = self.now_ms()
        for table in [t for t in self._tables.values() if t.expires_ms is not None and t.expires_ms <= now]:
            self.drop(table)


def _definition(one: Field) -> str:
    return f"{quoted(one.name)} {DUCKDB[one.type]}{' NOT NULL' if one.mode == 'REQUIRED' else ''}"


def _alterations(project: str, table: Table, wanted: Sequence[Field]) -> list[str]:
    def refused(why: str) -> ApiError:
        prefix = f"Provided Schema does not match Table {project}:{table.dataset}.{table.name}."
        return ApiError("invalid", f"{prefix} {why}")

    made: list[str] = []
    for have in table.fields:
        want = next((one for one in wanted if one.name.lower() == have.name.lower()), None)
        if want is None:
            raise refused(f"Field {have.name} is missing in new schema")
        if want.type != have.type:
            raise refused(f"Field {have.name} has changed type from {have.type} to {want.type}")
        if want.mode != have.mode:
            if want.mode == "REQUIRED":
                raise refused(f"Field {have.name} has changed mode from NULLABLE to REQUIRED")
            made.append(f"ALTER TABLE {table.sql_name} ALTER {quoted(have.name)} DROP NOT NULL")
    for one in wanted:
        if table.field(one.name):
            continue
        if one.mode == "REQUIRED":
            raise refused(f"Cannot add required fields to an existing schema. (field: {one.name})")
        made.append(f"ALTER TABLE {table.sql_name} ADD COLUMN {_definition(one)}")
    return made
