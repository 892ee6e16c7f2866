"""Where a data directory keeps what; the names are fixed, see docs/naming.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.trip_month import TripMonth


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one data directory.

    Attributes:
        data_dir: its root.
    """

    data_dir: Path

    def raw(self, color: str) -> Path:
        """Directory of landed files."""
        return self.data_dir / "raw" / color

    def staged(self, color: str) -> Path:
        """Directory of staged files, rejects and quality reports."""
        return self.data_dir / color

    def ingest(self, color: str) -> Path:
        """Directory of the files that `flows/ingest.py` stages, without the rows it drops."""
        return self.data_dir / "ingest" / color

    def lock(self, month: TripMonth) -> Path:
        """Lock file of the one run that works on a month."""
        return self.data_dir / ".locks" / f"{month.stem}.lock"

    @property
    def warehouse(self) -> Path:
        """The local DuckDB file."""
        return self.data_dir / "warehouse.duckdb"

    @property
    def logs(self) -> Path:
        """Directory of the command line's logs."""
        return self.data_dir / "logs"
