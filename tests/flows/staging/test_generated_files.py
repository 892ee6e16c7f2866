"""Thousands of generated files, each staged twice: as it is, and so that the other path has to read it.

Three thousand in `make test`, a hundred thousand in `make torture`. To look at one of them:
`PYTHONPATH=tests python -c "from support.generated_files import generate; print(generate(4711))"`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from support.generated_files import GeneratedFile, generate
from support.torture import TORTURE, note_sum, share

from flows.errors import TooManyRejects
from flows.sources import LandedFile
from flows.sources.inspection import Inspector, parquet_rows
from flows.staging import StagingOptions, parquet_writer, stage, stage_file

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES, SHARDS = share(100_000) if TORTURE else 3_000, 8
OPTIONS = StagingOptions(max_reject_ratio=1.0)


class Bench:
    """Stages one file after the other, always under the same names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.counts = Counter[str]()

    def stage(self, file: GeneratedFile, content: bytes) -> tuple[list[tuple], list[int]] | None:
        """The rows and the numbers of the rejected lines; None if no row fits."""
        self.counts["stagings"] += 1
        try:
            staged = stage(
                self._landed(content), file.month, self._directory / file.month.color, OPTIONS, force=True
            )
        except TooManyRejects:
            self.counts["months refused"] += 1
            return None
        assert staged.source_rows == staged.rows + staged.rejected_rows, file.number
        table = pq.ParquetFile(staged.path).read(use_threads=False)
        values = [table[name].to_pylist() for name in file.names]
        others = [name for name in table.column_names if name not in {*file.names, "file_month"}]
        assert all(table[name].null_count == table.num_rows for name in others), file.number
        rejects = pl.read_parquet(staged.rejects_path) if staged.rejects_path else None
        assert rejects is None or rejects["reason"].str.len_bytes().min(), file.number
        lines = [] if rejects is None else rejects["line"].to_list()
        self.counts.update(rows=table.num_rows, rejects=len(lines))
        return list(zip(*values, strict=True)), lines

    def _landed(self, content: bytes) -> LandedFile:
        """As a download leaves it, without the download."""
        path = self._directory / "trips"
        path.write_bytes(content)
        inspector = Inspector(len(content) + 2**20)
        inspector.feed(content)
        found = inspector.finish()
        return LandedFile(
            path=path,
            url=path.as_uri(),
            identity="",
            version=None,
            kind=found.kind,
            bytes=found.bytes,
            sha256=found.sha256,
            header=found.header,
            census=found.census,
            rows=parquet_rows(path) if found.kind == "parquet" else None,
            modified_ns=path.stat().st_mtime_ns,
        )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench in memory whose files are all written by one DuckDB: to open one takes longer than the rest."""
    memory = Path("/dev/shm")
    directory = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path)
    made, repair_csv = Bench(Path(directory)), stage_file.repair_csv

    def careful(*args: object, **kwargs: object) -> object:
        made.counts["read by the careful path"] += 1
        return repair_csv(*args, **kwargs)

    with duckdb.connect(config={"threads": 1}) as connection:
        kept = contextlib.contextmanager(lambda *_: (yield connection.cursor()))
        monkeypatch.setattr(parquet_writer, "in_memory_duckdb", kept)
        monkeypatch.setattr(stage_file, "repair_csv", careful)
        yield made
    shutil.rmtree(directory)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_file_is_its_rows_and_rejects_whichever_path_reads_it(
    bench: Bench, shard: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for number in range(shard, FILES, SHARDS):
        file = generate(number)
        assert_read(file, bench.stage(file, file.content), file.bad, file.spanned)
        if file.rows:
            assert_read(file, bench.stage(file, file.other), set())
        bench.counts.update(files=1, **{file.kind: 1})
    by_careful_path = bench.counts["read by the careful path"] / bench.counts["stagings"]
    assert 0.2 < by_careful_path < 0.8, "both paths are tested"
    note_sum("generated files", bench.counts, shard, tmp_path_factory)


def assert_read(
    file: GeneratedFile, read: tuple[list[tuple], list[int]] | None, bad: AbstractSet[int], spanned: int = 0
) -> None:
    """Nothing is lost and nothing is made up: the rows are exactly the good lines, the rejects the others."""
    if read is None:
        assert not file.rows, f"file {file.number} has rows, and was refused"
        return
    rows, rejected = read
    assert repr(rows) == repr(file.rows), f"file {file.number}: other rows"
    assert {*rejected} >= bad, f"file {file.number}: rejects {rejected}, not {bad}"
    assert len(bad) <= len(rejected) <= len(bad) + spanned, (
        f"file {file.number}: rejects {rejected}, not {bad}"
    )
