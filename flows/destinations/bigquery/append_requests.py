"""Arrow batches cut into requests of the Storage Write API, none of them too large."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.cloud.bigquery_storage_v1 import types

from flows.errors import DestinationRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from flows.destinations.bigquery.connection import BigQuerySession

MAX_REQUEST_BYTES = 9_500_000
"""Of a serialized request. The documents say 10 MB in some places and 20 MB in others."""

LENGTHS_BYTES = 16
"""The most that three nested messages take to say how long they are, beyond what empty ones take."""

TRACE_ID = "taxi-etl"


@dataclass(frozen=True, slots=True)
class Rows:
    """What a request carries.

    Attributes:
        count: rows.
        content: a record batch as Arrow IPC has it, without schema.
    """

    count: int
    content: bytes


@dataclass(frozen=True, slots=True)
class AppendTarget:
    """Where the rows go.

    Attributes:
        parent: the table, as the Write API names it.
        schema: of the batches, serialized.
    """

    parent: str
    schema: bytes

    @classmethod
    def of(cls, session: BigQuerySession, table: str, schema: pa.Schema) -> AppendTarget:
        """A table of the session's dataset."""
        address = session.address
        parent = f"projects/{address.project}/datasets/{address.dataset}/tables/{table}"
        return cls(parent, schema.serialize().to_pybytes())

    def request(self, stream: str, offset: int, rows: Rows, *, first: bool) -> types.AppendRowsRequest:
        """One request; the first one of a connection says what comes."""
        made: Any = types.AppendRowsRequest.pb(types.AppendRowsRequest())
        made.write_stream = stream
        made.offset.value = offset
        if first:
            made.arrow_rows.writer_schema.serialized_schema = self.schema
            made.trace_id = TRACE_ID
        made.arrow_rows.rows.serialized_record_batch = rows.content
        return types.AppendRowsRequest.wrap(made)

    def request_bytes(self, rows: Rows) -> int:
        """Bytes of the largest request that may carry the rows, the first one of a connection; or a few more.

        Reckoned, because a request that is made only to be measured would copy every row once more.
        """
        longest_name = f"{self.parent}/streams/{'x' * 256}"
        without_rows = self.request(longest_name, 2**62, Rows(rows.count, b""), first=True)
        made: Any = types.AppendRowsRequest.pb(without_rows)
        return made.ByteSize() + len(rows.content) + LENGTHS_BYTES


def requests_of(
    target: AppendTarget, batches: Iterable[pa.RecordBatch], limit: int = MAX_REQUEST_BYTES
) -> Iterator[Rows]:
    """The batches, in order, in parts that fit into a request.

    Raises:
        DestinationRefused: a single row does not fit.
    """
    before = 0
    for batch in batches:
        for rows in _fitting(target, batch, limit, before):
            before += rows.count
            yield rows


def _fitting(target: AppendTarget, batch: pa.RecordBatch, limit: int, before: int) -> Iterator[Rows]:
    if not batch.num_rows:
        return
    rows = Rows(batch.num_rows, batch.serialize().to_pybytes())
    size = target.request_bytes(rows)
    if size <= limit:
        yield rows
        return
    if batch.num_rows == 1:
        raise DestinationRefused(
            f"row {before + 1:,} of the month takes {size:,} bytes, but a request to BigQuery may have "
            f"{limit:,} at most; shorten its texts, or load the month by flows/gcs_to_bq.py, where a row may "
            "have 100 MB"
        )
    part_rows = max(1, batch.num_rows // math.ceil(size / limit))
    if part_rows == batch.num_rows:
        part_rows //= 2
    for start in range(0, batch.num_rows, part_rows):
        yield from _fitting(target, batch.slice(start, part_rows), limit, before + start)
