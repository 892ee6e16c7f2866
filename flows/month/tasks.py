"""The Prefect tasks: name, retries, caching, lineage, and one call each."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
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
    from collections.abc import Callable

    from prefect.client.schemas.objects import State, TaskRun
    from prefect.context import TaskRunContext

    from flows.destinations import Receipt

CACHED_FOR = dt.timedelta(days=1)


def is_transient(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task is worth another attempt: what may pass, and has not been waited for yet."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, Transient) and not isinstance(error, LockTimeout)


def same_extract(_: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """Key of an extract: the same file in the same version; None (no caching) if that is unknown.

    A changed source has another version and is therefore never hidden by the cache.
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
    cache_key_fn=same_extract,
    cache_expiration=CACHED_FOR,
    persist_result=True,
    result_serializer="json",
    **RETRY_OPTIONS,
)
def extract(month: TripMonth, source: SourceFile, directory: Path, *, force: bool) -> LandedFile:
    """Source -> landed, verified file. Cached for a day per version of the source."""
    with error_context(month.label):
        landed = sources.land(
            source,
            directory,
            get_settings(),
            force=force,
            report=reporter(month.label, "download"),
        )
    log("landed", month, bytes=landed.bytes, fetched=landed.fetched, sha256=landed.sha256)
    return landed


def extract_cached(month: TripMonth, source: SourceFile, directory: Path, *, force: bool) -> LandedFile:
    """Run `extract`, past its cache when the file it speaks of is gone, changed by hand, or forced."""
    stale = force or find_landed(directory / source.file_name) is None
    landed = extract.with_options(refresh_cache=stale)(month, source, directory, force=force)
    if not landed.is_intact():  # cached, but since then another version has landed under the name
        landed = extract.with_options(refresh_cache=True)(month, source, directory, force=force)
    return landed


def stage(
    landed: LandedFile,
    month: TripMonth,
    directory: Path,
    options: StagingOptions,
    *,
    force: bool,
) -> StagedMonth:
    """Run the task `stage`: landed file -> one Parquet file and its rejects."""
    made = staged_asset(directory / f"{month.stem}.parquet", month)
    from_source = stage_task.with_options(assets=[made], asset_deps=[source_asset(landed.url)])
    return from_source(landed, month, directory, options, force=force)


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


def publish(staged: StagedMonth, destination: str, data_dir: Path, *, force: bool) -> Receipt:
    """Run the task `publish`: staged file -> one destination, the month replaced as a whole."""
    made = table_asset(destination, staged.month)
    from_parquet = publish_task.with_options(
        assets=[made], asset_deps=[staged_asset(staged.path, staged.month)]
    )
    return from_parquet(staged, destination, data_dir, force=force)


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
    """Count what is odd in the month; kept as JSON beside the staged file."""
    with error_context(staged.month.label):
        report = report_quality(staged)
    log("checked", staged.month, **report.measures, exact_duplicates=report.exact_duplicates)
    return report


def log(event: str, month: TripMonth, **facts: object) -> None:
    """One line on the page of the run and in the log file: `event=staged dataset=yellow month=2021-01 ...`.

    Every line is made of `name=value`, values without blanks, so that a log store can take it apart.
    """
    said = {"event": event, "dataset": month.color, "month": month.iso, **facts}
    line = " ".join(f"{name}={json.dumps(value).strip(chr(34))}" for name, value in said.items())
    with contextlib.suppress(MissingContextError):  # called without Prefect: there is no page
        get_run_logger().info(line)
