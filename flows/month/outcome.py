"""The outcome of a month and of a run, and the JSON that `--summary` writes."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from flows.errors import TaxiError, Terminal, error_context
from flows.runtime import FinishedMonth, file_lock, finish_month

if TYPE_CHECKING:
    from flows.destinations import Receipt
    from flows.staging import StagedMonth
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

MonthStatus = Literal["published", "unchanged", "failed"]


@dataclass
class MonthOutcome:
    """The outcome of a month; filled in while the month is processed.

    Attributes:
        month: the month.
        seconds: from the start of the first step to the end of the last; with `ahead_seconds`.
        ahead_seconds: that its file took to land ahead of it, while other months were worked on.
        staged: the staged file; None if the month failed before.
        receipts: by destination, for those that now have the month.
        failures: by destination, for those that do not: the error in one line.
        quality: rows by what is unusual about them, from the quality report; empty if there is none.
        error: why the month failed, in one line; None if it did not.
    """

    month: TripMonth
    seconds: float = 0.0
    ahead_seconds: float = 0.0
    staged: StagedMonth | None = None
    receipts: dict[str, Receipt] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    quality: dict[str, int] = field(default_factory=dict)
    error: str | None = None

    @classmethod
    def of(cls, month: TripMonth, result: MonthOutcome | BaseException) -> MonthOutcome:
        """The outcome of a month, also when its run ended abnormally.

        Args:
            month: which one.
            result: what its run returned or raised.
        """
        if isinstance(result, MonthFailed):
            return result.outcome
        if isinstance(result, BaseException):
            text = describe_error(result)
            has_place = isinstance(result, TaxiError) and result.where
            return cls(month, error=text if has_place else f"{month.label}: {text}")
        return result

    @property
    def status(self) -> MonthStatus:
        """`unchanged` only if every destination already had exactly this month."""
        if self.error is not None:
            return "failed"
        is_new = any(receipt.status == "published" for receipt in self.receipts.values())
        return "published" if is_new else "unchanged"

    def finish(self) -> None:
        """Report that nothing more will be done for the month in this run."""
        rows = self.staged.rows if self.staged else 0
        finish_month(FinishedMonth(self.month.label, self.status, self.seconds, rows, self.error))

    @contextlib.contextmanager
    def publishing_to(self, destination: str) -> Generator[None]:
        """Record an error of the block in `failures`, so that the other destinations still get the month.

        Args:
            destination: its name.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - recorded; `track_month` raises it at the end
            self.failures[destination] = describe_error(error)

    def to_json(self) -> dict[str, Any]:
        """The month's entry in the summary; numbers are null for steps that were not reached."""
        staged = self.staged
        destinations: dict[str, Any] = {
            name: {"rows": receipt.rows, "seconds": round(receipt.seconds, 3), "status": receipt.status}
            for name, receipt in self.receipts.items()
        }
        for name in self.failures:
            destinations[name] = {"rows": None, "seconds": None, "status": "failed"}
        return {
            "month": self.month.month,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "source_rows": staged and staged.source_rows,
            "staged_rows": staged and staged.rows,
            "rejected_rows": staged and staged.rejected_rows,
            **({"dropped_rows": staged.dropped_rows} if staged and staged.dropped_rows else {}),
            **({"warnings": list(staged.warnings)} if staged and staged.warnings else {}),
            "destinations": destinations,
            "error": self.error,
        }


class MonthFailed(Terminal):
    """A month that at least one destination did not get.

    Cure: that of the error it quotes.

    Attributes:
        outcome: of the month, for the summary of the run.
    """

    def __init__(self, message: str, outcome: MonthOutcome) -> None:
        """Keep the outcome.

        Args:
            message: why, in one line.
            outcome: of the month.
        """
        super().__init__(message)
        self.outcome = outcome

    def __reduce__(self) -> tuple[type, tuple[str, MonthOutcome]]:
        """Pickle with both arguments; an exception's default is its message only."""
        return type(self), (self.message, self.outcome)


@contextlib.contextmanager
def track_month(month: TripMonth, lock: Path, lock_timeout_seconds: float) -> Generator[MonthOutcome]:
    """Lock a month against other runs, time it, and turn any failure into `MonthFailed`.

    Args:
        month: the month.
        lock: the lock file of the month.
        lock_timeout_seconds: how long to wait for another run of the same month.

    Yields:
        The outcome, to be filled in by the block.

    Raises:
        MonthFailed: the block raised an error, or recorded one in `MonthOutcome.failures`.
    """

    def warn() -> None:
        logger.warning("%s: another run is working on this month; waiting for it", month.label)

    outcome, started = MonthOutcome(month), time.perf_counter()
    try:
        with error_context(month.label), file_lock(lock, lock_timeout_seconds, on_wait=warn):
            yield outcome
        outcome.error = "; ".join(outcome.failures.values()) or None
    except Exception as error:
        outcome.error = describe_error(error)
        raise MonthFailed(outcome.error, outcome) from error
    finally:
        outcome.seconds = time.perf_counter() - started + outcome.ahead_seconds
        outcome.finish()
    if outcome.error is not None:
        raise MonthFailed(outcome.error, outcome)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The outcome of a run.

    Attributes:
        dataset: its colour.
        months: one outcome per month, at least one, in calendar order.
    """

    dataset: str
    months: tuple[MonthOutcome, ...]

    @classmethod
    def concluded(cls, dataset: str, months: Iterable[MonthOutcome]) -> Self:
        """The summary of a run that ends now.

        Args:
            dataset: colour.
            months: one outcome each.

        Raises:
            MonthsFailed: with the summary, if a month failed.
        """
        summary = cls(dataset, tuple(months))
        if summary.failed:
            raise MonthsFailed(summary)
        return summary

    @property
    def year(self) -> int | None:
        """The year of its months; None if they span several years."""
        years = {outcome.month.year for outcome in self.months}
        return years.pop() if len(years) == 1 else None

    @property
    def label(self) -> str:
        """Its name for users: `yellow 2021`, or `yellow 2019-01 to 2021-07`."""
        first, last = self.months[0].month, self.months[-1].month
        return f"{self.dataset} {self.year or f'{first.iso} to {last.iso}'}"

    @property
    def failed(self) -> tuple[MonthOutcome, ...]:
        """The months that at least one destination did not get."""
        return tuple(outcome for outcome in self.months if outcome.status == "failed")

    def to_json(self) -> dict[str, Any]:
        """The content of `--summary`; for several years, `year` is null and each month has its own."""
        return {
            "dataset": self.dataset,
            "year": self.year,
            "months": [
                ({} if self.year else {"year": outcome.month.year}) | outcome.to_json()
                for outcome in self.months
            ],
        }


class MonthsFailed(Terminal):
    """A run in which at least one month failed; the others are published.

    Cure: that of the months it names; then run the same command, which leaves the published ones alone.

    Attributes:
        summary: of the run.
    """

    def __init__(self, summary: RunSummary) -> None:
        """Name the failed months and keep the summary.

        Args:
            summary: of the run.
        """
        failed = summary.failed
        super().__init__(
            f"{len(failed)} of {len(summary.months)} months failed: "
            + ", ".join(outcome.month.label for outcome in failed)
        )
        self.summary = summary

    def __reduce__(self) -> tuple[type, tuple[RunSummary]]:
        """Pickle with the summary."""
        return type(self), (self.summary,)


def describe_error(error: BaseException) -> str:
    """Describe an error in one line.

    Args:
        error: any error.

    Returns:
        The message of a `TaxiError`; of any other, its type and at most 300 characters.
    """
    if isinstance(error, TaxiError):
        return str(error)
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} (unexpected; the log has the traceback)"
