"""Who works on the months: threads of this process, a Dask cluster, the workers of a deployment."""

from flows.runners.dispatch import run_months, run_request

__all__ = [
    "run_months",
    "run_request",
]
