"""Destination `iceberg`: Apache Iceberg tables on a disk or in a bucket, a month in one snapshot."""

from importlib.util import find_spec

from flows.errors import UsageError

if find_spec("pyiceberg") is None:
    raise UsageError("Iceberg tables need the extra `iceberg`; pip install 'taxi-etl[iceberg]'")

from flows.destinations.iceberg.destination import Iceberg
from flows.destinations.iceberg.maintenance import Maintained

__all__ = [
    "Iceberg",
    "Maintained",
]
