"""Load jobs: Parquet or CSV into a table or one partition of it, checked as strictly as we know how.

The file comes from the bucket, or with the job. Where the server takes something that nobody here has any
business sending (a job without a schema, a file with columns that the schema lacks), the fake refuses it.
"""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from support.bigquery_fake.catalog import PARTITION_ID, Field, Table, quoted
from support.bigquery_fake.errors import ApiError, unknown
from support.bigquery_fake.sources import CSV_KEYS, read_csv, read_parquet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.bigquery_fake.catalog import Catalog
    from support.bigquery_fake.engine import Engine

KEYS = {
    "sourceUris", "sourceFormat", "destinationTable", "schema", "writeDisposition", "createDisposition",
    "timePartitioning", "clustering", "schemaUpdateOptions", "autodetect",
}  # fmt: skip
FORMAT_KEYS = {"PARQUET": {"parquetOptions"}, "CSV": CSV_KEYS}
DIGITS = {"HOUR": "%Y%m%d%H", "DAY": "%Y%m%d", "MONTH": "%Y%m", "YEAR": "%Y"}
READ_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Target:
    """Where a load job writes: a table, or one partition of it."""

    dataset: str
    name: str
    partition: str | None

    @classmethod
    def parse(cls, catalog: Catalog, given: dict[str, Any]) -> Target:
        if given.get("projectId") != catalog.project:
            raise ApiError("accessDenied", f"Access Denied: Project {given.get('projectId')}")
        name, dollar, partition = given["tableId"].partition("$")
        return cls(given["datasetId"], name, partition if dollar else None)


def check_load(given: dict[str, Any], *, with_file: bool = False) -> None:
    """Refuse a configuration when the job is inserted.

    Args:
        given: `configuration.load`.
        with_file: whether the file comes with the job.

    Raises:
        ApiError: what is wrong with it.
    """
    kind = given.get("sourceFormat")
    if kind not in FORMAT_KEYS:
        raise unknown(f"the source format {kind or 'CSV if it is not said'}")
    if extra := given.keys() - KEYS - FORMAT_KEYS[kind]:
        raise unknown(f"{', '.join(sorted(extra))} of a load job of {kind}")
    if given.get("autodetect"):
        raise unknown("autodetect: the schema is to be given")
    if with_file and given.get("sourceUris"):
        raise ApiError("invalid", "A job with a file of its own must not specify source URIs")
    if not (given.get("schema") or {}).get("fields"):
        raise unknown("load jobs without a schema")
    if extra := (given.get("parquetOptions") or {}).keys() - {"enableListInference", "enumAsString"}:
        raise ApiError("invalid", f"Unknown name {min(extra)} at parquet_options")
    for key, legal in (
        ("writeDisposition", {"WRITE_APPEND", "WRITE_TRUNCATE", "WRITE_EMPTY"}),
        ("createDisposition", {"CREATE_IF_NEEDED", "CREATE_NEVER"}),
    ):
        if given.get(key) and given[key] not in legal:
            raise ApiError("invalid", f"Invalid value for {key}: {given[key]}")
    if extra := set(given.get("schemaUpdateOptions") or ()) - {"ALLOW_FIELD_ADDITION"}:
        raise unknown(f"the schema update option {min(extra)}")


class Loader:
    """Runs load jobs.

    Attributes:
        storage_url: where `gs://` is read from.
    """

    def __init__(self, catalog: Catalog, engine: Engine, storage_url: str | None) -> None:
        self._catalog, self._engine, self.storage_url = catalog, engine, storage_url

    def run(self, given: dict[str, Any], uploaded: bytes | None = None) -> dict[str, str]:
        """Load; the job's statistics.

        Args:
            given: `configuration.load`.
            uploaded: the file, if it came with the job.

        Raises:
            ApiError: what was wrong; the table is as it was.
        """
        target = Target.parse(self._catalog, given["destinationTable"])
        fields = tuple(map(Field.parse, given["schema"]["fields"]))
        files = (
            [uploaded]
            if uploaded is not None
            else [self._fetch(uri) for uri in given.get("sourceUris") or ()]
        )
        if not files:
            raise ApiError("invalid", "Load configuration must specify at least one source URI")
        rows = pa.concat_tables([_read(content, fields, given) for content in files])
        table = self._table(target, given, fields)
        delete = None
        if target.partition is not None:
            delete = _check_partition(self._catalog.project, table, target.partition, rows)
        disposition = given.get("writeDisposition") or "WRITE_APPEND"
        if disposition == "WRITE_TRUNCATE":
            delete = delete or "true"
        elif disposition == "WRITE_EMPTY":
            raise unknown("WRITE_EMPTY")
        else:
            delete = None
        self._engine.replace_rows(table, delete, rows)
        return {
            "inputFiles": str(len(files)),
            "inputFileBytes": str(sum(map(len, files))),
            "outputRows": str(rows.num_rows),
            "outputBytes": str(rows.nbytes),
            "badRecords": "0",
        }

    def _fetch(self, uri: str) -> bytes:
        scheme, _, path = uri.partition("://")
        bucket, _, name = path.partition("/")
        if scheme != "gs" or not bucket or not name:
            raise ApiError("invalid", f"Source URI must be a Google Cloud Storage location: {uri}")
        if "*" in name:
            raise unknown("wildcards in a source URI")
        if not self.storage_url:
            raise unknown("gs://, because it was given no storage_url")
        url = f"{self.storage_url}/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"
        try:
            with urllib.request.urlopen(url, timeout=READ_TIMEOUT_SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    raise ApiError("notFound", f"Not found: URI {uri}") from None
                raise ApiError("accessDenied", f"Access Denied: File {uri}: {error}") from None

    def _table(self, target: Target, given: dict[str, Any], fields: tuple[Field, ...]) -> Table:
        wanted = given.get("timePartitioning")
        clustering = tuple((given.get("clustering") or {}).get("fields") or ())
        with self._catalog.lock:
            self._catalog.dataset(target.dataset)
            table = self._catalog.find(target.dataset, target.name)
            if table is None:
                if given.get("createDisposition") == "CREATE_NEVER":
                    self._catalog.table(target.dataset, target.name)
                return self._catalog.create(Table(target.dataset, target.name, fields, wanted, clustering))
            have = table.partitioning
            if (wanted and wanted != have) or (clustering and clustering != table.clustering):
                raise ApiError(
                    "invalid",
                    "Incompatible table partitioning specification. Expects partitioning specification "
                    f"{have} clustering{table.clustering}, but input partitioning specification is "
                    f"{wanted} clustering{clustering}",
                )
            return self._grown(
                table, fields, "ALLOW_FIELD_ADDITION" in (given.get("schemaUpdateOptions") or ())
            )

    def _grown(self, table: Table, fields: Sequence[Field], may_grow: bool) -> Table:
        prefix = f"Provided Schema does not match Table {self._catalog.project}:{table.dataset}.{table.name}."
        new: list[Field] = []
        for one in fields:
            have = table.field(one.name)
            if have is None:
                new.append(one)
            elif have.type != one.type:
                raise ApiError(
                    "invalid", f"{prefix} Field {one.name} has changed type from {have.type} to {one.type}"
                )
            elif have.mode != one.mode:
                raise ApiError(
                    "invalid", f"{prefix} Field {one.name} has changed mode from {have.mode} to {one.mode}"
                )
        named = {one.name.lower() for one in fields}
        if absent := [o.name for o in table.fields if o.mode == "REQUIRED" and o.name.lower() not in named]:
            raise ApiError("invalid", f"{prefix} Field {absent[0]} is missing in new schema")
        if new and not may_grow:
            raise ApiError("invalid", f"{prefix} Cannot add fields (field: {new[0].name})")
        return self._catalog.change(table, fields=(*table.fields, *new)) if new else table


def _read(content: bytes, fields: Sequence[Field], given: dict[str, Any]) -> pa.Table:
    if given["sourceFormat"] == "CSV":
        return read_csv(content, fields, given)
    return read_parquet(content, fields)


def _check_partition(project: str, table: Table, partition: str, rows: pa.Table) -> str:
    """The condition for the rows of a partition, if all of these belong to it."""
    where = f"Table {project}:{table.dataset}.{table.name}"
    if not table.partitioning:
        raise ApiError(
            "invalid", f"{where} is not partitioned, but was given a partition decorator ${partition}"
        )
    unit, column = table.partitioning["type"], table.partitioning["field"]
    if len(partition) != PARTITION_ID[unit] or not partition.isdigit():
        raise ApiError(
            "invalid", f"Invalid time partition id ${partition} for {where}, partitioned by {unit}"
        )
    name = next((name for name in rows.column_names if name.lower() == column.lower()), None)
    found = pc.unique(pc.strftime(rows.column(name), DIGITS[unit])).to_pylist() if name else [None]
    if any(one != partition for one in found):
        raise ApiError(
            "invalid",
            f"Some rows belong to different partitions rather than destination partition {partition}",
        )
    return f"strftime({quoted(column)}, '{DIGITS[unit]}') = '{partition}'"
