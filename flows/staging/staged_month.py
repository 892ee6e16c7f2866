"""A staged month: what it is, what may differ between two of them, and whether it can be used again."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib

from flows.staging.rejects import rejects_path

if TYPE_CHECKING:
    from pathlib import Path

    from flows.sources import LandedFile
    from transforms.dataset import HeaderMatch
    from transforms.trip_month import TripMonth

STAGING_VERSION = 1
"""Raise it when the same source bytes would be staged differently; every month is then redone."""

METADATA_KEY = "taxi_etl"
CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class StagingOptions:
    """What may differ between two stagings of the same file.

    Attributes:
        row_transforms: names from `transforms.cleaning.ROW_TRANSFORMS`, in order.
        allow_new_columns: carry undeclared columns along as text.
        max_reject_ratio: share of the rows that may be rejected.
    """

    row_transforms: tuple[str, ...] = ()
    allow_new_columns: bool = False
    max_reject_ratio: float = 0.01

    def most_rejects(self, source_rows: int) -> int:
        """How many of `source_rows` may be rejected."""
        return int(round(source_rows * self.max_reject_ratio, 6))  # 100 * 0.29 is 28.999999999999996


@dataclass(frozen=True, slots=True)
class StagedMonth:
    """A month as one Parquet file, and its numbers.

    `source_rows == rows + rejected_rows + dropped_rows` always holds.

    Attributes:
        month: which one.
        path: the Parquet file.
        rows: rows in it.
        source_rows: rows the source file has, counted independently of the reader.
        rejected_rows: rows that did not fit; they are in `rejects_path`.
        dropped_rows: rows that a row transform was asked to drop.
        rejects_path: None if there are no rejects.
        source: URL of the source file.
        source_sha256: of its bytes.
        schema_version: of the dataset's declaration and of the staging.
        row_transforms: as asked for.
        new_columns: what not every month has: historic columns, and undeclared ones as text.
        missing_columns: declared columns that the source lacks; null in every row.
        reused: it had been staged before, from the same bytes in the same way.
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


def schema_version(month: TripMonth) -> str:
    """What a month staged today is marked with."""
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
    """What a staged file says about itself; enough to tell whether it can be used again."""
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


def find_staged(
    path: Path, landed: LandedFile, month: TripMonth, options: StagingOptions
) -> StagedMonth | None:
    """The month as staged earlier, if it is whole and would come out the same today."""
    staged = read_staged(path, month)
    if staged is None:
        return None
    same = (
        staged.source_sha256 == landed.sha256
        and staged.schema_version == schema_version(month)
        and staged.row_transforms == options.row_transforms
        and staged.rejected_rows <= options.most_rejects(staged.source_rows)
        and (options.allow_new_columns or not month.dataset.undeclared(staged.new_columns))
        and (staged.rejects_path is None or staged.rejects_path.exists())
        and checksum_matches(path)
    )
    return replace(staged, source=landed.url) if same else None


def checksum_path(staged_path: Path) -> Path:
    """Where the checksum of a staged file is."""
    return staged_path.with_name(f"{staged_path.name}.crc32")


def checksum(path: Path) -> str:
    """The CRC-32 of a file's bytes; some 5 ms for a month of a million rows."""
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            crc = isal_zlib.crc32(chunk, crc)
    return f"{crc:08x}"


def checksum_matches(path: Path) -> bool:
    """Whether a staged file has the bytes that were written.

    Its footer alone does not tell: DuckDB writes pages without checksums, and a reader takes what it finds.
    """
    try:
        return checksum_path(path).read_text().strip() == checksum(path)
    except (OSError, ValueError):
        return False


def read_staged(path: Path, month: TripMonth) -> StagedMonth | None:
    """The month as staged earlier, by the file's own footer; None if there is no whole file of ours."""
    try:
        return _from_metadata(path, month)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def _from_metadata(path: Path, month: TripMonth) -> StagedMonth:
    footer = pq.read_metadata(path)
    noted = json.loads((footer.metadata or {})[METADATA_KEY.encode()])
    rejected = noted["rejected_rows"]
    return StagedMonth(
        month=month,
        path=path,
        rows=footer.num_rows,
        source_rows=noted["source_rows"],
        rejected_rows=rejected,
        dropped_rows=noted["source_rows"] - rejected - footer.num_rows,
        rejects_path=rejects_path(path) if rejected else None,
        source=noted["source"],
        source_sha256=noted["source_sha256"],
        schema_version=noted["schema_version"],
        row_transforms=tuple(noted["row_transforms"]),
        new_columns=tuple(noted["new_columns"]),
        missing_columns=tuple(noted["missing_columns"]),
        reused=True,
    )
