"""Times two ways to do the same in turns, so that a machine that slows down affects both."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Pairs:
    """The result of several pairs.

    Attributes:
        ours_seconds, rival_seconds: medians.
        ratio: median of the pairs' ratios, our time to the rival's; below 1, ours is faster.
        lowest, highest: of the pairs' ratios.
    """

    ours_seconds: float
    rival_seconds: float
    ratio: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, ours: Sequence[float], rival: Sequence[float]) -> Pairs:
        """Compute it from the seconds of both sides, pair by pair."""
        ratios = [mine / theirs for mine, theirs in zip(ours, rival, strict=True)]
        return cls(
            statistics.median(ours),
            statistics.median(rival),
            statistics.median(ratios),
            min(ratios),
            max(ratios),
        )

    def __str__(self) -> str:
        return (
            f"ours {self.ours_seconds:.2f} s, rival {self.rival_seconds:.2f} s, "
            f"ratio {self.ratio:.3f} ({self.lowest:.3f} to {self.highest:.3f})"
        )


def interleaved(ours: Callable[[], object], rival: Callable[[], object], pairs: int = 5) -> Pairs:
    """Run both `pairs` times in turns, after a warm-up of both that is not counted."""
    timed = [(seconds_of(ours), seconds_of(rival)) for _ in range(pairs + 1)][1:]
    return Pairs.of([mine for mine, _ in timed], [theirs for _, theirs in timed])


def seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
