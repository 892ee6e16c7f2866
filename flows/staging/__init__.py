"""A landed file becomes one Parquet file, typed, complete and counted."""

from typing import TYPE_CHECKING

from flows.runtime import lazy_face

if TYPE_CHECKING:
    from flows.staging.options import StagingOptions, check_row_transforms
    from flows.staging.parquet_writer import write_parquet
    from flows.staging.quality_report import (
        QualityReport,
        count_duplicates,
        count_rows,
        null_counts,
        report_quality,
    )
    from flows.staging.stage_file import stage
    from flows.staging.staged_month import (
        StagedMonth,
        find_staged,
        metadata_of,
        read_staged,
        schema_version,
    )

__getattr__ = lazy_face(__name__)

__all__ = [
    "QualityReport",
    "StagedMonth",
    "StagingOptions",
    "check_row_transforms",
    "count_duplicates",
    "count_rows",
    "find_staged",
    "metadata_of",
    "null_counts",
    "read_staged",
    "report_quality",
    "schema_version",
    "stage",
    "write_parquet",
]
