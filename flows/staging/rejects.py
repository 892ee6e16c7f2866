"""Rejects: rows that were not loaded, where they are stored, and the error when there are too many.

Their reasons are made where the rows are checked: `flows.staging.csv_validation` for lines of a CSV file,
`transforms.invalid_values` for rows of a Parquet file.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from flows.errors import TooManyRejects
from flows.runtime import commit_file, explain_full_disk, temporary_path

REJECTS_SUFFIX = ".rejects.parquet"
"""Of the rejects next to a staged file, in place of `.parquet`."""

LONGEST_RAW = 2**14  # characters
NAMED_REJECTS = 3  # in the message when there are too many
WAITING_REJECTS, WAITING_CHARACTERS = 20_000, 2**23  # in memory before they are written
SCHEMA = pa.schema([("line", pa.int64()), ("raw", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True, slots=True)
class Reject:
    r"""A row that was not loaded.

    Attributes:
        line: its number in the source file: for CSV of the line, the header being 1; for Parquet of the
            row, the first being 1.
        raw: its text, or the start of a very long one; bytes that are not UTF-8 are shown as escapes such
            as `\xff`. A Parquet row is JSON, every value as text.
        reason: why it does not fit.
    """

    line: int
    raw: str
    reason: str


class Rejects:
    """Writes rejects to a Parquet file as they come; only some of them are held in memory.

    The file replaces an earlier one with `commit`; without it, nothing is left of it.

    Attributes:
        count: how many there are.
    """

    def __init__(self, path: Path) -> None:
        """Start without rejects; a file is made with the first.

        Args:
            path: a Parquet file with the columns `line` (integer), `raw` and `reason` (text).
        """
        self.count = 0
        self._first: list[Reject] = []
        self._path, self._temporary = path, temporary_path(path)
        self._waiting: list[Reject] = []
        self._waiting_characters = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not committed."""
        with contextlib.suppress(OSError):  # its last bytes may not fit on the disk
            self._close()
        self._temporary.unlink(missing_ok=True)

    def add(self, reject: Reject) -> None:
        r"""Add one.

        Args:
            reject: of its text, only the first 16,384 characters are kept. The character NUL, which Postgres
                cannot store, is written as `\x00`.

        Raises:
            LocalStorageError: the disk is full.
        """
        kept = replace(reject, raw=_storable(reject.raw[:LONGEST_RAW]), reason=_storable(reject.reason))
        self.count += 1
        if len(self._first) < NAMED_REJECTS:
            self._first.append(kept)
        self._waiting.append(kept)
        self._waiting_characters += len(kept.raw)
        if len(self._waiting) >= WAITING_REJECTS or self._waiting_characters >= WAITING_CHARACTERS:
            with explain_full_disk(self._path.parent):
                self._write()

    def commit(self) -> None:
        """Replace the file of earlier rejects; without rejects, remove it.

        Raises:
            LocalStorageError: the disk is full.
        """
        if not self.count:
            self._path.unlink(missing_ok=True)
            return
        with explain_full_disk(self._path.parent):
            self._write()
            self._close()
            commit_file(self._temporary, self._path)

    def check(self, most: int, rows: int | None = None) -> None:
        """Fail if there are too many.

        Args:
            most: how many are allowed.
            rows: rows in the source, if all of them have been looked at.

        Raises:
            TooManyRejects: names the first rejects and the next step.
        """
        if self.count > most:
            raise TooManyRejects(
                f"more than the allowed {most:,} rows do not fit, so nothing is published. {self._named}. "
                "Repair the source, or allow more with --max-reject-ratio or TAXI_MAX_REJECT_RATIO"
            )
        if self.count == rows:
            raise TooManyRejects(
                f"none of the {self.count:,} rows fits, so nothing is published. {self._named}. "
                "Repair the source, or see whether it is a file of this dataset"
            )

    @property
    def _named(self) -> str:
        return "; ".join(f"line {r.line}: {r.reason} ({r.raw[:60]!r})" for r in self._first)

    def _write(self) -> None:
        if not self._writer:
            self._writer = pq.ParquetWriter(self._temporary, SCHEMA, compression="zstd")
        rows, self._waiting, self._waiting_characters = self._waiting, [], 0
        self._writer.write_table(pa.Table.from_pylist([asdict(reject) for reject in rows], SCHEMA))

    def _close(self) -> None:
        if self._writer:
            writer, self._writer = self._writer, None
            writer.close()


def _storable(text: str) -> str:
    return text.replace("\0", "\\x00")
