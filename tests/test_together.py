"""The suite's units of work are of files that exist, and every other test is on its own."""

from __future__ import annotations

from pathlib import Path

from support.together import TOGETHER, place, unit

ROOT = Path(__file__).parents[1]
LONGEST, *_, SHORTEST = TOGETHER


def test_every_file_of_a_unit_exists_and_is_of_one_unit() -> None:
    files = [file for unit_files in TOGETHER.values() for file in unit_files]
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert len(files) == len(set(files))


def test_long_units_go_before_short_ones_and_these_before_single_tests() -> None:
    single = "tests/flows/test_parent.py::test_that[tests/flows/test_alerts.py::x]"
    units = [f"{TOGETHER[name][0]}::test_that[a]" for name in (LONGEST, SHORTEST)]
    assert [unit(nodeid) for nodeid in (*units, single)] == [LONGEST, SHORTEST, single]
    assert sorted([single, *reversed(units)], key=place) == [*units, single]
