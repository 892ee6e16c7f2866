"""A landed file: what is known of it, and whether it still is the file that was verified."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path  # noqa: TC003 - pydantic reads annotations at run time

import pydantic

from flows.sources.inspection import Census, Kind  # noqa: TC001 - likewise


@dataclass(frozen=True, slots=True)
class LandedFile:
    """A verified local copy of a source file.

    Attributes:
        path: where it is.
        url: where it came from, without user, password and query.
        identity: `SourceFile.identity` of the whole address.
        version: the source's validator, None if it gives none.
        kind, bytes, sha256, header, census: see `Inspection`.
        rows: rows by a Parquet file's footer; None for CSV, whose census counts lines.
        modified_ns: the file's own time when it was verified, in nanoseconds since 1970.
        fetched: whether this run transferred it (False: it was already here).
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

    def is_intact(self) -> bool:
        """Whether the file is still the one that was verified, by its size and time."""
        try:
            stat = self.path.stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.bytes, self.modified_ns)


_RECORD = pydantic.TypeAdapter(LandedFile)


def record_path(path: Path) -> Path:
    """Where the record of a landed file is."""
    return path.with_name(f"{path.name}.json")


def to_record(landed: LandedFile) -> bytes:
    """What is written to `record_path`: JSON that others can read."""
    return _RECORD.dump_json(landed)


def find_landed(path: Path) -> LandedFile | None:
    """The record of a file that landed earlier, if the file is still the one that was verified."""
    try:
        landed = _RECORD.validate_json(record_path(path).read_bytes())
    except (OSError, pydantic.ValidationError):
        return None
    landed = replace(landed, path=path, fetched=False)
    return landed if landed.is_intact() else None
