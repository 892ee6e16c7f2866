"""Arrow batches become one Parquet file; DuckDB writes it and counts what it wrote."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from flows.errors import LocalStorageError
from flows.runtime import describe_free_space

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

# Level 1 and one writing thread: Polars parses on all cores meanwhile. Measured on 1.44 M rows and two
# cores: 0.76 s against 0.90 s with DuckDB's defaults, 110 MB less memory, the file 10 % larger.
THREADS = 1
COPY_OPTIONS = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, RETURN_STATS"

_MESSAGE_IN_JSON = re.compile(r'"exception_message":("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True, slots=True)
class Written:
    """What DuckDB says it wrote.

    Attributes:
        rows: how many.
        statistics: by column; `min`, `max`, `null_count`, `has_nan` as text, where there are any.
    """

    rows: int
    statistics: dict[str, dict[str, str]]


def write_parquet(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], metadata: dict[str, str]
) -> Written:
    """Write `batches` to `path`, which is overwritten.

    Args:
        path: the file.
        schema: of every batch.
        batches: pulled one at a time; what they raise is raised here as it is.
        metadata: key-value pairs for the file's footer.

    Raises:
        LocalStorageError: the disk refused.
    """
    stopped: list[BaseException] = []
    reader = pa.RecordBatchReader.from_batches(schema, _remembering(batches, stopped))
    pairs = ", ".join(f"{key}: ?" for key in metadata)
    try:
        with duckdb.connect(config={"threads": THREADS}) as connection:
            connection.register("staged", reader)
            found: Any = connection.execute(
                f"COPY (FROM staged) TO ? ({COPY_OPTIONS}, KV_METADATA {{{pairs}}})",
                [str(path), *metadata.values()],
            ).fetchone()
    except duckdb.Error as error:
        # DuckDB reports whatever its source raised as an error of its own.
        if stopped:
            raise stopped[0] from None
        if isinstance(error, duckdb.IOException):
            raise LocalStorageError(
                f"{_reason(error)}; it is in {describe_free_space(path.parent)}. Make room there, or give "
                "the run a directory it may write to (--data-dir), then run it again"
            ) from error
        raise
    return Written(found[1], {name.strip('"'): stats for name, stats in found[4].items()})


def _reason(error: duckdb.Error) -> str:
    """What DuckDB says, without the JSON around the message of a thread of its own."""
    text = str(error).partition("\n")[0]
    found = _MESSAGE_IN_JSON.search(text)
    return json.loads(found[1]) if found else text


def _remembering(
    batches: Iterable[pa.RecordBatch], stopped: list[BaseException]
) -> Generator[pa.RecordBatch]:
    try:
        yield from batches
    except GeneratorExit:  # nobody reads on: the reason is on the other side
        raise
    except BaseException as error:
        stopped.append(error)
        raise
