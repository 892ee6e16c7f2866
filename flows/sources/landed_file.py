"""A landed file and its record: what is known of it, and whether it still is the file that was verified."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pydantic

from flows.runtime import atomic_write
from flows.sources.csv_census import Census  # noqa: TC001 - pydantic resolves it at run time
from flows.sources.inspection import Kind  # noqa: TC001 - pydantic resolves it at run time


@dataclass(frozen=True, slots=True)
class LandedFile:
    """A verified local copy of a source file.

    Attributes:
        path: the file.
        url: its source, without user, password and query.
        identity: `SourceFile.identity` of the complete address.
        version: see `SourceResponse`; None if the source has none.
        kind, bytes, sha256, header, census: see `Inspection`.
        rows: number of rows in the footer of a Parquet file; None for CSV, whose census counts lines.
        modified_ns: modification time when it was verified, in nanoseconds since 1970.
        fetched: True if this run downloaded it, False if it had landed before.
    """

    path: Path
    url: str
    identity: str
    version: str | None
    kind: Kind
    bytes: int
    sha256: str
    header: tuple[str, ...]
    census: Census | None
    rows: int | None
    modified_ns: int
    fetched: bool = True

    @property
    def most_rows(self) -> int:
        """The rows of the file; of an irregular CSV file an upper bound, because blank lines count."""
        return self.census.lines - 1 if self.census else self.rows or 0

    def is_intact(self) -> bool:
        """Whether size and modification time are still those of the verified file."""
        try:
            stat = self.path.stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.bytes, self.modified_ns)


_RECORD = pydantic.TypeAdapter(LandedFile)


def record_path(path: Path) -> Path:
    """Name the record of a landed file.

    Args:
        path: the landed file.

    Returns:
        The path of the record, beside the file.
    """
    return path.with_name(f"{path.name}.json")


def write_record(landed: LandedFile) -> None:
    """Write the record of a landed file, as JSON that others can read.

    Args:
        landed: the file; it already has its final name.

    Raises:
        LocalStorageError: the disk is full.
    """
    with atomic_write(record_path(landed.path)) as temporary:
        temporary.write_bytes(_RECORD.dump_json(landed))


def find_landed(path: Path) -> LandedFile | None:
    """Find a file that landed earlier.

    Args:
        path: where it landed.

    Returns:
        Its record, or None if there is none or the file is no longer the one that was verified.
    """
    try:
        landed = _RECORD.validate_json(record_path(path).read_bytes())
    except (OSError, pydantic.ValidationError):
        return None
    landed = replace(landed, path=path, fetched=False)
    return landed if landed.is_intact() else None
