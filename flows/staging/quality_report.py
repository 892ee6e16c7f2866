"""The quality report of a staged month: unusual values, counted by DuckDB and stored next to the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from flows.errors import QualityReportFailed
from flows.runtime import atomic_write, in_memory_duckdb, remove_temporary_files
from flows.settings import get_settings
from transforms.dataset import FILE_MONTH
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


def report_quality(staged: StagedMonth) -> QualityReport:
    """Compute the report of a staged month and store it next to the file, or read the stored one back.

    NOTE: the caller holds the month's lock; what killed runs left behind is removed.

    Args:
        staged: the month.

    Returns:
        The report of this very file.

    Raises:
        QualityReportFailed: DuckDB cannot compute it; the month itself is whole.
        LocalStorageError: the disk is full.
    """
    path = staged.path.with_suffix(".quality.json")
    identity: dict[str, Any] = {
        "dataset": staged.month.color,
        "file_month": staged.month.iso,
        "source_sha256": staged.source_sha256,
        "schema_version": staged.schema_version,
        "row_transforms": list(staged.row_transforms),
        "rows": staged.rows,
        "rejected_rows": staged.rejected_rows,
    }
    try:
        stored = json.loads(path.read_text())
        if staged.reused and stored == stored | identity:
            return QualityReport(**stored)
    except (OSError, ValueError, TypeError):
        pass  # none yet, or of another version: compute it
    remove_temporary_files(path)
    try:
        report = QualityReport(**identity, **_measure(staged))
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0]
        raise QualityReportFailed(
            f"the quality report cannot be computed ({reason}); the month itself is whole. Run it again for "
            "the report alone"
        ) from error
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


def _measure(staged: StagedMonth) -> dict[str, Any]:
    dataset = staged.month.dataset
    measures = quality_measures(dataset)
    columns = [name for name in dataset.types(staged.new_columns) if name != FILE_MONTH]
    names = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in columns]
    path = staged.path.with_suffix(".quality.json")
    with in_memory_duckdb(get_settings().duckdb_memory_mb, path) as connection:
        connection.execute("SET preserve_insertion_order = false")

        def count(expressions: Iterable[str]) -> Sequence[int]:
            query = f"SELECT {', '.join(expressions)} FROM read_parquet(?)"
            [counts] = connection.execute(query, [str(staged.path)]).fetchall()
            return counts

        return {
            "measures": dict(zip(measures, count(measures.values()), strict=True)),
            "exact_duplicates": _count_duplicates(connection, staged, names),
            # By itself, because DuckDB answers it from the statistics in the footer.
            "nulls": dict(zip(columns, count(f"count(*) - count({name})" for name in names), strict=True)),
        }


def _count_duplicates(
    connection: duckdb.DuckDBPyConnection, staged: StagedMonth, names: Sequence[str]
) -> int:
    """The rows after the first of each group with equal hashes."""
    query = f"SELECT hash({', '.join(names)}) AS h FROM read_parquet(?)"
    path = [str(staged.path)]
    if staged.rows > MOST_HASHES_IN_MEMORY:
        [[duplicates]] = connection.execute(
            f"SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (SELECT count(*) AS n FROM ({query}) GROUP BY h)",
            path,
        ).fetchall()
        return duplicates
    hashes, end = np.empty(staged.rows, np.uint64), 0
    for batch in connection.sql(query, params=path).to_arrow_reader(HASHES_IN_BATCH):
        start, end = end, end + batch.num_rows
        hashes[start:end] = np.from_dlpack(batch.column(0))  # to_numpy would import pandas
    hashes = hashes[:end]
    hashes.sort()
    return int(np.count_nonzero(hashes[1:] == hashes[:-1]))
