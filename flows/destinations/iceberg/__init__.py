"""Destination `iceberg`: Apache Iceberg tables on a disk or in a bucket, a month in one snapshot."""

# The first import says in one line if the extra is not installed.
from flows.destinations.iceberg.requirement import EXTRA

# isort: split
from flows.destinations.iceberg.destination import Iceberg
from flows.destinations.iceberg.maintenance import Maintained

__all__ = [
    "EXTRA",
    "Iceberg",
    "Maintained",
]
