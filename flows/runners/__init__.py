"""Who works on the months: threads of this process, a Dask cluster, the workers of a deployment."""

from flows.runners.dispatch import run_concurrently, run_months

__all__ = [
    "run_concurrently",
    "run_months",
]
