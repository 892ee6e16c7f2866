"""What a month shows on its page in the Prefect UI: progress while it goes on, tables and a link at its end.

It is written behind the work, by a thread of the month's own, over the connection the flow run has anyway.
An artifact that cannot be written is a line in the log and never a failure.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext

from flows.errors import TaxiError
from flows.month.outcome import MonthFailed, MonthOutcome
from flows.request import configured_destination
from flows.runtime import forward_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

    from flows.staging import QualityReport, StagedMonth
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
"""Time between two updates of a progress bar; each is one request to the server."""


class MonthPage:
    """The artifacts of one month's run. Every method returns at once; leaving the block waits for them all.

    Attributes:
        outcome: what becomes of the month; shown at the end.
    """

    def __init__(self, month: TripMonth, to: Sequence[str], data_dir: Path) -> None:
        """Start the progress bar of the flow run around it; outside one nothing is ever shown.

        Args:
            month: which one.
            to: destinations, each a phase of the work.
            data_dir: of the run.
        """
        context = FlowRunContext.get()
        client: Any = context.client if context else None
        self.outcome = MonthOutcome(month)
        self._month, self._data_dir = month, data_dir
        self._client: SyncPrefectClient | None = client
        self._run = context.flow_run.id if context and context.flow_run else None
        self._done = dict.fromkeys(("download", "stage", *to), 0.0)
        self._bar: UUID | None = None
        self._complained = False
        self._busy, self._last = threading.Event(), time.monotonic()
        self._queue = ThreadPoolExecutor(1, thread_name_prefix=f"artifacts {month.label}")
        self._later(self._start_bar)

    def update(self, month: str, phase: str, done: int, total: int | None) -> None:
        """See `flows.runtime.progress.ProgressListener`: move the bar, at most every `EVERY_SECONDS`."""
        if phase in self._done and total:
            self._done[phase] = min(done / total, 1.0)
        now = time.monotonic()
        if now - self._last >= EVERY_SECONDS and not self._busy.is_set():
            self._last = now
            self._busy.set()  # a slow server gets the newest state later, not all of them
            self._later(self._move_bar, self._percent, f"{month}: {phase}")

    def quality(self, report: QualityReport) -> None:
        """The quality report as a table."""
        self._attempt(self._table, "quality", report.table(), f"{self._month.label}: {report.headline}")

    def conclude(self, outcome: MonthOutcome) -> None:
        """What became of the month: the bar's end, the load as a table, a link to the data."""
        self._attempt(self._conclude, outcome)

    def close(self) -> None:
        """Wait until everything is written."""
        self._queue.shutdown(wait=True)

    def _conclude(self, outcome: MonthOutcome) -> None:
        if outcome.error is None:
            self._later(self._move_bar, 100.0, f"{self._month.label}: {outcome.status}")
        else:
            self._later(self._move_bar, self._percent, outcome.error)
        described = f"{self._month.label}: {outcome.error or outcome.status}"
        self._table("load", load_table(outcome), described)
        if outcome.staged and outcome.receipts:
            link = data_link(outcome.staged, outcome.receipts, self._data_dir)
            self._create("data", "markdown", link, f"{self._month.label}: where the data is")

    @property
    def _percent(self) -> float:
        return round(100 * sum(self._done.values()) / len(self._done), 1)

    def _table(self, kind: str, rows: list[dict[str, Any]], description: str) -> None:
        self._create(kind, "table", json.dumps(rows), description)

    def _create(self, kind: str, form: str, data: str, description: str) -> None:
        self._later(self._post, kind, form, data, description)

    def _post(self, kind: str, form: str, data: str | float, description: str) -> UUID | None:
        return (
            self._client
            and self._client.create_artifact(
                ArtifactCreate(
                    key=f"{kind}-{self._month.color}-{self._month.iso}",
                    type=form,
                    data=data,
                    description=description,
                    flow_run_id=self._run,
                )
            ).id
        )

    def _start_bar(self) -> None:
        self._bar = self._post("progress", "progress", 0.0, f"{self._month.label}: download")

    def _move_bar(self, percent: float, description: str) -> None:
        try:
            if self._bar and self._client:
                self._client.update_artifact(self._bar, ArtifactUpdate(data=percent, description=description))
        finally:
            self._busy.clear()

    def _later(self, call: Callable[..., object], *arguments: object) -> None:
        if self._client is None:
            return
        self._queue.submit(copy_context().run, self._attempt, call, *arguments)

    def _attempt(self, call: Callable[..., object], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - the page of a run is not worth the run
            level = logging.DEBUG if self._complained else logging.WARNING
            self._complained = True  # one line a month is enough
            reason = type(error).__name__
            logger.log(level, "%s: its page in the UI is not complete (%s)", self._month.label, reason)


@contextlib.contextmanager
def month_page(month: TripMonth, to: Sequence[str], data_dir: Path) -> Generator[MonthPage]:
    """Show a month on the page of the flow run around it, and how it ended when the block is left."""
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
    """The way of a month's rows, one line a step: source, Parquet, each destination."""
    rows: list[dict[str, Any]] = []
    if staged := outcome.staged:
        dropped = f", {staged.dropped_rows:,} dropped" if staged.dropped_rows else ""
        rows += [
            _step("source", staged.source, staged.source_rows, f"{staged.rejected_rows:,} rejected{dropped}"),
            _step("Parquet", str(staged.path), staged.rows, "as before" if staged.reused else "staged"),
        ]
    table = outcome.month.dataset.table
    rows += [
        _step(name, table, receipt.rows, receipt.status, receipt.seconds)
        for name, receipt in outcome.receipts.items()
    ]
    rows += [_step(name, table, None, error) for name, error in outcome.failures.items()]
    if not rows:
        rows.append(_step("source", outcome.month.label, None, outcome.error or ""))
    return rows


def _step(
    step: str, what: str, rows: int | None, status: str, seconds: float | None = None
) -> dict[str, Any]:
    took = "" if seconds is None else f"{seconds:.2f}"
    return {"step": step, "what": what, "rows": rows, "status": status, "seconds": took}


def data_link(staged: StagedMonth, receipts: Iterable[str], data_dir: Path) -> str:
    """Markdown link to the month: its object in the bucket if it is there, else the staged file."""
    if "gcs" in receipts:
        from flows.destinations.gcs import Gcs

        with contextlib.suppress(TaxiError):
            bucket = configured_destination("gcs", data_dir)
            if isinstance(bucket, Gcs):
                name = f"{bucket.bucket}/{bucket.object_name(staged.month)}"
                return f"[gs://{name}](https://console.cloud.google.com/storage/browser/_details/{name})"
    return f"[{staged.path}]({staged.path.absolute().as_uri()})"
