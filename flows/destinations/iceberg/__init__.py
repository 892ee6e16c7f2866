"""Destination `iceberg`: Apache Iceberg tables on a disk or in a bucket, a month in one snapshot."""

from flows.destinations.iceberg.requirement import EXTRA

# isort: split - the first import says in one line what is not installed
from flows.destinations.iceberg.destination import Iceberg
from flows.destinations.iceberg.maintenance import Maintained

__all__ = [
    "EXTRA",
    "Iceberg",
    "Maintained",
]
