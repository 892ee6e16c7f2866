"""The steps of a month, one function each: extract, stage, publish, quality.

`flows.month.flow` runs them as Prefect tasks, `DirectSteps` as plain calls; what is retried is said here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, Protocol, Self, TypeAlias, TypeVar

from flows import sources, staging
from flows.errors import LockTimeout, Terminal, Transient, error_context
from flows.request import configured_destination
from flows.runtime import RetryPolicy, announce_retry, reporter, retry_transient
from flows.settings import get_settings
from flows.staging import report_quality

if TYPE_CHECKING:
    from flows.destinations import Receipt
    from flows.sources import LandedFile, SourceFile
    from flows.staging import QualityReport, StagedMonth, StagingOptions
    from transforms.gates import RowCounts
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

Log: TypeAlias = "Callable[[str], object]"
"""Takes one line that a log store can parse."""

STEP_RETRIES = RetryPolicy(attempts=4, first_pause_seconds=2.0, longest_pause_seconds=30.0, jitter=(1.0, 1.5))
"""How often a step is retried; see `is_worth_retrying`."""

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Pending(Protocol[Result_co]):
    """The result of a step that is under way."""

    def result(self) -> Result_co:
        """Wait for it; raises what the step raised."""
        ...


class Steps(Protocol):
    """How the steps of a month are run."""

    def run(self, step: Callable[Inputs, Result], *args: Inputs.args, **options: Inputs.kwargs) -> Result:
        """Run a step, one of the functions of this module, and retry it."""
        ...

    def start(
        self, step: Callable[Inputs, Result], *args: Inputs.args, **options: Inputs.kwargs
    ) -> Pending[Result]:
        """Do the same beside what follows."""
        ...


def is_worth_retrying(error: object) -> bool:
    """Whether a step that failed may succeed in another attempt: a transient error not yet waited for.

    Args:
        error: as raised by the step.
    """
    return isinstance(error, Transient) and not isinstance(error, LockTimeout)


def extract(
    month: TripMonth,
    source: SourceFile,
    directory: Path,
    *,
    force: bool,
    ahead: LandedFile | Terminal | None = None,
    log: Log = logger.debug,
) -> LandedFile:
    """Fetch and verify a source file, unless it has landed and the source says that it has not changed.

    Args:
        month: which one.
        source: the file at its source.
        directory: where it lands.
        force: fetch it even if it is unchanged.
        ahead: the file, if it has landed ahead of the month, used as long as it is what was verified; or why
            it could not.
        log: receives what was done.

    Returns:
        The verified file.

    Raises:
        TaxiError: see `flows.sources.land`.
    """
    if isinstance(ahead, Terminal):
        raise ahead
    if ahead and ahead.is_intact():
        landed = ahead
    else:
        with error_context(month.label):
            report = reporter(month.label, "download")
            landed = sources.land(source, directory, get_settings(), force=force, report=report)
    log(_event("landed", month, bytes=landed.bytes, fetched=landed.fetched, sha256=landed.sha256))
    return landed


def stage(
    landed: LandedFile,
    month: TripMonth,
    directory: Path,
    options: StagingOptions,
    *,
    force: bool,
    log: Log = logger.debug,
) -> StagedMonth:
    """Turn a landed file into one Parquet file and its rejects.

    Args:
        landed: the verified source file.
        month: what it holds.
        directory: where the staged file goes.
        options: of the staging.
        force: stage again in any case.
        log: receives what was done.

    Returns:
        The staged month.

    Raises:
        TaxiError: see `flows.staging.stage`.
    """
    with error_context(month.label):
        report = reporter(month.label, "stage")
        staged = staging.stage(landed, month, directory, options, force=force, report=report)
    rows = {"rows": staged.rows, "rejected": staged.rejected_rows, "reused": staged.reused}
    log(_event("staged", month, source_rows=staged.source_rows, **rows))
    return staged


def publish(
    staged: StagedMonth, destination: str, data_dir: Path, *, force: bool, log: Log = logger.debug
) -> Receipt:
    """Replace the month in one destination.

    Args:
        staged: the month.
        destination: its name.
        data_dir: of the local warehouse.
        force: replace the month even if it is there already.
        log: receives what was done.

    Returns:
        What the destination has now, by its own count.

    Raises:
        TaxiError: see `flows.destinations.Destination.publish`.
    """
    month = staged.month
    with error_context(f"{month.label} -> {destination}"):
        target = configured_destination(destination, data_dir)
        receipt = target.publish(staged, force=force, report=reporter(month.label, destination))
    facts = {"rows": receipt.rows, "status": receipt.status, "seconds": round(receipt.seconds, 3)}
    log(_event("published", month, destination=destination, **facts))
    return receipt


def quality(
    staged: StagedMonth, counts: RowCounts | None = None, *, log: Log = logger.debug
) -> QualityReport:
    """Count what is odd in the month; the report is kept as JSON beside the staged file.

    Args:
        staged: the month.
        counts: of its rows, if they are known.
        log: receives what was found.

    Returns:
        The report.

    Raises:
        TaxiError: see `flows.staging.report_quality`.
    """
    with error_context(staged.month.label):
        report = report_quality(staged, counts)
    log(_event("checked", staged.month, **report.measures, exact_duplicates=report.exact_duplicates))
    return report


def _event(event: str, month: TripMonth, **facts: object) -> str:
    """One line such as `event=staged dataset=yellow month=2021-01 rows=...`; values have no blanks."""
    pairs = {"event": event, "dataset": month.color, "month": month.iso, **facts}
    return " ".join(f"{name}={json.dumps(value).strip(chr(34))}" for name, value in pairs.items())


class DirectSteps:
    """The steps as plain calls, retried; see `Steps`. A context manager: it waits for what was started."""

    def __init__(self) -> None:
        """Start no thread yet."""
        self._pool = ThreadPoolExecutor(thread_name_prefix="step")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the steps under way."""
        self._pool.shutdown()

    def run(self, step: Callable[Inputs, Result], *args: Inputs.args, **options: Inputs.kwargs) -> Result:
        """See `Steps.run`."""
        call = partial(step, *args, **options)
        return retry_transient(call, STEP_RETRIES, retry_on=is_worth_retrying, before_pause=announce_retry)

    def start(
        self, step: Callable[Inputs, Result], *args: Inputs.args, **options: Inputs.kwargs
    ) -> Pending[Result]:
        """See `Steps.start`."""
        return self._pool.submit(copy_context().run, lambda: self.run(step, *args, **options))
