"""Rejects: rows that were not loaded, where they are stored, and the error when there are too many.

Their reasons are made where the rows are checked: `flows.staging.csv_validation` for lines of a CSV file,
`transforms.invalid_values` for rows of a Parquet file.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import polars as pl

from flows.errors import TooManyRejects
from flows.runtime import atomic_write

REJECTS_SUFFIX = ".rejects.parquet"
"""Of the rejects next to a staged file, in place of `.parquet`."""


@dataclass(frozen=True, slots=True)
class Reject:
    r"""A row that was not loaded.

    Attributes:
        line: its number in the source file: for CSV of the line, the header being 1; for Parquet of the
            row, the first being 1.
        raw: its text; bytes that are not UTF-8 are shown as escapes such as `\xff`. A Parquet row
            is JSON, every value as text.
        reason: why it does not fit.
    """

    line: int
    raw: str
    reason: str


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Replace the rejects file; without rejects, remove it.

    Args:
        path: a Parquet file with the columns `line` (integer), `raw` and `reason` (text).
        rejects: its rows.

    Raises:
        LocalStorageError: the disk is full.
    """
    if not rejects:
        path.unlink(missing_ok=True)
        return
    content = io.BytesIO()  # Polars reports a full disk as a file "out of specification"
    pl.DataFrame(
        [astuple(reject) for reject in rejects],
        schema={"line": pl.Int64, "raw": pl.String, "reason": pl.String},
        orient="row",
    ).write_parquet(content)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def too_many_rejects(rejects: Sequence[Reject], most: int) -> TooManyRejects:
    """Make the error that names the first rejects and how to allow more.

    Args:
        rejects: at least one.
        most: how many are allowed.

    Returns:
        The error, to be raised.
    """
    first = "; ".join(f"line {r.line}: {r.reason} ({r.raw[:60]!r})" for r in rejects[:3])
    return TooManyRejects(
        f"more than the allowed {most:,} rows do not fit, so nothing is published. {first}. "
        "Repair the source, or allow more with --max-reject-ratio or TAXI_MAX_REJECT_RATIO"
    )
