"""Damage between two runs, and a full disk: detected, reported in one line, repaired by the next run."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import duckdb
import pyarrow.parquet as pq
import pytest
from support.destinations import DuckDBHarness
from support.kill_matrix import COLOR, KillMatrix, comparable

if TYPE_CHECKING:
    from pathlib import Path

    from support.disk import SmallDisk

pytestmark = pytest.mark.xdist_group("kills")

ten_years = 10 * 365 * 86_400
duckdb_only = pytest.mark.parametrize("matrix", [(DuckDBHarness,)], indirect=True, ids=["duckdb"])


@pytest.fixture
def data_dir(matrix: KillMatrix, tmp_path: Path) -> Path:
    """A data directory after an undisturbed run with seed 0."""
    data = tmp_path / "data"
    code, output = matrix.run(data, 0)
    assert code == 0, output
    return data


def assert_healed(matrix: KillMatrix, data_dir: Path, after: str, seed: int = 0) -> None:
    code, output = matrix.run(data_dir, seed)
    assert code == 0, output
    assert comparable(data_dir) == matrix.undisturbed(seed).files, after
    [harness] = matrix._harnesses
    matrix.assert_holds(harness, matrix.undisturbed(seed), after)


def flip_a_bit_of_a_value(staged: Path) -> None:
    content, stat = bytearray(staged.read_bytes()), staged.stat()
    column = pq.read_metadata(staged).row_group(0).column(0)
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    staged.write_bytes(content)
    os.utime(staged, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@duckdb_only
def test_damage_of_every_kind_is_healed_by_the_next_run(
    matrix: KillMatrix, data_dir: Path, prefect_home: Path
) -> None:
    [staged] = (data_dir / COLOR).glob("*-01.parquet")
    flip_a_bit_of_a_value(staged)
    with duckdb.connect(data_dir / "warehouse.duckdb") as connection:
        connection.execute(f"DELETE FROM {COLOR}_taxi_trips WHERE VendorID = 1")
    assert_healed(matrix, data_dir, "a bit of the staged file, and a ledger that speaks of other rows")

    for result in (prefect_home / "storage").rglob("*"):
        if result.is_file():
            result.write_bytes(result.read_bytes()[:100])
    for landed in (data_dir / "raw").rglob("*.gz"):
        landed.unlink()
    for path in data_dir.rglob("*.parquet"):
        path.unlink()
    assert_healed(matrix, data_dir, "what Prefect has cached cut off, and the files it speaks of gone")

    later = time.time() + ten_years
    for path in data_dir.rglob("*"):
        os.utime(path, (later, later))
    with duckdb.connect(data_dir / "warehouse.duckdb") as connection:
        connection.execute("UPDATE taxi_loads SET loaded_at = loaded_at + INTERVAL 10 YEAR")
    assert_healed(matrix, data_dir, "a clock that was ten years ahead, and was set right")


@duckdb_only
def test_a_warehouse_that_is_no_database_is_one_line_and_made_anew_once_it_is_out_of_the_way(
    matrix: KillMatrix, data_dir: Path
) -> None:
    warehouse = data_dir / "warehouse.duckdb"
    warehouse.write_bytes(b"\xaa" * warehouse.stat().st_size)
    code, output = matrix.run(data_dir, 0)
    assert code == 1
    [line] = [line for line in output.splitlines() if line.startswith("failed: ")]
    assert str(warehouse) in line
    assert "move it away" in line
    assert "Traceback" not in output
    warehouse.rename(warehouse.with_suffix(".away"))
    code, output = matrix.run(data_dir, 0)
    assert code == 0, output
    [harness] = matrix._harnesses
    matrix.assert_holds(harness, matrix.undisturbed(0), "a damaged warehouse")


@duckdb_only
@pytest.mark.parametrize("max_file_bytes", [50_000, 400_000], ids=["landing", "warehouse"])
def test_a_full_disk_is_one_line_and_leaves_the_old_month(
    matrix: KillMatrix, data_dir: Path, max_file_bytes: int
) -> None:
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        pytest.skip("make coverage: what it writes itself does not fit either, and it says so at length")
    code, output = matrix.run(data_dir, 1, max_file_bytes=max_file_bytes)
    assert code == 1, output
    [line] = [line for line in output.splitlines() if line.startswith("failed: ")]
    assert "File too large" in line
    assert "Traceback" not in output
    assert output.splitlines()[-1].startswith("log: "), output
    [harness] = matrix._harnesses
    matrix.assert_holds(harness, matrix.undisturbed(0), "a full disk")
    assert_healed(matrix, data_dir, "a full disk", seed=1)


@duckdb_only
def test_a_run_on_a_full_disk_is_one_line_and_the_next_one_with_room_goes_well(
    matrix: KillMatrix, small_disk: SmallDisk
) -> None:
    data_dir = small_disk.path / "data"
    for free_bytes in (0, 16_384, 300_000):
        small_disk.leave(free_bytes)
        code, output = matrix.run(data_dir, 1)
        assert code == 1, output
        [line] = [line for line in output.splitlines() if line.startswith("failed: ")]
        assert "No space left" in line
        assert f"{data_dir}/" in line
        assert "Traceback" not in output
        assert "Logging error" not in output
        assert output.splitlines()[-1].startswith("log: "), output
    small_disk.make_room()
    small_disk.make_read_only()
    code, output = matrix.run(data_dir, 1)
    assert (code, len(output.splitlines())) == (2, 1), output
    assert f"no permission to write to {data_dir}" in output
    small_disk.make_writable()
    code, output = matrix.run(data_dir, 1)
    assert code == 0, output
    assert comparable(data_dir) == matrix.undisturbed(1).files
