"""Destination `bigquery`, and load jobs from the bucket into it."""

from flows.destinations.bigquery.destination import BigQuery
from flows.destinations.bigquery.load_job import LoadJobs

__all__ = [
    "BigQuery",
    "LoadJobs",
]
