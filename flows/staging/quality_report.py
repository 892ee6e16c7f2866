"""The quality report of a staged month: unusual values, counted by DuckDB and stored next to the file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from flows.errors import QualityReportFailed
from flows.runtime import atomic_write, in_memory_duckdb, remove_temporary_files
from flows.settings import get_settings
from transforms.dataset import FILE_MONTH
from transforms.gates import RowCounts
from transforms.quality import quality_measures

if TYPE_CHECKING:
    from flows.staging.staged_month import StagedMonth

# The duplicates are counted in an array of the rows' hashes, 8 bytes each, which NumPy sorts with a tenth of
# the CPU that DuckDB's GROUP BY takes. Larger files than any real month are left to DuckDB, which spills.
MOST_HASHES_IN_MEMORY = 2**25
HASHES_IN_BATCH = 2**17


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What is unusual in a month. All these rows are loaded; the report only counts them.

    Attributes:
        dataset, file_month: which month (`YYYY-MM`).
        source_sha256, schema_version, row_transforms: of the staged file.
        rows, rejected_rows: rows loaded and refused.
        measures: rows by what is unusual about them; see `transforms.quality`.
        exact_duplicates: rows after the first of each group that is equal in every column, by a 64-bit
            hash of the row.
        nulls: rows without a value, by column.
    """

    dataset: str
    file_month: str
    source_sha256: str
    schema_version: str
    row_transforms: list[str]
    rows: int
    rejected_rows: int
    measures: dict[str, int]
    exact_duplicates: int
    nulls: dict[str, int]

    @property
    def headline(self) -> str:
        """The non-zero measures in one line."""
        counts = [f"{name} {count:,}" for name, count in self.counts.items() if count]
        return ", ".join(counts) or "nothing odd"

    @property
    def counts(self) -> dict[str, int]:
        """Rows by measure, with the exact duplicates."""
        return {**self.measures, "exact_duplicates": self.exact_duplicates}

    def table(self) -> list[dict[str, Any]]:
        """One row per measure and per column with nulls: `measure`, `rows` and `share` as text."""
        nulls = {f"null {name}": count for name, count in self.nulls.items() if count}
        return [
            {"measure": name, "rows": count, "share": f"{count / self.rows:.4%}"}
            for name, count in {**self.counts, **nulls}.items()
        ]


def count_rows(staged: StagedMonth) -> RowCounts:
    """Count what is odd in a staged month, and its nulls; or take the numbers from its stored report.

    Args:
        staged: the month.

    Raises:
        QualityReportFailed: DuckDB cannot count.
        LocalStorageError: the file is gone or damaged.
    """
    stored = _stored_report(staged)
    if stored:
        odd, nulls = stored.measures, stored.nulls
    else:
        measures = quality_measures(staged.month.dataset)
        query = f"SELECT {', '.join(measures.values())} FROM read_parquet(?)"
        with _connected(staged) as connection:
            [values] = connection.execute(query, [str(staged.path)]).fetchall()
        odd = dict(zip(measures, values, strict=True))
        nulls = null_counts(pq.read_metadata(staged.path))
    return RowCounts(staged.rows, staged.source_rows, staged.rejected_rows, odd, nulls)


def null_counts(footer: pq.FileMetaData) -> dict[str, int]:
    """The rows without a value in each column of a staged file, by the statistics in its footer.

    Args:
        footer: as the staging wrote it.
    """
    counts = dict.fromkeys(footer.schema.names, 0)
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for at, name in enumerate(counts):
            counts[name] += group.column(at).statistics.null_count
    del counts[FILE_MONTH]
    return counts


def report_quality(staged: StagedMonth, counts: RowCounts | None = None) -> QualityReport:
    """Compute the report of a staged month and store it next to the file, or read the stored one back.

    NOTE: the caller holds the month's lock; what killed runs left behind is removed.

    Args:
        staged: the month.
        counts: of the month, if they are known.

    Returns:
        The report of this very file.

    Raises:
        QualityReportFailed: DuckDB cannot compute it; the month itself is whole.
        LocalStorageError: the disk is full.
    """
    if stored := _stored_report(staged):
        return stored
    path = _report_path(staged)
    remove_temporary_files(path)
    counts = counts or count_rows(staged)
    report = QualityReport(
        **_identity(staged),
        measures=dict(counts.odd),
        exact_duplicates=count_duplicates(staged),
        nulls=dict(counts.nulls),
    )
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


def count_duplicates(staged: StagedMonth) -> int:
    """Count the rows after the first of each group with equal hashes.

    Args:
        staged: the month.

    Raises:
        QualityReportFailed: DuckDB cannot count.
    """
    columns = [name for name in staged.month.dataset.types(staged.new_columns) if name != FILE_MONTH]
    names = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in columns]
    query, path = f"SELECT hash({', '.join(names)}) AS h FROM read_parquet(?)", [str(staged.path)]
    with _connected(staged) as connection:
        if staged.rows > MOST_HASHES_IN_MEMORY:
            groups = f"SELECT count(*) AS n FROM ({query}) GROUP BY h"
            total = f"SELECT coalesce(sum(n - 1), 0)::BIGINT FROM ({groups})"
            [[duplicates]] = connection.execute(total, path).fetchall()
            return duplicates
        hashes, end = np.empty(staged.rows, np.uint64), 0
        for batch in connection.sql(query, params=path).to_arrow_reader(HASHES_IN_BATCH):
            start, end = end, end + batch.num_rows
            hashes[start:end] = np.from_dlpack(batch.column(0))  # to_numpy would import pandas
    hashes = hashes[:end]
    hashes.sort()
    return int(np.count_nonzero(hashes[1:] == hashes[:-1]))


def _report_path(staged: StagedMonth) -> Path:
    return staged.path.with_suffix(".quality.json")


def _identity(staged: StagedMonth) -> dict[str, Any]:
    return {
        "dataset": staged.month.color,
        "file_month": staged.month.iso,
        "source_sha256": staged.source_sha256,
        "schema_version": staged.schema_version,
        "row_transforms": list(staged.row_transforms),
        "rows": staged.rows,
        "rejected_rows": staged.rejected_rows,
    }


def _stored_report(staged: StagedMonth) -> QualityReport | None:
    """The report that an earlier run has stored; None: none yet, or of another file or version."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        stored = json.loads(_report_path(staged).read_text())
        if staged.reused and stored == stored | _identity(staged):
            return QualityReport(**stored)
    return None


@contextlib.contextmanager
def _connected(staged: StagedMonth) -> Generator[duckdb.DuckDBPyConnection]:
    try:
        with in_memory_duckdb(get_settings().duckdb_memory_mb, _report_path(staged)) as connection:
            connection.execute("SET preserve_insertion_order = false")
            yield connection
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0]
        raise QualityReportFailed(
            f"the quality of the month cannot be measured ({reason}); the staged file is whole. Run it again"
        ) from error
