"""A staged file in Arrow batches, for destinations that are fed rather than read a file themselves."""

from __future__ import annotations

import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from flows.errors import LocalStorageError

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Sequence
    from pathlib import Path

    from flows.runtime import ProgressCallback


BATCHES_AHEAD = 8


def staged_schema(path: Path, order: Collection[str], without: Collection[str] = ()) -> pa.Schema:
    """What a staged file holds: its columns in `order`, those that are not named after them.

    A column that the file does not have is left out.

    Args:
        path: the file.
        order: column names.
        without: columns to leave out.

    Raises:
        LocalStorageError: the file is not there, or damaged.
    """
    with _readable(path):
        schema = pq.read_schema(path)
    named = [name for name in order if name in schema.names]
    others = [name for name in schema.names if name not in order]
    return pa.schema([schema.field(name) for name in named + others if name not in without])


@contextlib.contextmanager
def staged_batches(
    path: Path, columns: Sequence[str], batch_rows: int, report: ProgressCallback | None = None
) -> Generator[pa.RecordBatchReader]:
    """Open a staged file.

    Args:
        path: the file.
        columns: which of its columns, in which order.
        batch_rows: most rows of a batch.
        report: called with (rows read, rows in all).

    Raises:
        LocalStorageError: the file is not there, or damaged.
    """
    raised: list[BaseException] = []

    def read(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        rows = 0
        try:
            reading = file.iter_batches(batch_rows, columns=columns, use_threads=False)
            for batch in _read_ahead(reading):
                yield batch.select(columns)
                rows += batch.num_rows
                if report:
                    report(rows, file.metadata.num_rows)
        except GeneratorExit:
            raise
        except BaseException as error:
            raised.append(error)  # a driver that pulls would turn it into an error of its own
            raise

    # With its own buffering, which is the default, it ends up with the whole file in memory.
    with _readable(path), pq.ParquetFile(path, pre_buffer=False) as file:
        schema = pa.schema([file.schema_arrow.field(name) for name in columns])
        try:
            yield pa.RecordBatchReader.from_batches(schema, read(file))
        except Exception:
            if raised:
                raise raised[0] from None
            raise


def empty_columns(path: Path) -> set[str]:
    """The columns of a staged file that are null in every row, by the statistics in it.

    Raises:
        LocalStorageError: the file is not there, or damaged.
    """
    with _readable(path):
        footer = pq.read_metadata(path)
    groups = [footer.row_group(at) for at in range(footer.num_row_groups)]
    return {
        name
        for at, name in enumerate(footer.schema.names)
        if groups and all(_is_null(group, at) for group in groups)
    }


def _is_null(group: pq.RowGroupMetaData, at: int) -> bool:
    statistics = group.column(at).statistics
    return statistics is not None and statistics.has_null_count and statistics.null_count == group.num_rows


@contextlib.contextmanager
def _readable(path: Path) -> Generator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise LocalStorageError(
            f"the staged file {path} cannot be read ({reason}); run it again with --force"
        ) from error


def _read_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, decoded by another thread while the last ones are being sent."""
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        ahead = deque(reader.submit(next, batches, None) for _ in range(BATCHES_AHEAD))
        while (batch := ahead.popleft().result()) is not None:
            ahead.append(reader.submit(next, batches, None))
            yield batch
