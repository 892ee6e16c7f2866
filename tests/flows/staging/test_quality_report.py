"""Duplicates are counted alike in memory and, for files too large for that, by DuckDB, which spills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.staging import quality_report, report_quality
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    import pytest
    from support.destinations import Months


def test_large_files_are_counted_like_small_ones(months: Months, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = months.synthetic(TripMonth("yellow", 2021, 1), 20_000)
    in_memory = report_quality(staged)
    monkeypatch.setattr(quality_report, "MOST_HASHES_IN_MEMORY", 0)
    assert report_quality(staged) == in_memory
    assert in_memory.exact_duplicates
