"""One month within a Prefect flow: its tasks, its page in the UI, its lineage."""

from flows.month.flow.futures import run_in_threads, wait_for_result
from flows.month.flow.load import load_with_tasks
from flows.month.flow.tasks import RETRY_OPTIONS, extract, stage_month

__all__ = [
    "RETRY_OPTIONS",
    "extract",
    "load_with_tasks",
    "run_in_threads",
    "stage_month",
    "wait_for_result",
]
