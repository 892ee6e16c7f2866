"""The shape of a staged file: row groups that DuckDB takes over as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.staging.parquet_writer import write_parquet

if TYPE_CHECKING:
    from pathlib import Path

ROW_GROUP_ROWS = 122_880  # of DuckDB's tables
ROWS = 2 * ROW_GROUP_ROWS + 5
SCHEMA = pa.schema([("n", pa.int64())])


@pytest.mark.parametrize("height", [999, 65_536, 100_000, ROWS])
@pytest.mark.parametrize("chunks", [1, 3])
def test_row_groups_have_the_size_of_those_of_duckdb_however_the_rows_arrive(
    height: int, chunks: int, tmp_path: Path
) -> None:
    path = tmp_path / "month.parquet"
    numbers = pl.DataFrame({"n": range(ROWS)}, schema={"n": pl.Int64})
    frames = [numbers.slice(at, height) for at in range(0, ROWS, height)]
    step = height // chunks
    in_chunks = [
        pl.concat([frame.head(step), frame.slice(step, step), frame.slice(2 * step)], rechunk=False)
        if chunks > 1
        else frame
        for frame in frames
    ]

    written = write_parquet(path, SCHEMA, in_chunks, {})

    footer = pq.read_metadata(path)
    groups = [footer.row_group(at).num_rows for at in range(footer.num_row_groups)]
    assert groups == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 5]
    assert written.rows == ROWS
    assert pl.read_parquet(path).equals(numbers)


def test_a_loaded_month_is_not_written_a_second_time(tmp_path: Path) -> None:
    path, warehouse = tmp_path / "month.parquet", tmp_path / "warehouse.duckdb"
    frame = pl.DataFrame({"n": range(ROWS)}, schema={"n": pl.Int64})
    write_parquet(path, SCHEMA, (frame.slice(at, 50_001) for at in range(0, ROWS, 50_001)), {})

    with duckdb.connect(warehouse) as connection:
        connection.execute("CREATE TABLE trips AS FROM read_parquet(?)", [str(path)])
        segments = connection.execute(
            "SELECT row_group_id, sum(count) FROM pragma_storage_info('trips') "
            "WHERE segment_type <> 'VALIDITY' GROUP BY ALL ORDER BY ALL"
        ).fetchall()

    assert segments == [(0, ROW_GROUP_ROWS), (1, ROW_GROUP_ROWS), (2, 5)]
