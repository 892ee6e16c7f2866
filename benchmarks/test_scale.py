"""Group `scale`: a tenth of the rows, the rows, and ten times the rows, each in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inputs import synthetic_file
from results import Size

if TYPE_CHECKING:
    from collections.abc import Callable

    from results import Group
    from support.postgres import Database

    from flows.sources import LandedFile

SCRIPT = Path(__file__).with_name("one_month.py")
FACTORS = (0.1, 1, 10)


@dataclass
class _Month:
    """One size, and the figures of its runs."""

    rows: int
    landed: LandedFile
    runs: list[dict[str, float]] = field(default_factory=list)

    def run(self, database: Database, directory: Path) -> None:
        request = {
            "file": str(self.landed.path), "directory": str(directory), "postgres_url": database.url
        }  # fmt: skip
        process = subprocess.run(
            [sys.executable, SCRIPT], input=json.dumps(request), capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stderr
        self.runs.append(json.loads(process.stdout.splitlines()[-1]))

    def size(self) -> Size:
        def of(name: str) -> list[float]:
            return [round(run[name], 3) for run in self.runs]

        return Size(self.rows, of("seconds"), of("stage_seconds"), of("peak_megabytes"))


def test_scale(
    postgres: Database,
    group_of: Callable[[str], Group],
    pairs: int,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    if pytestconfig.getoption("--file"):
        pytest.skip("a given file has one size")
    sizes = [int(pytestconfig.getoption("--rows") * factor) for factor in FACTORS]
    months = [_Month(rows, synthetic_file(tmp_path / str(rows), rows)) for rows in sizes]
    # In turns, so that a machine that slows down affects all sizes.
    for _ in range(min(pairs, 3)):
        for month in months:
            month.run(postgres, tmp_path)
    group_of("scale").sizes.extend(month.size() for month in months)
    for month in months:
        assert [run["rows"] for run in month.runs] == [month.rows] * len(month.runs)
