"""The Prefect tasks of a month: name, retries, lineage, and one step each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.states import Completed
from prefect.tasks import MaterializingTask, Task, exponential_backoff

from flows.errors import Terminal
from flows.month import steps
from flows.month.flow.assets import note_rows, source_asset, staged_asset, table_asset
from flows.month.flow.futures import quoted, wait_for_result
from flows.month.flow.limits import concurrency_slot
from flows.month.steps import STEP_RETRIES
from flows.runtime import announce_retry
from flows.sources import LandedFile, SourceFile
from flows.staging import QualityReport, StagedMonth, StagingOptions
from transforms.gates import RowCounts
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from prefect.client.schemas.objects import TaskRun
    from prefect.futures import PrefectFuture

    from flows.destinations import Receipt
    from flows.month.flow.artifacts import MonthPage
    from flows.month.steps import Pending

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")


def is_transient(_: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task is worth another attempt, which is then announced.

    Prefect asks only while there are attempts left; see `flows.month.steps.is_worth_retrying`.

    Args:
        task_run: the failed one; its attempts are counted.
        state: its state.
    """
    error: Any = state.result(raise_on_failure=False)
    is_worth_it = steps.is_worth_retrying(error)
    if is_worth_it:
        failures = min(task_run.run_count, len(RETRY_DELAYS))
        announce_retry(error, RETRY_DELAYS[failures - 1])
    return is_worth_it


class _Retry(TypedDict):
    retries: int
    retry_delay_seconds: list[float]
    retry_jitter_factor: float
    retry_condition_fn: Callable[[Task[..., Any], TaskRun, State[Any]], bool]


RETRY_DELAYS = exponential_backoff(STEP_RETRIES.first_pause_seconds)((STEP_RETRIES.attempts or 1) - 1)
"""Seconds before each further attempt, which Prefect varies a little."""

RETRY_OPTIONS: _Retry = {
    "retries": (STEP_RETRIES.attempts or 1) - 1,
    "retry_delay_seconds": RETRY_DELAYS,
    "retry_jitter_factor": STEP_RETRIES.jitter[1] - 1,
    "retry_condition_fn": is_transient,
}


def extract(
    month: TripMonth,
    source: SourceFile,
    directory: Path,
    *,
    force: bool,
    ahead: LandedFile | Terminal | None = None,
) -> LandedFile:
    """Run the task `extract`: fetch and verify a source file.

    Its final state is `Cached` if the file had landed before and the source says that it has not changed.
    Prefect's own cache would ask the source a second time, for its key.

    Args:
        month: which one.
        source: the file at its source.
        directory: where it lands.
        force: fetch it even if it is unchanged.
        ahead: the file, if it has landed ahead of the month, or why it could not.

    Returns:
        The verified file.

    Raises:
        TaxiError: see `flows.sources.land`.
    """
    state: State[Any] = _extract(
        quoted(month), quoted(source), quoted(directory), force=force, ahead=quoted(ahead), return_state=True
    )
    return state.result()


@task(name="extract", task_run_name="extract {month.label}", cache_policy=NO_CACHE, **RETRY_OPTIONS)
def _extract(
    month: TripMonth, source: SourceFile, directory: Path, *, force: bool, ahead: LandedFile | Terminal | None
) -> State[LandedFile]:
    landed = steps.extract(month, source, directory, force=force, ahead=ahead, log=_log)
    return Completed(name="Completed" if landed.fetched else "Cached", data=landed)


def stage_month(
    landed: LandedFile, month: TripMonth, directory: Path, options: StagingOptions, *, force: bool
) -> StagedMonth:
    """Run the task `stage`: a landed file becomes one Parquet file and its rejects.

    Args:
        landed: the verified source file.
        month: what it holds.
        directory: where the staged file goes.
        options: of the staging.
        force: stage again in any case.
    """
    parquet = staged_asset(directory / f"{month.stem}.parquet", month)
    task_run = stage_task.with_options(assets=[parquet], asset_deps=[source_asset(landed.url)])
    return task_run(quoted(landed), quoted(month), quoted(directory), quoted(options), force=force)


def _stage(
    landed: LandedFile, month: TripMonth, directory: Path, options: StagingOptions, *, force: bool
) -> StagedMonth:
    staged = steps.stage(landed, month, directory, options, force=force, log=_log)
    facts = {"rows": staged.rows, "rejected": staged.rejected_rows, "reused": staged.reused}
    note_rows(staged_asset(staged.path, month).key, **facts)
    return staged


stage_task = MaterializingTask(
    _stage,
    assets=(),
    name="stage",
    task_run_name="stage {month.label}",
    cache_policy=NO_CACHE,
    **RETRY_OPTIONS,
)


def _publish(staged: StagedMonth, destination: str, data_dir: Path, *, force: bool) -> Receipt:
    month = staged.month
    with concurrency_slot(destination):
        receipt = steps.publish(staged, destination, data_dir, force=force, log=_log)
    facts = {"rows": receipt.rows, "status": receipt.status}
    note_rows(table_asset(destination, month).key, file_month=month.iso, **facts)
    return receipt


publish_task = MaterializingTask(
    _publish,
    assets=(),
    name="publish",
    task_run_name="publish {staged.month.label} to {destination}",
    cache_policy=NO_CACHE,
    **RETRY_OPTIONS,
)


def submit_publish(
    staged: StagedMonth, destination: str, data_dir: Path, *, force: bool
) -> PrefectFuture[Receipt]:
    """Submit the task `publish`: the month is replaced in one destination.

    Args:
        staged: the month.
        destination: its name.
        data_dir: of the local warehouse.
        force: replace the month even if it is there already.
    """
    table, parquet = table_asset(destination, staged.month), staged_asset(staged.path, staged.month)
    task_run = publish_task.with_options(assets=[table], asset_deps=[parquet])
    return task_run.submit(quoted(staged), quoted(destination), quoted(data_dir), force=force)


@task(name="quality", task_run_name="quality {staged.month.label}", cache_policy=NO_CACHE)
def quality(staged: StagedMonth, counts: RowCounts) -> QualityReport:
    """Report what is odd in the month.

    Args:
        staged: the month.
        counts: of its rows.

    Returns:
        The report.
    """
    return steps.quality(staged, counts, log=_log)


class _Submitted(Generic[Result]):
    """A task run under way; see `flows.month.steps.Pending`."""

    def __init__(self, future: PrefectFuture[Result], then: Callable[[Result], object] | None = None) -> None:
        self._future, self._then = future, then

    def result(self) -> Result:
        result: Any = wait_for_result(self._future)
        if isinstance(result, BaseException):
            raise result
        if self._then:
            self._then(result)
        return result


RUN: dict[Callable[..., Any], Callable[..., Any]] = {steps.extract: extract, steps.stage: stage_month}
SUBMIT: dict[Callable[..., Any], Callable[..., Any]] = {
    steps.publish: submit_publish,
    steps.quality: lambda staged, counts: quality.submit(quoted(staged), quoted(counts)),
}
"""The task of each step."""


class TaskSteps:
    """The steps of a month as task runs of the current flow; see `flows.month.steps.Steps`."""

    def __init__(self, page: MonthPage) -> None:
        """Keep the page.

        Args:
            page: of the month in the UI; shows the quality report.
        """
        self._page = page

    def run(self, step: Callable[Inputs, Result], *args: Inputs.args, **options: Inputs.kwargs) -> Result:
        """See `Steps.run`."""
        return RUN[step](*args, **options)

    def start(
        self, step: Callable[Inputs, Result], *args: Inputs.args, **options: Inputs.kwargs
    ) -> Pending[Result]:
        """See `Steps.start`."""
        then: Any = self._page.quality if step is steps.quality else None
        return _Submitted(SUBMIT[step](*args, **options), then)


def _log(line: str) -> None:
    with contextlib.suppress(MissingContextError):  # outside a Prefect run there is no page to log to
        get_run_logger().info(line)
