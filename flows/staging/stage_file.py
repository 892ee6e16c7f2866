"""Staging: a landed file becomes one Parquet file, typed, complete and counted, or nothing.

A CSV file gets three attempts, each only if the one before could not be trusted with it:

1. fast: Polars parses typed columns; for a file whose census says that every line is regular;
2. the same with whole numbers read as text, for files that write them as `1.0`;
3. careful: `flows.staging.csv_repair` first separates the valid lines from the rejects.

Polars' lazy frame is pulled in batches into DuckDB, which writes the Parquet file and counts what it
wrote; memory does not grow with the file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow.parquet as pq

from flows.errors import ReconciliationError, SchemaDrift, SourceCorrupt, TooManyRejects
from flows.runtime import (
    ProgressCallback,
    atomic_write,
    explain_full_disk,
    remove_temporary_files,
    temporary_path,
)
from flows.staging.csv_reader import (
    UNREADABLE,
    FastPathUnsupported,
    check_silent_misreads,
    check_text_lengths,
    read_csv,
)
from flows.staging.csv_repair import repair_csv
from flows.staging.header import check_declared_filled, match_header
from flows.staging.parquet_reader import read_parquet
from flows.staging.parquet_writer import WrittenParquet, write_parquet
from flows.staging.rejects import REJECTS_SUFFIX, Rejects
from flows.staging.staged_month import (
    CHECKSUM_SUFFIX,
    METADATA_KEY,
    StagedMonth,
    checksum,
    find_staged,
    load_staged,
    to_metadata,
)
from transforms.cleaning import conform
from transforms.dataset import ROW_NUMBER
from transforms.row_transforms import apply_row_transforms

if TYPE_CHECKING:
    from flows.sources import LandedFile
    from flows.staging.options import StagingOptions
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

BATCH_ROWS = 65_536
REPAIRED_SUFFIX = ".csv.gz"  # of the careful path's temporary file
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

    NOTE: the caller holds the month's lock; what killed runs left behind is removed.

    Args:
        landed: the verified source file.
        month: what it holds.
        directory: where the staged file goes; created if missing.
        options: how to stage it.
        force: stage it again even if an earlier file can be used.
        report: called with (rows staged, rows in the source).

    Returns:
        The staged month; the earlier one if it was staged from the same bytes in the same way.

    Raises:
        SchemaDrift: the columns are not the declared ones.
        TooManyRejects: too few rows fit; the file staged before stays.
        ReconciliationError: the counts do not agree.
        SourceCorrupt: the landed file was changed since it was verified.
        LocalStorageError: the disk is full or not writable.
    """
    if not landed.is_intact():
        raise SourceCorrupt(
            f"{landed.path} is not the file that was verified any more; run it again with --force"
        )
    path = directory / f"{month.stem}.parquet"
    for suffix in (".parquet", CHECKSUM_SUFFIX, REJECTS_SUFFIX, REPAIRED_SUFFIX):
        remove_temporary_files(path.with_suffix(suffix))
    if not force and (earlier := find_staged(path, landed, month, options)):
        return earlier
    with Rejects(path.with_suffix(REJECTS_SUFFIX)) as rejects, atomic_write(path) as temporary:
        _Stager(landed, month, path, options, rejects, report).write(temporary)
        rejects.commit()
        crc = checksum(temporary)
    with atomic_write(path.with_suffix(CHECKSUM_SUFFIX)) as temporary:
        temporary.write_text(crc + "\n")
    return load_staged(path, month, reused=False)


class _Stager:
    """Writes the Parquet file of one month and its rejects, and checks the counts."""

    def __init__(
        self,
        landed: LandedFile,
        month: TripMonth,
        path: Path,
        options: StagingOptions,
        rejects: Rejects,
        report: ProgressCallback | None,
    ) -> None:
        self._rejects = rejects
        self._landed, self._month, self._path, self._options = landed, month, path, options
        self._report: ProgressCallback = report or (lambda _done, _total: None)
        self._dataset = month.dataset
        self._match = match_header(landed, month, allow_new=options.allow_new_columns)
        self._rows_read = 0
        # Of an irregular CSV file an upper bound until its blank lines are known.
        self._source_rows = landed.most_rows
        if not self._source_rows:
            raise TooManyRejects(NO_ROWS)

    def write(self, target: Path) -> None:
        """Write the file by the first attempt that works; every row of the source must be accounted for."""
        is_parquet = self._landed.kind == "parquet"
        written = self._write_from_parquet(target) if is_parquet else self._write_from_any_csv(target)
        check_declared_filled(self._match, self._month, written.empty_columns)
        in_file = pq.read_metadata(target).num_rows
        if in_file != written.rows or self._source_rows != self._rows_read + self._rejects.count:
            raise ReconciliationError(
                f"{self._source_rows:,} rows in the source, {self._rows_read:,} read, "
                f"{self._rejects.count:,} rejected, {written.rows:,} written, {in_file:,} in the file; "
                "nothing is published. Run it again with --force; if it stays, please report it"
            )

    def _write_from_any_csv(self, target: Path) -> WrittenParquet:
        census = self._landed.census
        if census and census.is_regular(len(self._match.columns)) and not self._match.merged:
            for integers_as_text in (False, True):
                try:
                    return self._write_from_csv(self._landed.path, target, integers_as_text=integers_as_text)
                except FastPathUnsupported as reason:
                    logger.debug("%s: %s", self._month.label, reason)
        regular = temporary_path(self._path.with_suffix(REPAIRED_SUFFIX))
        try:
            with explain_full_disk(regular.parent):
                self._repair(regular)
            return self._write_from_csv(regular, target, integers_as_text=True, repaired=True)
        except FastPathUnsupported as error:
            raise ReconciliationError(
                f"the repaired file cannot be read ({error}); please report this with the file"
            ) from error
        finally:
            regular.unlink(missing_ok=True)

    def _write_from_csv(
        self, csv: Path, target: Path, *, integers_as_text: bool, repaired: bool = False
    ) -> WrittenParquet:
        try:
            frame = read_csv(
                csv,
                self._dataset,
                self._match,
                integers_as_text=integers_as_text,
                fractional_seconds=repaired,
            )
            written = self._write_rows([frame], target)
        except UNREADABLE as error:
            raise FastPathUnsupported(str(error)) from error
        if not repaired and self._rows_read != self._source_rows:
            raise FastPathUnsupported(f"{self._rows_read:,} rows read of {self._source_rows:,}")
        check_silent_misreads(self._dataset, written.statistics, repaired=repaired)
        return written

    def _repair(self, regular: Path) -> None:
        """Write the valid lines to `regular`, the others to the rejects; blank lines are no rows."""
        result = repair_csv(
            self._landed.path,
            regular,
            self._dataset,
            self._match,
            self._rejects,
            most_rejects=self._options.most_rejects(self._source_rows),
            file_month=self._month.first_day,
            report=lambda lines, _: self._report(lines, self._source_rows),
        )
        if result.lines != self._source_rows:
            raise ReconciliationError(
                f"{result.lines:,} lines were looked at, {self._source_rows:,} were counted "
                "when the file landed; run it again with --force"
            )
        self._source_rows -= result.blank + result.continued
        if not self._source_rows:
            raise TooManyRejects(NO_ROWS)
        self._check_rejects()

    def _check_rejects(self) -> None:
        self._rejects.check(self._options.most_rejects(self._source_rows), self._source_rows)

    def _write_from_parquet(self, target: Path) -> WrittenParquet:
        source = read_parquet(self._landed.path, self._dataset, self._match)
        try:
            for reject in source.rejects(self._options.most_rejects(self._source_rows)):
                self._rejects.add(reject)
            self._check_rejects()
            return self._write_rows(source.good(), target)
        except pl.exceptions.ComputeError as error:
            raise SourceCorrupt(
                f"the Parquet file is damaged ({error}); download it again with --force"
            ) from error

    def _write_rows(self, frames: Iterable[pl.LazyFrame], target: Path) -> WrittenParquet:
        self._rows_read, self._row_number = 0, -1
        schema = self._dataset.arrow_schema(self._match.new)
        metadata = to_metadata(
            self._landed,
            self._month,
            self._options,
            self._match,
            source_rows=self._source_rows,
            rejected_rows=self._rejects.count,
        )
        return write_parquet(target, schema, self._batches(frames), {METADATA_KEY: metadata})

    def _batches(self, frames: Iterable[pl.LazyFrame]) -> Iterator[pl.DataFrame]:
        """The staged columns of frames that have the file's columns, counted before they are transformed."""
        names = self._options.row_transforms
        for frame in frames:
            conformed = conform(frame, self._dataset, self._match, self._month.first_day)
            for batch in conformed.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
                if self._match.has_row_number:
                    self._check_row_numbers(batch[ROW_NUMBER])
                    batch = batch.drop(ROW_NUMBER)
                check_text_lengths(batch)
                self._rows_read += batch.height
                self._report(self._rows_read + self._rejects.count, self._source_rows)
                yield apply_row_transforms(batch.lazy(), names).collect() if names else batch

    def _check_row_numbers(self, numbers: pl.Series) -> None:
        """Refuse an unnamed first column that does not count the rows, with or without gaps."""
        if numbers.is_empty():
            return
        if numbers[0] <= self._row_number or not (numbers.diff().drop_nulls() > 0).all():
            raise SchemaDrift(
                f"the first column of {self._landed.path.name} has no name, and its values do not count the "
                "rows; give it a name in the header, or write the file without it (pandas: index=False)"
            )
        self._row_number = numbers[-1]
