"""Destination `gcs`: one Parquet object for each month; and those objects as a source."""

from flows.destinations.gcs.destination import Gcs, bucket_and_folder
from flows.destinations.gcs.month_object import MonthInBucket, MonthsInBucket

__all__ = [
    "Gcs",
    "MonthInBucket",
    "MonthsInBucket",
    "bucket_and_folder",
]
