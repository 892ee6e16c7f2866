"""The quality report of a staged month: what is odd in it, counted by DuckDB, kept beside the file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from flows.runtime import atomic_write, remove_temporary_files
from transforms.dataset import FILE_MONTH
from transforms.quality import quality_measures

if TYPE_CHECKING:
    from pathlib import Path

    from flows.staging.staged_month import StagedMonth

# Counting duplicates keeps a hash of every row; beyond this DuckDB spills to disk beside the file.
MEMORY_LIMIT = "256MB"


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What is odd in a month. Every such row is loaded; the report only counts.

    Attributes:
        dataset, file_month: which month (`YYYY-MM`).
        source_sha256, schema_version, row_transforms: of the staged file it speaks of.
        rows, rejected_rows: loaded and refused.
        measures: rows by what is odd about them; see `transforms.quality`.
        exact_duplicates: rows beyond the first of each group that is equal in every column, told by a
            64-bit hash of the row.
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
        odd = {**self.measures, "exact_duplicates": self.exact_duplicates}
        found = [f"{name} {count:,}" for name, count in odd.items() if count]
        return ", ".join(found) or "nothing odd"

    def speaks_of(self, staged: StagedMonth) -> bool:
        """Whether it was computed from this very staged file."""
        mine = (self.source_sha256, self.schema_version, self.row_transforms, self.rows)
        return mine == (
            staged.source_sha256,
            staged.schema_version,
            list(staged.row_transforms),
            staged.rows,
        )

    def table(self) -> list[dict[str, Any]]:
        """One row per measure and per column with nulls, for a table on a page."""
        odd = {**self.measures, "exact_duplicates": self.exact_duplicates}
        nulls = {f"null {name}": count for name, count in self.nulls.items() if count}
        return [
            {"measure": name, "rows": count, "share": f"{count / self.rows:.4%}"}
            for name, count in {**odd, **nulls}.items()
        ]


def quality_path(staged_path: Path) -> Path:
    """Where the report of a staged file is kept."""
    return staged_path.with_suffix(".quality.json")


def report_quality(staged: StagedMonth) -> QualityReport:
    """The report of a staged month: computed once and stored, read back afterwards."""
    path = quality_path(staged.path)
    try:
        report = QualityReport(**json.loads(path.read_text()))
        if staged.reused and report.speaks_of(staged):
            return report
    except (OSError, ValueError, TypeError):
        pass  # none yet, or of another version: compute it
    remove_temporary_files(path)  # the caller holds the month's lock
    report = _compute(staged)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


def _compute(staged: StagedMonth) -> QualityReport:
    dataset = staged.month.dataset
    measures = quality_measures(dataset)
    columns = [name for name in dataset.types(staged.new_columns) if name != FILE_MONTH]
    names = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in columns]
    aggregates = [*measures.values(), *(f"count(*) - count({name})" for name in names)]
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": str(staged.path.parent / ".quality.tmp"),
        "preserve_insertion_order": False,
    }
    with duckdb.connect(config=config) as connection:
        counts: Any = connection.execute(
            f"SELECT {', '.join(aggregates)} FROM read_parquet(?)", [str(staged.path)]
        ).fetchone()
        duplicates: Any = connection.execute(
            "SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (SELECT count(*) AS n FROM (SELECT "
            f"hash({', '.join(names)}) AS h FROM read_parquet(?)) GROUP BY h HAVING n > 1)",
            [str(staged.path)],
        ).fetchone()
    return QualityReport(
        dataset=dataset.name,
        file_month=staged.month.iso,
        source_sha256=staged.source_sha256,
        schema_version=staged.schema_version,
        row_transforms=list(staged.row_transforms),
        rows=staged.rows,
        rejected_rows=staged.rejected_rows,
        measures=dict(zip(measures, counts[: len(measures)], strict=True)),
        exact_duplicates=duplicates[0],
        nulls=dict(zip(columns, counts[len(measures) :], strict=True)),
    )
