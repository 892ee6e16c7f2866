"""What became of a month and of a run, and the JSON that `--summary` writes."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from flows.errors import TaxiError, Terminal, error_context
from flows.runtime import file_lock

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from flows.destinations import Receipt
    from flows.staging import StagedMonth
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

Status = Literal["published", "unchanged", "failed"]


@dataclass
class MonthOutcome:
    """What became of a month; filled in while it is under way.

    Attributes:
        month: which one.
        seconds: from the first to the last step.
        staged: the staged file, None if it did not get that far.
        receipts: by destination, of those that have the month now.
        failures: by destination, one line each, of those that have not got it.
        quality: the quality report's headline.
        error: why the month failed, in one line; None if all went well.
    """

    month: TripMonth
    seconds: float = 0.0
    staged: StagedMonth | None = None
    receipts: dict[str, Receipt] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    quality: str = ""
    error: str | None = None

    @property
    def status(self) -> Status:
        """`unchanged` only if every destination had exactly this month already."""
        if self.error is not None:
            return "failed"
        written = any(receipt.status == "published" for receipt in self.receipts.values())
        return "published" if written else "unchanged"

    @contextlib.contextmanager
    def publishing_to(self, destination: str) -> Generator[None]:
        """Note a failure instead of raising it, so that the other destinations get the month."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - noted, and raised when the month ends
            self.failures[destination] = describe_error(error)

    def to_json(self) -> dict[str, Any]:
        """The month's entry in the summary; numbers are null where it did not get that far."""
        staged = self.staged
        receipts = {
            name: {"rows": r.rows, "seconds": round(r.seconds, 3), "status": r.status}
            for name, r in self.receipts.items()
        }
        failed = {name: {"rows": None, "seconds": None, "status": "failed"} for name in self.failures}
        return {
            "month": self.month.month,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "source_rows": staged and staged.source_rows,
            "staged_rows": staged and staged.rows,
            "rejected_rows": staged and staged.rejected_rows,
            **({"dropped_rows": staged.dropped_rows} if staged and staged.dropped_rows else {}),
            "destinations": receipts | failed,
            "error": self.error,
        }


class MonthFailed(Terminal):
    """A month that some destination has not got; carries what there is to say about it."""

    def __init__(self, message: str, outcome: MonthOutcome) -> None:
        """Keep the outcome for the parent's summary."""
        super().__init__(message)
        self.outcome = outcome

    def __reduce__(self) -> tuple[type, tuple[str, MonthOutcome]]:
        """Travel between processes with both arguments."""
        return type(self), (self.message, self.outcome)


@contextlib.contextmanager
def track_month(month: TripMonth, lock: Path, lock_timeout_seconds: float) -> Generator[MonthOutcome]:
    """Hold a month against other runs, measure it, and turn any failure into `MonthFailed`.

    Raises:
        MonthFailed: something inside raised, or a destination noted a failure.
    """
    outcome, started = MonthOutcome(month), time.perf_counter()
    try:
        try:
            with (
                error_context(month.label),
                file_lock(lock, lock_timeout_seconds, on_wait=lambda: _say_waiting(month)),
            ):
                yield outcome
        finally:
            outcome.seconds = time.perf_counter() - started
        outcome.error = "; ".join(outcome.failures.values()) or None
    except Exception as error:
        outcome.error = describe_error(error)
        raise MonthFailed(outcome.error, outcome) from error
    if outcome.error is not None:
        raise MonthFailed(outcome.error, outcome)


def _say_waiting(month: TripMonth) -> None:
    logger.warning("%s: another run is working on this month; waiting for it", month.label)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What became of a run.

    Attributes:
        dataset: colour.
        months: one outcome each, in calendar order; at least one.
        seconds: wall time of the whole run.
    """

    dataset: str
    months: tuple[MonthOutcome, ...]
    seconds: float

    @classmethod
    def concluded(cls, dataset: str, months: Iterable[MonthOutcome], started: float) -> Self:
        """The summary of a run that ends now.

        Args:
            dataset: colour.
            months: one outcome each.
            started: `time.perf_counter()` at its beginning.

        Raises:
            MonthsFailed: with the summary, if a month failed.
        """
        summary = cls(dataset, tuple(months), time.perf_counter() - started)
        if summary.failed:
            raise MonthsFailed(summary)
        return summary

    @property
    def year(self) -> int | None:
        """The one year of its months; None if they are of several."""
        years = {outcome.month.year for outcome in self.months}
        return years.pop() if len(years) == 1 else None

    @property
    def label(self) -> str:
        """What people read: `yellow 2021`, or `yellow 2019-01 to 2021-07`."""
        first, last = self.months[0].month, self.months[-1].month
        return f"{self.dataset} {self.year or f'{first.iso} to {last.iso}'}"

    @property
    def failed(self) -> tuple[MonthOutcome, ...]:
        """The months that some destination has not got."""
        return tuple(outcome for outcome in self.months if outcome.status == "failed")

    def to_json(self) -> dict[str, Any]:
        """What `--summary` writes: `year` is null if there are several, and each month then has its own."""
        own_year = self.year is None
        return {
            "dataset": self.dataset,
            "year": self.year,
            "months": [
                ({"year": outcome.month.year} if own_year else {}) | outcome.to_json()
                for outcome in self.months
            ],
        }


class MonthsFailed(Terminal):
    """The parent's verdict: at least one month failed, the others are published."""

    def __init__(self, summary: RunSummary) -> None:
        """Name the months and keep the summary."""
        failed = summary.failed
        super().__init__(
            f"{len(failed)} of {len(summary.months)} months failed: "
            + ", ".join(outcome.month.label for outcome in failed)
        )
        self.summary = summary

    def __reduce__(self) -> tuple[type, tuple[RunSummary]]:
        """Travel between processes."""
        return type(self), (self.summary,)


def describe_error(error: BaseException) -> str:
    """An error in one line; one that nobody foresaw says where to look."""
    if isinstance(error, TaxiError):
        return str(error)
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} (unexpected; the log has the traceback)"
