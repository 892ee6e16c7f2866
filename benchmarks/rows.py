"""Rows of pytest-benchmark's report that show seconds measured before, one row for each side of a comparison.

pytest-benchmark runs one function several times. Here several ways are run in turns, so they are timed first,
and its rows are filled from the times: its clock is one that is put forward by what was measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_benchmark.fixture import BenchmarkFixture


class RecordedClock:
    """A timer for pytest-benchmark that shows the seconds it was put forward by."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        """The time now."""
        return self._now

    def __repr__(self) -> str:
        """For the JSON."""
        return "seconds measured in turns before"

    def forward(self, seconds: float) -> None:
        """Let so much time pass."""
        self._now += seconds


CLOCK = RecordedClock()


def add_row(
    benchmark: BenchmarkFixture, group: str, name: str, seconds: Sequence[float], /, **extra: object
) -> None:
    """Make the row of a benchmark fixture.

    Args:
        benchmark: the fixture; its timer is `CLOCK`, and it is not used for anything else.
        group: the rows of a group are shown together.
        name: of the row.
        seconds: as measured, round by round.
        extra: goes into the JSON as `extra_info`.
    """
    benchmark.group, benchmark.name = group, name
    benchmark.fullname = f"{benchmark.fullname}::{name}"
    benchmark.extra_info.update(extra)
    measured = iter(seconds)
    benchmark.pedantic(lambda: CLOCK.forward(next(measured)), rounds=len(seconds))
