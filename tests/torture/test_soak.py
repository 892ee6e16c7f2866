"""Many months in one process, sixty in the long mode: its memory, files and threads do not grow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from support.destinations import Apart
from support.soak import load_months
from support.torture import TORTURE, note

from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

MONTHS, ROWS = (60, 100_000) if TORTURE else (40, 1_000)
WARM_UP = 20
MOST_GROWTH_BYTES = 64 * 2**20
"""How much more memory the allocators of four libraries may keep after month 20."""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.timeout(1200)
def test_a_process_uses_no_more_after_many_months_than_after_twenty(tmp_path: Path) -> None:
    first = TripMonth("green", 2015, 1)
    months = [first.later(at) for at in range(MONTHS)]
    with Apart(load_months, tmp_path / "data", months, ROWS) as process:
        resources = [process.hear() for _ in months]
    warm, last = resources[WARM_UP], resources[-1]
    growth_bytes = last.resident_bytes - warm.resident_bytes
    assert (last.open_files, last.threads) == (warm.open_files, warm.threads)
    assert last.temporary_files == 0
    assert last.arrow_bytes == warm.arrow_bytes
    assert growth_bytes < MOST_GROWTH_BYTES, (
        f"{growth_bytes / 2**20:.0f} MB more after {MONTHS} months than after {WARM_UP}"
    )
    note(
        "soak",
        {
            "months": MONTHS,
            "rows": MONTHS * ROWS,
            "MB after 20 months": round(warm.resident_bytes / 2**20),
            "MB after 60 months": round(last.resident_bytes / 2**20),
            "open files more": last.open_files - warm.open_files,
            "threads more": last.threads - warm.threads,
            "temporary files": last.temporary_files,
        },
    )
