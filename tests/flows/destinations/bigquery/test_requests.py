"""No request is ever too large, and nothing is lost by cutting."""

from __future__ import annotations

import datetime as dt
import gc
import itertools
import random
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.cloud.bigquery_storage_v1 import types
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.destinations.bigquery.append_requests import (
    MAX_REQUEST_BYTES,
    AppendTarget,
    Rows,
    split_into_requests,
)
from flows.destinations.staged_batches import staged_batches
from flows.errors import DestinationRefused
from transforms.datasets import YELLOW

if TYPE_CHECKING:
    from pathlib import Path

STREAM = "projects/p/datasets/d/tables/t/streams/" + "s" * 256


def _target(schema: pa.Schema) -> AppendTarget:
    return AppendTarget("projects/p/datasets/d/tables/t", schema.serialize().to_pybytes())


def _serialized(target: AppendTarget, rows: Rows) -> bytes:
    """As it goes over the wire, as the first request of a connection."""
    return types.AppendRowsRequest.serialize(target.request(STREAM, 2**62, rows, first=True))


def _read(schema: pa.Schema, found: list[Rows]) -> pa.Table:
    batches = [pa.ipc.read_record_batch(pa.py_buffer(rows.content), schema) for rows in found]
    return pa.Table.from_batches(batches, schema)


texts = st.one_of(st.none(), st.text(max_size=20), st.integers(0, 3000).map("é".__mul__))
rows_of_three = st.tuples(texts, st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), texts)
THREE = pa.schema([("a", pa.string()), ("b", pa.int64()), ("c", pa.string())])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(rows_of_three, max_size=40), max_size=4),
    st.integers(15_000, 40_000),  # the longest row has some 12,000 bytes
)
def test_requests_never_exceed_the_limit(batches: list[list[tuple[object, ...]]], limit: int) -> None:
    made = [
        pa.RecordBatch.from_pylist([dict(zip("abc", row, strict=True)) for row in rows], THREE)
        for rows in batches
    ]
    target = _target(THREE)
    found = list(split_into_requests(target, made, limit))
    assert all(len(_serialized(target, rows)) <= limit for rows in found)
    assert all(rows.count for rows in found)
    assert _read(THREE, found).equals(pa.Table.from_batches(made, THREE))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 200))
def test_wide_rows(columns: int, rows: int, length: int) -> None:
    schema = pa.schema([(f"column {at}", pa.string()) for at in range(columns)])
    batch = pa.record_batch([["x" * length] * rows] * columns, schema)
    target = _target(schema)
    limit = target.request_bytes(Rows(1, batch.slice(0, 1).serialize().to_pybytes())) + 1000
    found = list(split_into_requests(target, [batch], limit))
    assert all(len(_serialized(target, part)) <= limit for part in found)
    assert _read(schema, found).equals(pa.Table.from_batches([batch]))


def test_the_real_limit_with_texts_of_megabytes() -> None:
    lengths = [9_400_000, 10, 4_000_000, 4_000_000, 4_000_000, 0, 9_000_000, 1]
    batch = pa.record_batch([["x" * length for length in lengths]], pa.schema([("note", pa.string())]))
    target = _target(batch.schema)
    found = list(split_into_requests(target, [batch]))
    sizes = [len(_serialized(target, rows)) for rows in found]
    assert max(sizes) <= MAX_REQUEST_BYTES < 10_000_000
    assert _read(batch.schema, found).equals(pa.Table.from_batches([batch]))


def test_a_row_that_fits_into_no_request_is_one_clear_line() -> None:
    batch = pa.record_batch([["a", "b", "x" * 9_600_000]], pa.schema([("note", pa.string())]))
    with pytest.raises(DestinationRefused, match=r"row 103 of the month takes 9,60\d,\d+ bytes") as refused:
        list(split_into_requests(_target(batch.schema), itertools.chain(_hundred(), [batch])))
    assert "\n" not in str(refused.value)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """What Arrow holds while a file is sent is some batches, and not the file."""
    schema = pa.schema([(f"column {at}", pa.float64()) for at in range(8)])
    draw = random.Random(0)
    group = pa.table([[draw.random() for _ in range(16_384)]] * 8, schema=schema)
    path = tmp_path / "large.parquet"
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(48):
            writer.write_table(group)
    del group
    gc.collect()  # what the tests before have left would be counted
    held = [pa.total_allocated_bytes()]
    with staged_batches(path, schema.names, 2048) as batches:
        held += [pa.total_allocated_bytes() for _ in split_into_requests(_target(schema), batches)]
    assert path.stat().st_size > 30 * 2**20
    assert max(held) - min(held) < path.stat().st_size / 3


def _hundred() -> list[pa.RecordBatch]:
    return [pa.record_batch([["c"] * 100], pa.schema([("note", pa.string())]))]


def test_a_batch_of_yellow_trips_is_one_request() -> None:
    schema = YELLOW.arrow_schema()
    some = {
        pa.int64(): 1,
        pa.float64(): 1.5,
        pa.string(): "N",
        pa.timestamp("us"): dt.datetime(2021, 1, 1),  # noqa: DTZ001 - New York time, no zone
        pa.date32(): dt.date(2021, 1, 1),
    }
    batch = pa.record_batch([pa.array([some[one.type]] * 32_768, one.type) for one in schema], schema)
    assert [rows.count for rows in split_into_requests(_target(schema), [batch])] == [32_768]
