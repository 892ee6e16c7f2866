"""Fixtures for the tests of staging: files to land and stage, and another reader of CSV."""

from __future__ import annotations

import csv
import datetime as dt
import io
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from support.destinations import Months

from flows.settings import Settings
from flows.sources import SourceFile, land
from flows.staging import StagingOptions, stage
from transforms.column import ColumnType
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from flows.sources import LandedFile
    from flows.staging import StagedMonth
    from transforms.dataset import Dataset

FHVHV_MONTH = TripMonth("fhvhv", 2019, 2)


class Workbench:
    """Lands bytes the way a source brings them, and stages them into one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.staged = directory / "staged"
        self._numbers = count()

    def land(self, content: bytes) -> LandedFile:
        source = self.directory / f"source-{next(self._numbers)}"
        source.write_bytes(content)
        return land(
            SourceFile(source.as_uri(), source.name), self.directory / "raw", Settings(_env_file=None)
        )

    def stage(
        self,
        content: bytes | LandedFile,
        month: TripMonth = FHVHV_MONTH,
        *,
        force: bool = False,
        **options: object,
    ) -> StagedMonth:
        landed = self.land(content) if isinstance(content, bytes) else content
        return stage(landed, month, self.staged, StagingOptions(**options), force=force)

    def write_parquet(self, table: pa.Table, **options: object) -> bytes:
        file = io.BytesIO()
        pq.write_table(table, file, **options)
        return file.getvalue()

    def files(self) -> dict[str, bytes]:
        """Every file where months are staged, hidden ones too, but not the checksums."""
        files = {path.name: path.read_bytes() for path in self.staged.glob("*")}
        checksums = {name for name in files if name.endswith(".parquet.crc32")}
        assert {name.removesuffix(".crc32") for name in checksums} <= files.keys(), "a checksum of nothing"
        return {name: content for name, content in files.items() if name not in checksums}


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def _whole(text: str) -> int:
    number = float(text)
    assert number == int(number)
    return int(number) if "." in text else int(text)


_CONVERT: dict[ColumnType, Callable[[str], Any]] = {
    ColumnType.INTEGER: _whole,
    ColumnType.FLOAT: float,
    ColumnType.TIMESTAMP: dt.datetime.fromisoformat,
    ColumnType.TEXT: str,
}


def _read_with_csv_module(text: str, dataset: Dataset) -> dict[str, list[Any]]:
    header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    declared = {name.lower(): column for name, column in dataset.column.items()}
    columns = [declared[name.lower()] for name in header]
    assert {len(row) for row in rows} <= {len(header)}
    return {
        column.name: [_CONVERT[column.type](row[at]) if row[at] else None for row in rows]
        for at, column in enumerate(columns)
    }


@pytest.fixture(scope="session")
def read_with_csv_module() -> Callable[[str, Dataset], dict[str, list[Any]]]:
    """Text -> values by column, with the csv module and Python's own conversions."""
    return _read_with_csv_module


@pytest.fixture(scope="session")
def months(tmp_path_factory: pytest.TempPathFactory) -> Months:
    """Staged months, each made once."""
    return Months(tmp_path_factory.mktemp("months"))
