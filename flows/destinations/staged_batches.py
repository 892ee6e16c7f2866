"""Staged files as Arrow batches, for destinations that cannot read a Parquet file themselves."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from flows.errors import LocalStorageError

if TYPE_CHECKING:
    from flows.runtime import ProgressCallback

BATCHES_AHEAD = 8  # decoded while earlier ones are being sent


def staged_schema(path: Path, order: Collection[str], without: Collection[str] = ()) -> pa.Schema:
    """The schema of a staged file, in another order.

    Args:
        path: the file.
        order: names of columns, which come first in this order; those that the file lacks are ignored.
        without: columns to leave out.

    Returns:
        The Arrow schema.

    Raises:
        LocalStorageError: the file is missing or damaged.
    """
    with explain_unreadable(path):
        schema = pq.read_schema(path)
    names = dict.fromkeys([*(name for name in order if name in schema.names), *schema.names])
    return pa.schema([schema.field(name) for name in names if name not in without])


@contextlib.contextmanager
def staged_batches(
    path: Path, columns: Sequence[str], batch_rows: int, report: ProgressCallback | None = None
) -> Generator[pa.RecordBatchReader]:
    """Open a staged file for the length of a block.

    Args:
        path: the file.
        columns: which of its columns, in which order.
        batch_rows: the largest number of rows in a batch.
        report: called with (rows read, rows in all).

    Yields:
        The record batches.

    Raises:
        LocalStorageError: the file is missing or damaged.
    """
    errors: list[BaseException] = []

    def read(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        rows = 0
        try:
            for batch in _read_ahead(file.iter_batches(batch_rows, columns=columns, use_threads=False)):
                yield batch.select(columns)
                rows += batch.num_rows
                if report:
                    report(rows, file.metadata.num_rows)
        except GeneratorExit:
            raise
        except BaseException as error:
            errors.append(error)  # the driver that pulls the batches would wrap it in an error of its own
            raise

    # With pre_buffer, the default, the whole file would end up in memory.
    with explain_unreadable(path), pq.ParquetFile(path, pre_buffer=False) as file:
        schema = pa.schema([file.schema_arrow.field(name) for name in columns])
        try:
            yield pa.RecordBatchReader.from_batches(schema, read(file))
        except Exception:
            if errors:
                raise errors[0] from None
            raise


def empty_columns(path: Path) -> set[str]:
    """The columns of a staged file that are null in every row, by the statistics in its footer.

    Args:
        path: the file.

    Returns:
        Their names.

    Raises:
        LocalStorageError: the file is missing or damaged.
    """
    with explain_unreadable(path):
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
def explain_unreadable(path: Path) -> Generator[None]:
    """Raise what reading a staged file raises inside as one of our errors.

    Args:
        path: the file.

    Raises:
        LocalStorageError: the file is missing or damaged.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise LocalStorageError(
            f"the staged file {path} cannot be read ({reason}); run it again with --force"
        ) from error


def _read_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, decoded in another thread."""
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        ahead = deque(reader.submit(next, batches, None) for _ in range(BATCHES_AHEAD))
        while (batch := ahead.popleft().result()) is not None:
            ahead.append(reader.submit(next, batches, None))
            yield batch
