"""Arrow batches split into requests of the Storage Write API that are never too large."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.cloud.bigquery_storage_v1 import types

from flows.errors import DestinationRefused

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.destinations.bigquery.connection import BigQuerySession

MAX_REQUEST_BYTES = 9_500_000  # the documentation says 10 MB in some places and 20 MB in others
MAX_LENGTH_BYTES = 16  # how much longer the lengths of three nested messages get than those of empty ones
TRACE_ID = "taxi-etl"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one request.

    Attributes:
        count: how many.
        content: a record batch in Arrow's IPC format, without schema.
    """

    count: int
    content: bytes


@dataclass(frozen=True, slots=True)
class AppendTarget:
    """The table that rows are appended to.

    Attributes:
        parent: its name in the Write API.
        schema: of the batches, in Arrow's IPC format.
    """

    parent: str
    schema: bytes

    @classmethod
    def of(cls, session: BigQuerySession, table: str, schema: pa.Schema) -> AppendTarget:
        """A table of the session's dataset.

        Args:
            session: connected.
            table: its name, without project and dataset.
            schema: of the batches.
        """
        address = session.address
        parent = f"projects/{address.project}/datasets/{address.dataset}/tables/{table}"
        return cls(parent, schema.serialize().to_pybytes())

    def request(self, stream: str, offset: int, rows: Rows, *, first: bool) -> types.AppendRowsRequest:
        """One request.

        Args:
            stream: its name.
            offset: number of the first row in the stream, from 0.
            rows: what to append.
            first: it is the first request of a connection, which carries the schema.
        """
        message: Any = types.AppendRowsRequest.pb(types.AppendRowsRequest())
        message.write_stream = stream
        message.offset.value = offset
        if first:
            message.arrow_rows.writer_schema.serialized_schema = self.schema
            message.trace_id = TRACE_ID
        message.arrow_rows.rows.serialized_record_batch = rows.content
        return types.AppendRowsRequest.wrap(message)

    def request_bytes(self, rows: Rows) -> int:
        """The size of the largest request that may carry the rows, or a few bytes more.

        It is computed, because serializing a request to measure it would copy every row once more.

        Args:
            rows: the rows.
        """
        longest_name = f"{self.parent}/streams/{'x' * 256}"
        without_rows = self.request(longest_name, 2**62, Rows(rows.count, b""), first=True)
        message: Any = types.AppendRowsRequest.pb(without_rows)
        return message.ByteSize() + len(rows.content) + MAX_LENGTH_BYTES


def split_into_requests(
    target: AppendTarget, batches: Iterable[pa.RecordBatch], max_bytes: int = MAX_REQUEST_BYTES
) -> Iterator[Rows]:
    """Split batches into parts that fit into a request.

    Args:
        target: where they go.
        batches: record batches with the target's schema.
        max_bytes: of a serialized request.

    Yields:
        The rows of each request, in order.

    Raises:
        DestinationRefused: a single row does not fit.
    """
    rows_before = 0
    for batch in batches:
        for rows in _split(target, batch, max_bytes, rows_before):
            rows_before += rows.count
            yield rows


def _split(target: AppendTarget, batch: pa.RecordBatch, max_bytes: int, rows_before: int) -> Iterator[Rows]:
    if not batch.num_rows:
        return
    rows = Rows(batch.num_rows, batch.serialize().to_pybytes())
    size = target.request_bytes(rows)
    if size <= max_bytes:
        yield rows
        return
    if batch.num_rows == 1:
        raise DestinationRefused(
            f"row {rows_before + 1:,} of the month takes {size:,} bytes, but a request to BigQuery may have "
            f"{max_bytes:,} at most; shorten its texts, or load the month by flows/gcs_to_bq.py, where a row "
            "may have 100 MB"
        )
    part_rows = max(1, batch.num_rows // math.ceil(size / max_bytes))
    if part_rows == batch.num_rows:
        part_rows //= 2
    for start in range(0, batch.num_rows, part_rows):
        yield from _split(target, batch.slice(start, part_rows), max_bytes, rows_before + start)
