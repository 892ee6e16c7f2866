"""A staged month: its numbers, the metadata in its file, and whether it can be used again."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib

from flows.staging.rejects import REJECTS_SUFFIX

if TYPE_CHECKING:
    from flows.sources import LandedFile
    from flows.staging.options import StagingOptions
    from transforms.dataset import HeaderMatch
    from transforms.trip_month import TripMonth

STAGING_VERSION = 2
"""Raise it when the same source bytes would be staged differently; every month is then staged again."""

METADATA_KEY = "taxi_etl"
CHECKSUM_SUFFIX = ".parquet.crc32"
"""Of the checksum next to a staged file, in place of `.parquet`."""

CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class StagedMonth:
    """A month as one Parquet file, and its numbers.

    NOTE: `source_rows == rows + rejected_rows + dropped_rows`.

    Attributes:
        month: the dataset and month.
        path: the Parquet file.
        rows: rows in it.
        source_rows: rows the source file has, counted independently of the reader.
        rejected_rows: rows that did not fit; they are in `rejects_path`.
        dropped_rows: rows that the row transforms dropped.
        rejects_path: None if there are no rejects.
        source: URL of the source file.
        source_sha256: checksum of its bytes.
        schema_version: of the dataset's declaration and of the staging.
        row_transforms: names of those applied, in order.
        new_columns: columns that not every month has: historic ones, and undeclared ones as text.
        missing_columns: declared columns that the source lacks; null in every row.
        reused: whether it was staged earlier, from the same bytes in the same way.
        odd: rows by what is odd about them, see `transforms.quality`; empty until they have been counted.
        warnings: measures beyond their `warn` threshold, in words; see `transforms.gates`.
    """

    month: TripMonth
    path: Path
    rows: int
    source_rows: int
    rejected_rows: int
    dropped_rows: int
    rejects_path: Path | None
    source: str
    source_sha256: str
    schema_version: str
    row_transforms: tuple[str, ...] = ()
    new_columns: tuple[str, ...] = ()
    missing_columns: tuple[str, ...] = ()
    reused: bool = False
    odd: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()


def schema_version(month: TripMonth) -> str:
    """Combine the versions of the staging and of a dataset's declaration.

    Args:
        month: whose dataset is meant.

    Returns:
        The version that a month staged now gets, such as `2.c1767bc04182`.
    """
    return f"{STAGING_VERSION}.{month.dataset.schema_version}"


def to_metadata(
    landed: LandedFile,
    month: TripMonth,
    options: StagingOptions,
    match: HeaderMatch,
    *,
    source_rows: int,
    rejected_rows: int,
) -> str:
    """Write the metadata that a staged file carries in its footer, see `load_staged`.

    Args:
        landed: the source file.
        month: what it holds.
        options: how it was staged.
        match: its header.
        source_rows: rows in it.
        rejected_rows: rows of it that were rejected.

    Returns:
        JSON, the value of `METADATA_KEY`.
    """
    return json.dumps(
        {
            "source": landed.url,
            "source_sha256": landed.sha256,
            "schema_version": schema_version(month),
            "file_month": month.iso,
            "row_transforms": options.row_transforms,
            "new_columns": match.new,
            "missing_columns": match.missing,
            "source_rows": source_rows,
            "rejected_rows": rejected_rows,
            "staged_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
    )


def metadata_of(staged: StagedMonth) -> dict[str, str]:
    """Write the same metadata for a file that is made from a staged one.

    Args:
        staged: the month in the new file; its number of rows is not part of the metadata.

    Returns:
        Key and value for the footer.
    """
    names = ("source", "source_sha256", "schema_version", "row_transforms", "new_columns", "missing_columns")
    numbers = {"source_rows": staged.source_rows, "rejected_rows": staged.rejected_rows}
    return {METADATA_KEY: json.dumps({name: getattr(staged, name) for name in names} | numbers)}


def load_staged(path: Path, month: TripMonth, *, reused: bool) -> StagedMonth:
    """Read the numbers of a staged file from its footer.

    Args:
        path: the Parquet file.
        month: what it holds.
        reused: whether it was staged earlier.

    Returns:
        The month; whether its bytes are intact is not checked.

    Raises:
        OSError, pyarrow.ArrowException: there is no file, or it is damaged.
        KeyError, TypeError, ValueError: it was not written by the staging.
    """
    footer = pq.read_metadata(path)
    metadata = json.loads((footer.metadata or {})[METADATA_KEY.encode()])
    rejected = metadata["rejected_rows"]
    return StagedMonth(
        month=month,
        path=path,
        rows=footer.num_rows,
        source_rows=metadata["source_rows"],
        rejected_rows=rejected,
        dropped_rows=metadata["source_rows"] - rejected - footer.num_rows,
        rejects_path=path.with_suffix(REJECTS_SUFFIX) if rejected else None,
        source=metadata["source"],
        source_sha256=metadata["source_sha256"],
        schema_version=metadata["schema_version"],
        row_transforms=tuple(metadata["row_transforms"]),
        new_columns=tuple(metadata["new_columns"]),
        missing_columns=tuple(metadata["missing_columns"]),
        reused=reused,
    )


def read_staged(path: Path, month: TripMonth) -> StagedMonth | None:
    """Read the numbers of a month that may have been staged earlier.

    Args:
        path: the Parquet file.
        month: what it should hold.

    Returns:
        The month; None if there is no whole file that the staging wrote.
    """
    try:
        return load_staged(path, month, reused=True)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def find_staged(
    path: Path, landed: LandedFile, month: TripMonth, options: StagingOptions, *, verify: bool = True
) -> StagedMonth | None:
    """Find a month that was staged earlier and can be used again.

    Args:
        path: the Parquet file.
        landed: the source file.
        month: what it holds.
        options: how it is to be staged.
        verify: read the whole file, to compare its checksum.

    Returns:
        The month; None if there is none, it is damaged, or it would be staged differently now.
    """
    staged = read_staged(path, month)
    if staged is None:
        return None
    is_reusable = (
        staged.source_sha256 == landed.sha256
        and staged.schema_version == schema_version(month)
        and staged.row_transforms == options.row_transforms
        and staged.rejected_rows <= options.most_rejects(staged.source_rows)
        and (options.allow_new_columns or not month.dataset.undeclared(staged.new_columns))
        and (staged.rejects_path is None or staged.rejects_path.exists())
        and (not verify or checksum_matches(path))
    )
    return replace(staged, source=landed.url) if is_reusable else None


def checksum(path: Path) -> str:
    """Compute the CRC-32 of a file's bytes; about 5 ms for a month of a million rows.

    Args:
        path: the file.

    Returns:
        Eight hex digits.
    """
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            crc = isal_zlib.crc32(chunk, crc)
    return f"{crc:08x}"


def checksum_matches(path: Path) -> bool:
    """Check that a staged file has the bytes that were written.

    Its footer alone does not tell: DuckDB writes pages without checksums, and readers do not notice.

    Args:
        path: the staged file.

    Returns:
        False if the checksum differs, or either file cannot be read.
    """
    try:
        return path.with_suffix(CHECKSUM_SUFFIX).read_text().strip() == checksum(path)
    except (OSError, ValueError):
        return False
