"""The Prefect tasks of a month: name, retries, caching, lineage, and one call each."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.tasks import MaterializingTask, Task, exponential_backoff

from flows import sources, staging
from flows.errors import LockTimeout, Transient, error_context
from flows.month.assets import note_rows, source_asset, staged_asset, table_asset
from flows.month.limits import concurrency_slot
from flows.request import configured_destination
from flows.runtime import reporter
from flows.settings import get_settings
from flows.sources import LandedFile, SourceFile, find_landed
from flows.staging import QualityReport, StagedMonth, StagingOptions, report_quality
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.context import TaskRunContext

    from flows.destinations import Receipt

CACHED_FOR = dt.timedelta(days=1)


def is_transient(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task is worth another attempt: a transient error that has not been waited for yet.

    Args:
        state: of the failed task run.
    """
    error = state.result(raise_on_failure=False)
    return isinstance(error, Transient) and not isinstance(error, LockTimeout)


def extract_cache_key(_: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """Cache key of an extract. A changed source has another version, so the cache never hides it.

    Args:
        parameters: of the task.

    Returns:
        The same for the same version of the same file; None (no caching) if the source tells no version.
    """
    source: SourceFile = parameters["source"]
    version = sources.source_version(source, get_settings())
    target: Path = parameters["directory"] / source.file_name
    return f"extract|{source.identity}|{version}|{target.absolute()}" if version else None


class _Retry(TypedDict):
    retries: int
    retry_delay_seconds: Callable[[int], list[float]]
    retry_jitter_factor: float
    retry_condition_fn: Callable[[Task[..., Any], TaskRun, State[Any]], bool]


RETRY_OPTIONS: _Retry = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transient,
}


@task(
    name="extract",
    task_run_name="extract {month.label}",
    cache_key_fn=extract_cache_key,
    cache_expiration=CACHED_FOR,
    persist_result=True,
    result_serializer="json",
    **RETRY_OPTIONS,
)
def extract(month: TripMonth, source: SourceFile, directory: Path, *, force: bool) -> LandedFile:
    """Fetch and verify a source file. Cached for a day per version of the source.

    Args:
        month: which one.
        source: the file at its source.
        directory: where it lands.
        force: fetch it even if it is unchanged.

    Raises:
        TaxiError: see `flows.sources.land`.
    """
    with error_context(month.label):
        report = reporter(month.label, "download")
        landed = sources.land(source, directory, get_settings(), force=force, report=report)
    log("landed", month, bytes=landed.bytes, fetched=landed.fetched, sha256=landed.sha256)
    return landed


def extract_cached(month: TripMonth, source: SourceFile, directory: Path, *, force: bool) -> LandedFile:
    """Run `extract`; its cache is ignored when the landed file is gone or was changed, and when forced.

    Args:
        month: which one.
        source: the file at its source.
        directory: where it lands.
        force: fetch it even if it is unchanged.

    Returns:
        A landed file that is on the disk as it was verified.
    """
    stale = force or find_landed(directory / source.file_name) is None
    landed = extract.with_options(refresh_cache=stale)(month, source, directory, force=force)
    if not landed.is_intact():  # cached, but another version has landed under the same name since
        landed = extract.with_options(refresh_cache=True)(month, source, directory, force=force)
    return landed


def stage_month(
    landed: LandedFile,
    month: TripMonth,
    directory: Path,
    options: StagingOptions,
    *,
    force: bool,
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
    return task_run(landed, month, directory, options, force=force)


def _stage(
    landed: LandedFile, month: TripMonth, directory: Path, options: StagingOptions, *, force: bool
) -> StagedMonth:
    with error_context(month.label):
        staged = staging.stage(
            landed, month, directory, options, force=force, report=reporter(month.label, "stage")
        )
    rows = {"rows": staged.rows, "rejected": staged.rejected_rows, "reused": staged.reused}
    log("staged", month, source_rows=staged.source_rows, **rows)
    note_rows(staged_asset(staged.path, month).key, **rows)
    return staged


stage_task = MaterializingTask(
    _stage,
    assets=(),
    name="stage",
    task_run_name="stage {month.label}",
    cache_policy=NO_CACHE,
    **RETRY_OPTIONS,
)


def publish_month(staged: StagedMonth, destination: str, data_dir: Path, *, force: bool) -> Receipt:
    """Run the task `publish`: replace the month in one destination.

    Args:
        staged: the month.
        destination: its name.
        data_dir: of the local warehouse.
        force: replace the month even if it is there already.
    """
    table, parquet = table_asset(destination, staged.month), staged_asset(staged.path, staged.month)
    task_run = publish_task.with_options(assets=[table], asset_deps=[parquet])
    return task_run(staged, destination, data_dir, force=force)


def _publish(staged: StagedMonth, destination: str, data_dir: Path, *, force: bool) -> Receipt:
    month = staged.month
    with error_context(f"{month.label} -> {destination}"):
        target = configured_destination(destination, data_dir)
        with concurrency_slot(destination):
            receipt = target.publish(staged, force=force, report=reporter(month.label, destination))
    rows = {"rows": receipt.rows, "status": receipt.status}
    log("published", month, destination=destination, **rows, seconds=round(receipt.seconds, 3))
    note_rows(table_asset(destination, month).key, file_month=month.iso, **rows)
    return receipt


publish_task = MaterializingTask(
    _publish,
    assets=(),
    name="publish",
    task_run_name="publish {staged.month.label} to {destination}",
    cache_policy=NO_CACHE,
    **RETRY_OPTIONS,
)


@task(name="quality", task_run_name="quality {staged.month.label}", cache_policy=NO_CACHE)
def quality(staged: StagedMonth) -> QualityReport:
    """Count what is odd in the month; the report is kept as JSON beside the staged file.

    Args:
        staged: the month.
    """
    with error_context(staged.month.label):
        report = report_quality(staged)
    log("checked", staged.month, **report.measures, exact_duplicates=report.exact_duplicates)
    return report


def log(event: str, month: TripMonth, **facts: object) -> None:
    """Log one line that a log store can parse, such as `event=staged dataset=yellow month=2021-01 ...`.

    Args:
        event: what happened.
        month: to which month.
        facts: further `name=value` pairs; values have no blanks.
    """
    pairs = {"event": event, "dataset": month.color, "month": month.iso, **facts}
    line = " ".join(f"{name}={json.dumps(value).strip(chr(34))}" for name, value in pairs.items())
    with contextlib.suppress(MissingContextError):  # outside a Prefect run there is no page to log to
        get_run_logger().info(line)
