"""What a table no longer needs: snapshots past their time, and files that no snapshot names."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.table import TableProperties

from flows.destinations.iceberg.storage import local_directory, referenced_files, remove_orphans

if TYPE_CHECKING:
    from pyiceberg.table import Table

ORPHANS_KEPT = dt.timedelta(days=3)
"""In a bucket, where a run that has written a file and not yet named it cannot be told from a killed one."""


@dataclass(frozen=True, slots=True)
class Maintained:
    """What was removed.

    Attributes:
        snapshots: that had expired.
        files: that only these named, or none.
    """

    snapshots: int
    files: int


def maintain_table(table: Table, keep: dt.timedelta | None) -> Maintained:
    """Expire old snapshots, never the newest, and remove the files that nothing names any more.

    Args:
        table: nobody else changes it, if it is on a disk.
        keep: how long a snapshot is kept; None: as the table's property says, by default five days.

    Returns:
        What was removed.
    """
    now = dt.datetime.now(dt.UTC)
    property_ms = table.properties.get(
        TableProperties.MAX_SNAPSHOT_AGE_MS, TableProperties.MAX_SNAPSHOT_AGE_MS_DEFAULT
    )
    oldest = now - (dt.timedelta(milliseconds=int(property_ms)) if keep is None else keep)
    before, named = len(table.snapshots()), referenced_files(table)
    table.maintenance.expire_snapshots().older_than(oldest).commit()
    expired = before - len(table.snapshots())
    gone = named - referenced_files(table)
    for location in gone:
        table.io.delete(location)
    is_local = local_directory(table.location()) is not None
    orphans = remove_orphans(table, now if is_local else now - ORPHANS_KEPT)
    return Maintained(expired, len(gone) + orphans)
