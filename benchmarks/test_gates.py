"""What the gates add to a month: all its steps with the gates, and without what they do, in turns.

    python -m pytest benchmarks/test_gates.py -s -n0

Both sides count what is odd, because the quality report does: with the gates before publishing, without them
beside it. Wall seconds and CPU seconds are medians of the pairs.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import time
from typing import TYPE_CHECKING

import pytest
from inputs import month_file

from flows.month import DirectSteps, Gates, from_source, load_from_source
from flows.request import LoadRequest
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from flows.staging import StagedMonth
    from transforms.gates import RowCounts

MONTH = TripMonth("yellow", 2021, 1)
ROWS, PAIRS = 1_440_000, int(os.environ.get("PAIRS", "5"))


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def without_gates(patch: pytest.MonkeyPatch) -> None:
    """As before there were gates: nothing is measured before the month is published."""

    def unjudged(_: Gates, staged: StagedMonth, *__: object, **___: object) -> StagedMonth:
        return staged

    def uncounted(_: StagedMonth) -> RowCounts | None:
        return None  # the report counts by itself then

    patch.setattr(Gates, "__init__", lambda *_: None)
    patch.setattr(Gates, "__exit__", lambda *_: None)
    patch.setattr(Gates, "check", unjudged)
    patch.setattr(from_source, "count_rows", uncounted)


def test_the_gates_against_a_month_without_them(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    month_file(source, MONTH, ROWS)
    data_dir = tmp_path / "data"
    request = LoadRequest.from_parameters(
        color=MONTH.color,
        months=(MONTH.month,),
        year=MONTH.year,
        source=f"{source}/{{color}}_tripdata_{{year}}-{{month:02}}.csv.gz",
        data_dir=data_dir,
    )

    def turn(*, gates: bool) -> tuple[float, float]:
        shutil.rmtree(data_dir, ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch:
            if not gates:
                without_gates(patch)
            started, cpu = time.perf_counter(), cpu_seconds()
            with DirectSteps() as steps:
                assert load_from_source(MONTH, request, steps).status == "published"
            return time.perf_counter() - started, cpu_seconds() - cpu

    turn(gates=True)  # imports and the page cache
    pairs = [(turn(gates=False), turn(gates=True)) for _ in range(PAIRS)]
    for name, at in (("wall", 0), ("CPU", 1)):
        without, with_them = ([one[side][at] for one in pairs] for side in (0, 1))
        added = statistics.median(b - a for a, b in zip(without, with_them, strict=True))
        print(
            f"\n{name}: {statistics.median(without):.3f} s without, {statistics.median(with_them):.3f} s "
            f"with the gates; {added:+.3f} s (median of {PAIRS} pairs)"
        )
