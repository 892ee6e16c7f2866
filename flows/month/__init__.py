"""One month, from its source or from the bucket; `flows.month.flow` is Prefect's side of it."""

from typing import TYPE_CHECKING

from flows.runtime import lazy_face

if TYPE_CHECKING:
    from flows.month.ahead import landing_ahead
    from flows.month.ends import BUCKET, WAREHOUSE
    from flows.month.from_bucket import load_from_bucket, months_in_bucket
    from flows.month.from_source import load_from_source
    from flows.month.gates import Gates, failed_gates, measures_of
    from flows.month.outcome import (
        MonthFailed,
        MonthOutcome,
        MonthsFailed,
        RunSummary,
        describe_error,
        track_month,
    )
    from flows.month.steps import DirectSteps
    from flows.month.unchanged import seems_unchanged

__getattr__ = lazy_face(__name__)

__all__ = [
    "BUCKET",
    "WAREHOUSE",
    "DirectSteps",
    "Gates",
    "MonthFailed",
    "MonthOutcome",
    "MonthsFailed",
    "RunSummary",
    "describe_error",
    "failed_gates",
    "landing_ahead",
    "load_from_bucket",
    "load_from_source",
    "measures_of",
    "months_in_bucket",
    "seems_unchanged",
    "track_month",
]
