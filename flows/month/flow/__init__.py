"""One month as a Prefect flow: its tasks, its page in the UI, its lineage."""

from flows.month.flow.futures import run_in_threads, wait_for_result
from flows.month.flow.subflow import etl_month
from flows.month.flow.tasks import RETRY_OPTIONS, extract, stage_month

__all__ = [
    "RETRY_OPTIONS",
    "etl_month",
    "extract",
    "run_in_threads",
    "stage_month",
    "wait_for_result",
]
