"""The layout of a data directory; the names are fixed, see docs/reference/naming.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transforms.datasets import DATASETS

if TYPE_CHECKING:
    from transforms.trip_month import TripMonth

OWN_DIRECTORIES = {*DATASETS, "raw", "ingest", "gcs_to_bq", "iceberg", "logs", ".locks"}
"""What a run may create in a data directory, beside the warehouse and the embedded server."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one data directory.

    Attributes:
        data_dir: the directory itself.
    """

    data_dir: Path

    def raw(self, color: str) -> Path:
        """The directory of landed files.

        Args:
            color: dataset, such as `yellow`.
        """
        return self.data_dir / "raw" / color

    def staged(self, color: str) -> Path:
        """The directory of staged files, rejects and quality reports.

        Args:
            color: dataset, such as `yellow`.
        """
        return self.data_dir / color

    def transformed(self, color: str) -> Path:
        """The directory of the rows that `flows/gcs_to_bq.py --transform` has changed on the way.

        Args:
            color: dataset, such as `yellow`.
        """
        return self.data_dir / "gcs_to_bq" / color

    def ingest(self, color: str) -> Path:
        """The directory of the files that `flows/ingest.py` stages, which lack the rows it drops.

        Args:
            color: dataset, such as `yellow`.
        """
        return self.data_dir / "ingest" / color

    def lock(self, month: TripMonth) -> Path:
        """The lock file of the one run that works on a month.

        Args:
            month: dataset and month.
        """
        return self.data_dir / ".locks" / f"{month.stem}.lock"

    @property
    def warehouse(self) -> Path:
        """The local DuckDB file."""
        return self.data_dir / "warehouse.duckdb"

    @property
    def postgres(self) -> Path:
        """The directory of the embedded Postgres server."""
        return self.data_dir / "postgres"

    @property
    def iceberg(self) -> Path:
        """The directory of the local Iceberg catalog and its tables."""
        return self.data_dir / "iceberg"

    @property
    def logs(self) -> Path:
        """The directory of the command line's log files."""
        return self.data_dir / "logs"

    @property
    def report(self) -> Path:
        """The page of pictures."""
        return self.data_dir / "report.html"

    def contains(self, path: Path) -> bool:
        """Whether a path is one of the program's own, or below one; it need not exist.

        Args:
            path: any path.
        """
        data_dir, path = self.data_dir.resolve(), path.resolve()
        if not path.is_relative_to(data_dir) or path == data_dir:
            return False
        name = path.relative_to(data_dir).parts[0]
        others = (self.warehouse.name, self.postgres.name)  # with their locks and logs
        return name in OWN_DIRECTORIES or name.lstrip(".").startswith(others)
