"""Staging: a landed file becomes one Parquet file, typed, complete and counted, or nothing.

A CSV file gets three attempts, each only if the one before could not be trusted with it:

1. fast: Polars parses typed columns; for a file whose census says that every line is regular;
2. the same with whole numbers read as text, for files that write them as `1.0`;
3. careful: `flows.staging.csv_repair` takes the lines apart first and collects rejects.

Polars' lazy frame is pulled in batches as Arrow into DuckDB, which writes the Parquet file and counts
what it wrote; memory does not grow with the file.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import polars as pl
import pyarrow.parquet as pq

from flows.errors import ReconciliationError, SourceCorrupt, TooManyRejects
from flows.runtime import atomic_write, explain_full_disk, remove_temporary_files, temporary_path
from flows.staging.csv_reader import UNREADABLE, FastPathUnsupported, read_csv, refuse_silent_misreading
from flows.staging.csv_repair import repair_csv
from flows.staging.header import check_row_transforms, match_header
from flows.staging.parquet_reader import read_parquet
from flows.staging.parquet_writer import write_parquet
from flows.staging.rejects import Reject, rejects_path, too_many_rejects, write_rejects
from flows.staging.staged_month import (
    METADATA_KEY,
    StagedMonth,
    StagingOptions,
    checksum,
    checksum_path,
    find_staged,
    schema_version,
    to_metadata,
)
from transforms.cleaning import apply_row_transforms, conform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from flows.runtime import ProgressCallback
    from flows.sources import LandedFile
    from flows.staging.parquet_writer import Written
    from transforms.trip_month import TripMonth

__all__ = [
    "StagedMonth",
    "StagingOptions",
    "check_row_transforms",
    "find_staged",
    "rejects_path",
    "schema_version",
    "stage",
]

logger = logging.getLogger(__name__)

BATCH_ROWS = 65_536
NO_ROWS = "the file has a header and no rows; see whether the source has it"


def stage(
    landed: LandedFile,
    month: TripMonth,
    directory: Path,
    options: StagingOptions,
    *,
    force: bool = False,
    report: ProgressCallback | None = None,
) -> StagedMonth:
    """Turn a landed file into `{stem}.parquet`, and `{stem}.rejects.parquet` if there are rejects.

    A month that was staged before from the same bytes in the same way is returned as it is. The
    caller holds the month's lock: what killed runs left behind is removed.

    Args:
        landed: the verified source file.
        month: what it holds.
        directory: where the staged file goes; made if missing.
        options: see `StagingOptions`.
        force: stage again in any case.
        report: called with (rows staged, rows in the source).

    Raises:
        SchemaDrift: the columns are not the declared ones.
        TooManyRejects: too few rows fit; the file staged before stays.
        ReconciliationError: the counts do not agree.
        SourceCorrupt: the landed file was changed since it was verified.
        LocalStorageError: the disk refused.
    """
    if not landed.is_intact():
        raise SourceCorrupt(
            f"{landed.path} is not the file that was verified any more; run it again with --force"
        )
    path = directory / f"{month.stem}.parquet"
    for written in (path, checksum_path(path), rejects_path(path), _repaired_csv(path)):
        remove_temporary_files(written)
    if not force and (before := find_staged(path, landed, month, options)):
        return before
    return _Staging(landed, month, path, options, report).run()


def _repaired_csv(staged_path: Path) -> Path:
    """The name after which the careful path calls its scratch file."""
    return staged_path.with_suffix(".csv.gz")


class _Staging:
    """One month being staged."""

    def __init__(
        self,
        landed: LandedFile,
        month: TripMonth,
        path: Path,
        options: StagingOptions,
        report: ProgressCallback | None,
    ) -> None:
        self._landed, self._month, self._path = landed, month, path
        self._options, self._report = options, report
        self._dataset = month.dataset
        self._match = match_header(landed, month, allow_new=options.allow_new_columns)
        self._source_rows = self._count_source_rows()
        self._rejects: list[Reject] = []

    def run(self) -> StagedMonth:
        with atomic_write(self._path) as temporary:
            rows, rows_read = self._write(temporary)
            self._reconcile(rows, rows_read, temporary)
            write_rejects(rejects_path(self._path), self._rejects)
            seal = checksum(temporary)
        with atomic_write(checksum_path(self._path)) as temporary:
            temporary.write_text(seal + "\n")
        return StagedMonth(
            month=self._month,
            path=self._path,
            rows=rows,
            source_rows=self._source_rows,
            rejected_rows=len(self._rejects),
            dropped_rows=rows_read - rows,
            rejects_path=rejects_path(self._path) if self._rejects else None,
            source=self._landed.url,
            source_sha256=self._landed.sha256,
            schema_version=schema_version(self._month),
            row_transforms=self._options.row_transforms,
            new_columns=self._match.new,
            missing_columns=self._match.missing,
        )

    def _count_source_rows(self) -> int:
        """Rows in the source; for an irregular CSV an upper bound until its blank lines are known."""
        census = self._landed.census
        rows = census.lines - 1 if census else self._landed.rows
        if not rows:
            raise TooManyRejects(NO_ROWS)
        return rows

    def _write(self, temporary: Path) -> tuple[int, int]:
        """Write the Parquet file by the first attempt that works; returns rows staged and read."""
        if self._landed.kind == "parquet":
            return self._write_from_parquet(temporary)
        census = self._landed.census
        if census and census.is_regular(len(self._match.columns)):
            for integers_as_text in (False, True):
                try:
                    return self._write_from_csv(
                        self._landed.path, temporary, integers_as_text=integers_as_text
                    )
                except FastPathUnsupported as reason:
                    logger.debug("%s: %s", self._month.label, reason)
        return self._write_carefully(temporary)

    def _write_from_csv(
        self, csv: Path, temporary: Path, *, integers_as_text: bool, repaired: bool = False
    ) -> tuple[int, int]:
        try:
            frame = read_csv(
                csv,
                self._dataset,
                self._match,
                integers_as_text=integers_as_text,
                fractional_seconds=repaired,
            )
            written, rows_read = self._copy([frame], temporary)
        except UNREADABLE as error:
            raise FastPathUnsupported(str(error)) from error
        if not repaired and rows_read != self._source_rows:
            raise FastPathUnsupported(f"{rows_read:,} rows read of {self._source_rows:,}")
        refuse_silent_misreading(self._dataset, written.statistics)
        return written.rows, rows_read

    def _write_carefully(self, temporary: Path) -> tuple[int, int]:
        regular = temporary_path(_repaired_csv(self._path))
        try:
            with explain_full_disk(regular.parent):
                self._repair(regular)
            return self._write_from_csv(regular, temporary, integers_as_text=True, repaired=True)
        except FastPathUnsupported as error:
            raise ReconciliationError(
                f"the repaired file cannot be read ({error}); please report this with the file"
            ) from error
        finally:
            regular.unlink(missing_ok=True)

    def _repair(self, regular: Path) -> None:
        """Write the lines that fit to `regular`; from here on blank lines are no rows any more."""
        repair = repair_csv(
            self._landed.path,
            regular,
            self._dataset,
            self._match,
            most_rejects=self._options.most_rejects(self._source_rows),
            report=self._report and self._report_lines,
        )
        if repair.lines != self._source_rows:
            raise ReconciliationError(
                f"{repair.lines:,} lines were looked at, {self._source_rows:,} were counted "
                "when the file landed; run it again with --force"
            )
        self._source_rows -= repair.blank + repair.continued
        self._rejects = repair.rejects
        if not self._source_rows:
            raise TooManyRejects(NO_ROWS)
        most = self._options.most_rejects(self._source_rows)
        if not repair.good or len(repair.rejects) > most:
            raise too_many_rejects(repair.rejects, most)

    def _report_lines(self, done: int, _: int | None) -> None:
        if self._report:
            self._report(done, self._source_rows)

    def _write_from_parquet(self, temporary: Path) -> tuple[int, int]:
        source = read_parquet(self._landed.path, self._dataset, self._match)
        most = self._options.most_rejects(self._source_rows)
        try:
            self._rejects = source.rejects(most)
            if len(self._rejects) > most or len(self._rejects) == self._source_rows:
                raise too_many_rejects(self._rejects, most)
            written, rows_read = self._copy(source.good(), temporary)
        except pl.exceptions.ComputeError as error:
            raise SourceCorrupt(
                f"the Parquet file is damaged ({error}); download it again with --force"
            ) from error
        return written.rows, rows_read

    def _copy(self, frames: Iterable[pl.LazyFrame], temporary: Path) -> tuple[Written, int]:
        """Write frames of the file's columns as Parquet; what was written, and rows read."""
        schema = self._dataset.arrow_schema(self._match.new)
        rows_read = 0

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal rows_read
            for part in self._parts(frames):
                rows_read += part.height
                kept = self._transformed(part)
                if self._report:
                    self._report(rows_read + len(self._rejects), self._source_rows)
                yield from _to_arrow(kept, schema)

        metadata = to_metadata(
            self._landed,
            self._month,
            self._options,
            self._match,
            source_rows=self._source_rows,
            rejected_rows=len(self._rejects),
        )
        return write_parquet(temporary, schema, batches(), {METADATA_KEY: metadata}), rows_read

    def _parts(self, frames: Iterable[pl.LazyFrame]) -> Iterator[pl.DataFrame]:
        for frame in frames:
            conformed = conform(frame, self._dataset, self._match, self._month.first_day)
            yield from conformed.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)

    def _transformed(self, part: pl.DataFrame) -> pl.DataFrame:
        if not self._options.row_transforms:
            return part
        return apply_row_transforms(part.lazy(), self._options.row_transforms).collect()

    def _reconcile(self, rows: int, rows_read: int, temporary: Path) -> None:
        """Rows in the source must equal rows staged, rejected and dropped; and the file must agree."""
        in_file = pq.read_metadata(temporary).num_rows
        if in_file != rows or self._source_rows != rows_read + len(self._rejects):
            raise ReconciliationError(
                f"{self._source_rows:,} rows in the source, {rows_read:,} read, "
                f"{len(self._rejects):,} rejected, {rows:,} written, {in_file:,} in the file; "
                "nothing is published. Run it again with --force; if it stays, please report it"
            )


def _to_arrow(frame: pl.DataFrame, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    # The oldest level: plain strings instead of string views, which not every reader knows.
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    yield from table.cast(schema).to_batches()
