"""Destination `bigquery`, and load jobs that fill it from the bucket."""

from flows.destinations.bigquery.destination import BigQuery
from flows.destinations.bigquery.load_job import LoadJobs

__all__ = [
    "BigQuery",
    "LoadJobs",
]
