"""Write streams: what the Storage Write API does with them, without the wire.

Source: google/cloud/bigquery/storage/v1/storage.proto, and the error codes of its StorageError.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types
from support.bigquery_fake.errors import ApiError
from support.bigquery_fake.values import ARROW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.bigquery_fake.catalog import Catalog, Table
    from support.bigquery_fake.engine import Engine

Code = types.StorageError.StorageErrorCode
Type = types.WriteStream.Type
STREAM = re.compile(r"(projects/([^/]+)/datasets/([^/]+)/tables/([^/]+))/(?:streams/)?([^/]+)")
TABLE = re.compile(r"projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)")


class StorageFailure(Exception):
    """An error with the details that the server attaches.

    Attributes:
        status: gRPC's code.
        code: of the StorageError; None if there is none.
        entity: what it is about.
        rows: errors of single rows, by index.
    """

    def __init__(
        self,
        status: grpc.StatusCode,
        message: str,
        code: Code | None = None,
        entity: str = "",
        rows: Sequence[tuple[int, str]] = (),
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.entity, self.rows = status, message, code, entity, rows


@dataclass
class Stream:
    """A stream and the rows that wait in it."""

    name: str
    table: Table
    type: Type
    created: dt.datetime
    lock: threading.Lock = field(default_factory=threading.Lock)
    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    finalized: bool = False
    committed: dt.datetime | None = None


class Streams:
    """Every stream there has been."""

    def __init__(self, catalog: Catalog, engine: Engine) -> None:
        self._catalog, self._engine = catalog, engine
        self._streams: dict[str, Stream] = {}
        self._lock = threading.Lock()

    def create(self, parent: str, kind: Type) -> Stream:
        table = self._table(parent)
        if kind != Type.PENDING:
            raise StorageFailure(
                grpc.StatusCode.UNIMPLEMENTED, f"the BigQuery fake knows PENDING streams only, not {kind!r}"
            )
        name = f"{parent}/streams/{uuid.uuid4().hex}"
        with self._lock:
            made = self._streams[name] = Stream(name, table, kind, self._now())
        return made

    def get(self, name: str) -> Stream:
        if not STREAM.fullmatch(name):
            raise StorageFailure(
                grpc.StatusCode.INVALID_ARGUMENT, f"Invalid stream name: {name!r}", entity=name
            )
        if name.endswith("/_default"):
            raise StorageFailure(grpc.StatusCode.UNIMPLEMENTED, "the BigQuery fake has no default streams")
        if not (found := self._streams.get(name)):
            raise StorageFailure(
                grpc.StatusCode.NOT_FOUND,
                f"Requested entity was not found: {name}",
                Code.STREAM_NOT_FOUND,
                name,
            )
        self._check_alive(found)
        return found

    def append(self, stream: Stream, batch: pa.RecordBatch, offset: int | None) -> int:
        """Append; the offset at which the rows stand.

        Raises:
            StorageFailure: finalized, or the offset is not the end of the stream.
        """
        with stream.lock:
            if stream.finalized:
                raise StorageFailure(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Stream has been finalized and cannot be appended. Entity: {stream.name}",
                    Code.STREAM_FINALIZED,
                    stream.name,
                )
            end = stream.rows
            if offset is not None and offset < end:
                raise StorageFailure(
                    grpc.StatusCode.ALREADY_EXISTS,
                    f"The offset is within stream, expected offset {end}, received {offset}",
                    Code.OFFSET_ALREADY_EXISTS,
                    stream.name,
                )
            if offset is not None and offset > end:
                raise StorageFailure(
                    grpc.StatusCode.OUT_OF_RANGE,
                    f"The offset is beyond stream, expected offset {end}, received {offset}",
                    Code.OFFSET_OUT_OF_RANGE,
                    stream.name,
                )
            stream.batches.append(batch)
            stream.rows += batch.num_rows
            return end

    def finalize(self, name: str) -> int:
        """No more rows; how many there are. Asked again, it answers the same."""
        stream = self.get(name)
        with stream.lock:
            stream.finalized = True
            return stream.rows

    def commit(self, parent: str, names: Sequence[str]) -> dt.datetime | list[types.StorageError]:
        """Make the rows visible, all streams or none: the time, or what is wrong with which stream."""
        table = self._table(parent)
        if not names:
            raise StorageFailure(grpc.StatusCode.INVALID_ARGUMENT, "No write streams to commit")
        errors: list[types.StorageError] = []
        streams: list[Stream] = []
        for name in names:
            if not name.startswith(f"{parent}/streams/"):
                raise StorageFailure(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Stream {name} does not belong to {parent}",
                    entity=name,
                )
            try:
                streams.append(stream := self.get(name))
            except StorageFailure as error:
                errors.append(storage_error(error.code or Code.STREAM_NOT_FOUND, name, error.message))
                continue
            if stream.committed:
                errors.append(
                    storage_error(Code.STREAM_ALREADY_COMMITTED, name, f"Stream {name} is already committed")
                )
            elif not stream.finalized:
                errors.append(
                    storage_error(
                        Code.INVALID_STREAM_STATE,
                        name,
                        f"Stream {name} must be finalized before it is committed",
                    )
                )
        if errors:
            return errors
        batches = [batch for stream in streams for batch in stream.batches]
        if batches:
            self._engine.replace_rows(table, None, pa.Table.from_batches(_alike(batches)))
        for stream in streams:
            stream.committed, stream.batches = self._now(), []
        return self._now()

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._catalog.now_ms() / 1000, dt.UTC)

    def _table(self, name: str) -> Table:
        found = TABLE.fullmatch(name)
        if not found:
            raise StorageFailure(
                grpc.StatusCode.INVALID_ARGUMENT, f"Invalid table name: {name!r}", entity=name
            )
        if found[1] != self._catalog.project:
            raise StorageFailure(
                grpc.StatusCode.PERMISSION_DENIED,
                f"Permission denied on resource '{name}' (or it may not exist).",
            )
        try:
            return self._catalog.table(found[2], found[3])
        except ApiError as error:
            raise StorageFailure(
                grpc.StatusCode.NOT_FOUND, error.message, Code.TABLE_NOT_FOUND, name
            ) from None

    def _check_alive(self, stream: Stream) -> None:
        """A stream goes with its table; a table of the same name made later does not bring it back."""
        now = self._catalog.find(*stream.table.key)
        if now is None or now.created_ms != stream.table.created_ms:
            raise StorageFailure(
                grpc.StatusCode.NOT_FOUND,
                f"Requested entity was not found: {stream.name}",
                Code.STREAM_NOT_FOUND,
                stream.name,
            )


def storage_error(code: Code, entity: str, message: str) -> types.StorageError:
    return types.StorageError(code=code, entity=entity, error_message=message)


def check_schema(stream: Stream, schema: pa.Schema) -> None:
    """The writer's schema against the table's: names, and exact types.

    Raises:
        StorageFailure: a column too many, a required one missing, a type that is not the one.
    """
    table = stream.table
    if extra := [name for name in schema.names if not table.field(name)]:
        raise StorageFailure(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Input schema has more fields than BigQuery schema, extra fields: '{','.join(extra)}'",
            Code.SCHEMA_MISMATCH_EXTRA_FIELDS,
            stream.name,
        )
    for one in table.fields:
        at = schema.get_field_index(one.name)
        if at < 0:
            if one.mode == "REQUIRED":
                raise StorageFailure(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Field {one.name} is required but missing",
                    entity=stream.name,
                )
        elif (found := schema.field(at).type) != ARROW[one.type]:
            raise StorageFailure(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"The Arrow type {found} of field {one.name} is not the one for {one.type}: "
                f"{ARROW[one.type]}",
                entity=stream.name,
            )


def check_rows(stream: Stream, batch: pa.RecordBatch) -> None:
    """Values against the modes of the columns.

    Raises:
        StorageFailure: with the rows that lack a required value.
    """
    for one in stream.table.fields:
        if one.mode == "REQUIRED" and (column := batch.column(one.name)).null_count:
            rows = [at for at, valid in enumerate(column.is_valid().to_pylist()) if not valid]
            raise StorageFailure(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"Errors found while processing rows. Please refer to the row_errors field for details. "
                f"The list may not be complete because of the size limitations. Entity: {stream.name}",
                entity=stream.name,
                rows=[(at, f"Field {one.name}: Missing required field") for at in rows],
            )


def _alike(batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The batches of several streams; their columns may come in another order, or be missing."""
    schema = pa.unify_schemas([batch.schema.remove_metadata() for batch in batches])
    return [
        pa.record_batch(
            [
                batch.column(one.name)
                if one.name in batch.schema.names
                else pa.nulls(batch.num_rows, one.type)
                for one in schema
            ],
            names=schema.names,
        )
        for batch in batches
    ]
