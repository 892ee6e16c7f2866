"""Group `gates`: what they add to a month on its way from the landed file to DuckDB.

    python -m pytest benchmarks/test_gates.py --rows 1440000 --pairs 20

Both sides stage, publish, and count what is odd: with the gates before publishing, without them beside it,
for the quality report. The month before is staged, so that there is one to compare with. In every other pair
the gates come first. The views, which no gate touches, are left out.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import pytest
from goals import GATES
from inputs import MONTH
from results import Process
from rows import add_row

from flows.month import DirectSteps, Gates, from_source, load_from_source
from flows.request import LoadRequest
from flows.runtime import Layout
from flows.settings import override_settings
from flows.staging import stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture
    from results import Group

    from flows.month import MonthOutcome
    from flows.sources import LandedFile
    from flows.staging import StagedMonth
    from transforms.gates import RowCounts

WITH, WITHOUT = GATES


def _without_gates(patch: pytest.MonkeyPatch) -> None:
    """As before there were gates: nothing is measured before the month is published."""

    def unjudged(_: Gates, staged: StagedMonth, *__: object, **___: object) -> StagedMonth:
        return staged

    def uncounted(_: StagedMonth) -> RowCounts | None:
        return None  # the report counts by itself then

    patch.setattr(Gates, "__init__", lambda *_: None)
    patch.setattr(Gates, "__exit__", lambda *_: None)
    patch.setattr(Gates, "check", unjudged)
    patch.setattr(from_source, "count_rows", uncounted)


def test_gates(
    landed: LandedFile,
    rows: int,
    pairs: int,
    group_of: Callable[[str], Group],
    benchmark: BenchmarkFixture,
    rival_benchmark: BenchmarkFixture,
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path)
    request = LoadRequest.from_parameters(
        color=MONTH.color, months=(MONTH.month,), year=MONTH.year, source=str(landed.path), data_dir=tmp_path
    )
    directory = layout.staged(MONTH.color)
    stage(landed, MONTH.later(-1), directory, request.staging)

    def turn(side: str) -> tuple[tuple[float, float], MonthOutcome]:
        for made in (*directory.glob(f"{MONTH.stem}.*"), layout.warehouse):
            made.unlink(missing_ok=True)
        gc.collect()
        with pytest.MonkeyPatch.context() as patch, override_settings(views=False):
            if side == WITHOUT:
                _without_gates(patch)
            started, cpu_started = time.perf_counter(), time.process_time()
            with DirectSteps() as steps:
                outcome = load_from_source(MONTH, request, steps)
            return (time.perf_counter() - started, time.process_time() - cpu_started), outcome

    for side in (WITH, WITHOUT):
        turn(side)  # imports, the page cache
    measured: dict[str, list[tuple[float, float]]] = {WITHOUT: [], WITH: []}
    for number in range(pairs):
        outcomes = {}
        for side in (WITHOUT, WITH)[:: 1 if number % 2 else -1]:
            cost, outcomes[side] = turn(side)
            measured[side].append(cost)
        assert {outcome.status for outcome in outcomes.values()} == {"published"}
        assert outcomes[WITH].quality == outcomes[WITHOUT].quality
        assert [bool(one.staged and one.staged.odd) for one in outcomes.values()] == [
            side == WITH for side in outcomes
        ]
    for side, row in ((WITHOUT, rival_benchmark), (WITH, benchmark)):
        seconds, cpu_seconds = ([round(cost[at], 4) for cost in measured[side]] for at in (0, 1))
        process = Process(side, "", side == WITH, "duckdb", 1, "first load", rows, rows, seconds, cpu_seconds)
        group_of("gates").processes.append(process)
        add_row(row, "gates", side, seconds, rows=rows)
