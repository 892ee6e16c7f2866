"""DuckDB spills beyond its memory, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.runtime import in_memory_duckdb

if TYPE_CHECKING:
    from pathlib import Path

MANY_GROUPS = "SELECT count(*) FROM (SELECT hash(range) FROM range(2_000_000) GROUP BY ALL)"


def test_what_does_not_fit_is_spilled_next_to_the_file_and_removed(tmp_path: Path) -> None:
    file = tmp_path / "month.quality.json"
    with in_memory_duckdb(40, file) as connection:
        connection.execute("SET threads = 2")
        groups = connection.sql(MANY_GROUPS).fetchall()
        spilled = list(tmp_path.iterdir())
    assert groups == [(2_000_000,)]
    assert [path.name for path in spilled] == [".month.quality.json.spill"]
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_spilled_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".month.quality.json.spill" / "duckdb_temp_storage_DEFAULT-0.tmp"
    leftover.parent.mkdir()
    leftover.write_bytes(b"of a killed run")
    with in_memory_duckdb(128, tmp_path / "month.quality.json"):
        assert not leftover.exists()
