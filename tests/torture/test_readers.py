"""Readers while a month is replaced again and again: each sees the old month or the new one, never a mixture.

`make torture` takes at least ten thousand reads and a hundred replacements in each destination.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from support.bigquery_harness import BigQueryHarness
from support.destinations import DuckDBHarness, Harness, Months, asking, keep_reading
from support.gcs_harness import GcsHarness
from support.postgres_harness import PostgresHarness
from support.torture import TORTURE, note, share

from flows.destinations import LEDGER
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

READS, REPLACEMENTS = (share(10_000), share(100)) if TORTURE else (200, 6)
READERS = 4
JANUARY = TripMonth("yellow", 2021, 1)
OLD, NEW = (1_000, 0), (1_500, 5_000)
"""Rows of a month, and the least of its numbers."""

QUESTION = (
    f"SELECT count(*), min({{0}}), max({{0}}), (SELECT row_count FROM {LEDGER} WHERE dataset = 'yellow' "
    f"AND file_month = DATE '2021-01-01') FROM {JANUARY.dataset.table} WHERE file_month = DATE '2021-01-01'"
)
Read = Callable[[], tuple[Any, ...]]


@contextlib.contextmanager
def reader_of(harness: Harness) -> Generator[Read]:
    """What a reader sees of the month: rows, least and largest number, and the rows that the ledger says."""
    if isinstance(harness, GcsHarness):
        yield lambda: _read_object(harness)
        return
    quote = {"postgres": '"', "duckdb": '"', "bigquery": "`"}[harness.place.name]
    with asking(harness, QUESTION.format(f"{quote}passenger_count{quote}")) as read:
        yield read


def _read_object(harness: GcsHarness) -> tuple[Any, ...]:
    [name] = harness.bucket.names()
    numbers = pq.read_table(io.BytesIO(harness.bucket.read(name)), columns=["passenger_count"])[0]
    [load] = harness.ledger()  # in another request, so that it may be of the next month
    assert load.row_count in (OLD[0], NEW[0])
    values = [number for number in numbers.to_pylist() if number is not None]
    return len(numbers), min(values), max(values), len(numbers)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [DuckDBHarness, PostgresHarness, BigQueryHarness, GcsHarness])
def test_every_read_is_of_one_whole_month(
    kind: type[Harness], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    harness = kind(tmp_path / "data", request)
    (tmp_path / "months").mkdir()
    months = Months(tmp_path / "months")
    old, new = (months.trips(JANUARY, rows, first=first) for rows, first in (OLD, NEW))
    target = harness.make()
    target.publish(old)
    with reader_of(harness) as read:
        whole = {read()}
        target.publish(new)
        whole.add(read())
    assert {(rows, in_ledger) for rows, _, _, in_ledger in whole} == {(1_000, 1_000), (1_500, 1_500)}
    replacements = 0
    with keep_reading(partial(reader_of, harness), READERS) as readers:
        while replacements < REPLACEMENTS or readers.reads() < READS:
            assert target.publish((old, new)[replacements % 2]).status == "published"
            replacements += 1
    reads = readers.seen()
    mixed = {read: times for read, times in reads.items() if read not in whole}
    assert not mixed
    assert reads.keys() == whole, "readers saw both months"
    figures = {"reads": reads.total(), "replacements": replacements, "mixed": sum(mixed.values())}
    note(f"readers, {harness.place.name}", figures)
