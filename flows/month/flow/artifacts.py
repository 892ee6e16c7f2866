"""What a month shows on its page in the Prefect UI: a progress bar, and at the end two tables and a link.

Artifacts are written in the background, by one thread per month. One that cannot be written costs a line in
the log and never fails the month.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext

from flows.errors import TaxiError
from flows.month.outcome import MonthFailed, MonthOutcome
from flows.request import configured_destination
from flows.runtime import forward_progress

if TYPE_CHECKING:
    from flows.staging import QualityReport, StagedMonth
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
"""Time between two updates of a progress bar; each is one request to the server."""


class MonthPage:
    """The artifacts of one month's task, or flow run; outside a flow run, nothing is written.

    Attributes:
        outcome: the outcome of the month, shown at the end.
    """

    def __init__(self, month: TripMonth, to: Sequence[str], data_dir: Path) -> None:
        """Create the progress bar.

        Args:
            month: the month.
            to: destinations; each is a phase of the work.
            data_dir: of the run.
        """
        self.outcome = MonthOutcome(month)
        self._month, self._data_dir = month, data_dir
        self._key = f"{month.color}-{month.iso}"
        # The context of the month and not of the step that reports: it decides where an artifact is shown.
        self._context = copy_context() if FlowRunContext.get() else None
        self._queue = ThreadPoolExecutor(1, thread_name_prefix=f"artifacts {month.label}")
        self._done = dict.fromkeys(("download", "stage", *to), 0.0)
        self._bar: Any = None
        self._updating, self._updated = threading.Event(), time.monotonic()
        self._has_warned = False
        self._submit(self._create_bar)

    def update(self, month: str, phase: str, done: int, total: int | None) -> None:
        """Move the bar, at most every `EVERY_SECONDS`; see `flows.runtime.progress.ProgressListener`."""
        if phase in self._done and total:
            self._done[phase] = min(done / total, 1.0)
        now = time.monotonic()
        if now - self._updated >= EVERY_SECONDS and not self._updating.is_set():
            self._updated = now
            self._updating.set()  # a slow server gets the newest state later instead of a queue of old ones
            self._submit(self._move_bar, self._percent, f"{month}: {phase}")

    def quality(self, report: QualityReport) -> None:
        """Show the quality report as a table.

        Args:
            report: of the month.
        """
        description = f"{self._month.label}: {report.headline}"
        self._submit(lambda: create_table_artifact(report.table(), f"quality-{self._key}", description))

    def conclude(self, outcome: MonthOutcome) -> None:
        """Show the end of the bar, the load as a table, and a link to the data.

        Args:
            outcome: of the month.
        """
        percent = self._percent if outcome.error else 100.0
        description = f"{self._month.label}: {outcome.error or outcome.status}"
        self._submit(self._move_bar, percent, outcome.error or description)
        self._submit(lambda: create_table_artifact(load_table(outcome), f"load-{self._key}", description))
        self._submit(self._create_link, outcome)

    def close(self) -> None:
        """Wait until everything is written."""
        self._queue.shutdown(wait=True)

    @property
    def _percent(self) -> float:
        return round(100 * sum(self._done.values()) / len(self._done), 1)

    def _create_bar(self) -> None:
        description = f"{self._month.label}: download"
        self._bar = create_progress_artifact(0.0, f"progress-{self._key}", description)

    def _move_bar(self, percent: float, description: str) -> None:
        try:
            if self._bar:
                update_progress_artifact(self._bar, percent, description)
        finally:
            self._updating.clear()

    def _create_link(self, outcome: MonthOutcome) -> None:
        if outcome.staged and outcome.receipts:
            link = _data_link(outcome.staged, outcome.receipts, self._data_dir)
            create_markdown_artifact(link, f"data-{self._key}", f"{self._month.label}: where the data is")

    def _submit(self, write: Callable[..., object], *arguments: object) -> None:
        if self._context:
            future = self._queue.submit(self._context.run, write, *arguments)
            future.add_done_callback(self._warn_once)

    def _warn_once(self, future: Future[object]) -> None:
        if error := future.exception():
            level = logging.DEBUG if self._has_warned else logging.WARNING
            self._has_warned = True
            reason = type(error).__name__
            logger.log(level, "%s: its page in the UI is not complete (%s)", self._month.label, reason)


@contextlib.contextmanager
def month_page(month: TripMonth, to: Sequence[str], data_dir: Path) -> Generator[MonthPage]:
    """Show a month on the page of the current flow run, and how it ended when the block is left.

    Args:
        month: the month.
        to: destinations; each is a phase of the work.
        data_dir: of the run.

    Yields:
        The page; the block sets its `outcome`.

    Raises:
        MonthFailed: raised in the block, and shown.
    """
    page = MonthPage(month, to, data_dir)
    try:
        with forward_progress(month.label, page):
            yield page
    except MonthFailed as failed:
        page.conclude(failed.outcome)
        raise
    else:
        page.conclude(page.outcome)
    finally:
        page.close()


def load_table(outcome: MonthOutcome) -> list[dict[str, Any]]:
    """Follow the rows of a month from the source through the staged file to each destination.

    Args:
        outcome: of the month.

    Returns:
        One row per step: `step`, `what` (file, table, warning), `rows` (None if none), `status`, and
        `seconds` as text (empty if not measured).
    """
    steps: list[dict[str, Any]] = []
    if staged := outcome.staged:
        dropped = f", {staged.dropped_rows:,} dropped" if staged.dropped_rows else ""
        steps += [
            _step("source", staged.source, staged.source_rows, f"{staged.rejected_rows:,} rejected{dropped}"),
            _step("Parquet", str(staged.path), staged.rows, "as before" if staged.reused else "staged"),
        ]
        steps += [_step("gate", warning, None, "warning") for warning in staged.warnings]
    table = outcome.month.dataset.table
    steps += [
        _step(name, table, receipt.rows, receipt.status, f"{receipt.seconds:.2f}")
        for name, receipt in outcome.receipts.items()
    ]
    steps += [_step(name, table, None, error) for name, error in outcome.failures.items()]
    return steps or [_step("source", outcome.month.label, None, outcome.error or "")]


def _step(step: str, what: str, rows: int | None, status: str, seconds: str = "") -> dict[str, Any]:
    return {"step": step, "what": what, "rows": rows, "status": status, "seconds": seconds}


def _data_link(staged: StagedMonth, destinations: Iterable[str], data_dir: Path) -> str:
    """Link in Markdown to the object of a month if it is in the bucket, else to the staged file."""
    if "gcs" in destinations:
        from flows.destinations.gcs import Gcs

        with contextlib.suppress(TaxiError):
            bucket = configured_destination("gcs", data_dir)
            if isinstance(bucket, Gcs):
                name = f"{bucket.bucket}/{bucket.object_name(staged.month)}"
                return f"[gs://{name}](https://console.cloud.google.com/storage/browser/_details/{name})"
    return f"[{staged.path}]({staged.path.absolute().as_uri()})"
