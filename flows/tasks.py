"""The Prefect tasks: name, retries, caching, and one call each."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task, exponential_backoff

from flows import quality_report, sources, staging
from flows.blocks import configured_destination
from flows.destinations import Receipt
from flows.errors import Transient, WaitedInVain, locate
from flows.progress import reporter
from flows.quality_report import QualityReport
from flows.settings import get_settings
from flows.sources import LandedFile, SourceFile
from flows.sources.landing import landed_before
from flows.staging import StagedMonth, StagingOptions
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import State, TaskRun
    from prefect.context import TaskRunContext

CACHED_FOR = dt.timedelta(days=1)


def is_transient(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task is worth another attempt: what may pass, and has not been waited for yet."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, Transient) and not isinstance(error, WaitedInVain)


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


RETRIED: _Retry = {
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
    **RETRIED,
)
def extract(month: TripMonth, source: SourceFile, directory: Path, *, force: bool) -> LandedFile:
    """Source -> landed, verified file. Cached for a day per version of the source."""
    with locate(month.label):
        return sources.land(
            source,
            directory,
            get_settings(),
            force=force,
            report=reporter(month.label, "download"),
        )


def extract_cached(month: TripMonth, source: SourceFile, directory: Path, *, force: bool) -> LandedFile:
    """Run `extract`, past its cache when the file it speaks of is gone, changed by hand, or forced."""
    stale = force or landed_before(directory / source.file_name) is None
    landed = extract.with_options(refresh_cache=stale)(month, source, directory, force=force)
    if not landed.is_intact():  # cached, but since then another version has landed under the name
        landed = extract.with_options(refresh_cache=True)(month, source, directory, force=force)
    return landed


@task(name="stage", task_run_name="stage {month.label}", cache_policy=NO_CACHE, **RETRIED)
def stage(
    landed: LandedFile,
    month: TripMonth,
    directory: Path,
    options: StagingOptions,
    *,
    force: bool,
) -> StagedMonth:
    """Landed file -> one Parquet file and its rejects."""
    with locate(month.label):
        return staging.stage(
            landed, month, directory, options, force=force, report=reporter(month.label, "stage")
        )


@task(
    name="publish",
    task_run_name="publish {staged.month.label} to {destination}",
    cache_policy=NO_CACHE,
    **RETRIED,
)
def publish(staged: StagedMonth, destination: str, data_dir: Path, *, force: bool) -> Receipt:
    """Staged file -> one destination, the month replaced as a whole."""
    label = staged.month.label
    with locate(f"{label} -> {destination}"):
        target = configured_destination(destination, data_dir)
        return target.publish(staged, force=force, report=reporter(label, destination))


@task(name="quality", task_run_name="quality {staged.month.label}", cache_policy=NO_CACHE)
def quality(staged: StagedMonth) -> QualityReport:
    """Count what is odd in the month; kept as JSON beside the staged file and as an artifact."""
    with locate(staged.month.label):
        report = quality_report.quality_report(staged)
    create_table_artifact(
        key=f"quality-{staged.month.color}-{staged.month.iso}",
        table=report.table(),
        description=f"{staged.month.label}: {report.headline}",
    )
    return report
