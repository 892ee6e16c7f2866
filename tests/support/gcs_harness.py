"""What the contract has to know of a bucket."""

from __future__ import annotations

import datetime as dt
import io
import os
import tracemalloc
from typing import TYPE_CHECKING, Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
from support.destinations import Harness, Place
from support.gcs import GRAIN_BYTES

from flows.destinations import LEDGER, REJECTS, Load
from flows.destinations.gcs import upload as gcs_upload
from flows.destinations.gcs.ledger import from_metadata

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    import pytest
    from support.gcs import Bucket

    from flows.staging import StagedMonth


class GcsHarness(Harness):
    """An object is a month: its folder stands for the table, its metadata for the ledger's row."""

    module = "flows.destinations.gcs.destination"
    has_tables = False

    def __init__(self, directory: Path, request: pytest.FixtureRequest) -> None:
        super().__init__(directory, request)
        self.bucket: Bucket = request.getfixturevalue("bucket")
        self._place = Place("gcs", directory, self.bucket.settings)

    @property
    def place(self) -> Place:
        return self._place

    def settle(self) -> None:
        self.bucket.front.settle()

    def tables(self) -> set[str]:
        colors = {name.split("/")[-2] for name in self._months()}
        return {LEDGER, REJECTS, *(f"{color}_taxi_trips" for color in colors)} if colors else set()

    def _months(self) -> set[str]:
        return {name for name in self.bucket.names() if not name.startswith("rejects/")}

    def read(self, table: str) -> pa.Table:
        folder = f"data/{table.removesuffix('_taxi_trips')}/"
        names = sorted(name for name in self.bucket.names() if name.startswith(folder))
        files = [pq.read_table(io.BytesIO(self.bucket.read(name))) for name in names]
        return pa.concat_tables(files, promote_options="default")

    def rejects(self) -> list[tuple[Any, ...]]:
        files = {name: self.bucket.read(name) for name in self.bucket.names() if name.startswith("rejects/")}
        return sorted(
            (name.split("/")[1], dt.date.fromisoformat(f"{name[-23:-16]}-01"), *row)
            for name, content in files.items()
            for row in zip(*pq.read_table(io.BytesIO(content)).to_pydict().values(), strict=True)
        )

    def ledger(self) -> list[Load]:
        resources = map(self.bucket.resource, self._months())
        loads = [from_metadata(resource["metadata"]) for resource in resources if resource]
        return [load for load in loads if load]


SMALL_CHUNK_BYTES = GRAIN_BYTES
"""So that a small month is many chunks."""


def publish_in_small_chunks(pipe: Connection, place: Place, staged: StagedMonth) -> None:
    """Publish with chunks of 256 KiB; sends its process id, then (receipt, peak bytes of Python's memory)."""
    target = place.make()
    pipe.send(os.getpid())
    with mock.patch.object(gcs_upload, "CHUNK_BYTES", SMALL_CHUNK_BYTES):
        tracemalloc.start()
        receipt = target.publish(staged, force=True)
        pipe.send((receipt, tracemalloc.get_traced_memory()[1]))
