"""Loads many months in one process and measures its resources after each."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from transforms.trip_month import TripMonth


@dataclass(frozen=True)
class Resources:
    """The resources of a process: memory, open files, threads, and temporary files that should be gone."""

    resident_bytes: int
    arrow_bytes: int
    open_files: int
    threads: int
    temporary_files: int

    @classmethod
    def now(cls, data_dir: Path) -> Resources:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        scratch = [path for path in data_dir.rglob("*") if path.name.endswith((".tmp", ".part", ".wal"))]
        return cls(
            pages * os.sysconf("SC_PAGE_SIZE"),
            pa.total_allocated_bytes(),
            len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - Path.iterdir would open another
            threading.active_count(),
            len(scratch),
        )


def load_months(pipe: Connection, data_dir: Path, months: list[TripMonth], rows: int) -> None:
    """Land, stage, publish and check each month; sends the `Resources` after each through the pipe."""
    from flows.destinations import make_destination
    from flows.runtime import Layout
    from flows.settings import Settings
    from flows.sources import land, locate_source
    from flows.staging import StagingOptions, report_quality, stage

    settings, layout = (
        Settings(_env_file=None, synthetic_rows=rows, synthetic_broken_rows=3),
        Layout(data_dir),
    )
    for month in months:
        file = locate_source("synthetic", month, settings)
        landed = land(file, layout.raw(month.color), settings)
        staged = stage(landed, month, layout.staged(month.color), StagingOptions())
        receipt = make_destination("duckdb", data_dir, settings).publish(staged)
        assert receipt.rows == rows - 3
        report_quality(staged)
        pipe.send(Resources.now(data_dir))
