"""Who works on the months: threads of this process, a Dask cluster, the workers of a deployment."""

from flows.runners.dispatch import run_concurrently, run_months
from flows.runners.month_task import MonthRequest

__all__ = [
    "MonthRequest",
    "run_concurrently",
    "run_months",
]
