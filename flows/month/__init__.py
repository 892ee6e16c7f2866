"""One month, from its source to every destination."""

from flows.month.flow import etl_month
from flows.month.from_bucket import BUCKET, WAREHOUSE, load
from flows.month.outcome import (
    MonthFailed,
    MonthOutcome,
    MonthsFailed,
    RunSummary,
    describe_error,
    track_month,
)
from flows.month.tasks import RETRY_OPTIONS, extract_cached, stage_month

__all__ = [
    "BUCKET",
    "RETRY_OPTIONS",
    "WAREHOUSE",
    "MonthFailed",
    "MonthOutcome",
    "MonthsFailed",
    "RunSummary",
    "describe_error",
    "etl_month",
    "extract_cached",
    "load",
    "stage_month",
    "track_month",
]
