"""Rows that were not loaded: what they are, where they are kept, and when there are too many."""

from __future__ import annotations

import io
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import polars as pl

from flows.errors import TooManyRejects
from flows.runtime import atomic_write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Reject:
    r"""A row that was not loaded.

    Attributes:
        line: its number in the source file: of a CSV file's lines, the header being 1; of a Parquet
            file's rows, the first being 1.
        raw: its text; bytes that are not UTF-8 are shown as escapes such as `\xff`. A Parquet row
            as JSON, every value as text.
        reason: why it does not fit.
    """

    line: int
    raw: str
    reason: str


def rejects_path(staged_path: Path) -> Path:
    """Where the rejects of a staged file are."""
    return staged_path.with_suffix(".rejects.parquet")


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Replace the rejects file; without rejects there is none.

    Raises:
        LocalStorageError: the disk is full.
    """
    if not rejects:
        path.unlink(missing_ok=True)
        return
    packed = io.BytesIO()  # Polars calls a full disk a file "out of specification"
    pl.DataFrame(
        [astuple(reject) for reject in rejects],
        schema={"line": pl.Int64, "raw": pl.String, "reason": pl.String},
        orient="row",
    ).write_parquet(packed)
    with atomic_write(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def too_many_rejects(rejects: Sequence[Reject], most: int) -> TooManyRejects:
    """The error that names the first rejected rows and how to allow more."""
    first = "; ".join(f"line {r.line}: {r.reason} ({r.raw[:60]!r})" for r in rejects[:3])
    return TooManyRejects(
        f"more than the allowed {most:,} rows do not fit, so nothing is published. {first}. "
        "Repair the source, or allow more with TAXI_MAX_REJECT_RATIO"
    )
