"""What a table no longer needs: snapshots past their time, and files that no snapshot names."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.table import TableProperties

from flows.destinations.iceberg.storage import referenced_files, remove_orphans

if TYPE_CHECKING:
    from pyiceberg.table import Table

ORPHANS_KEPT = dt.timedelta(days=3)
"""Files that nothing names, because another program may have written them and be about to name them."""


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
        table: of this program; none of its runs changes it.
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
    orphans = remove_orphans(table, now - ORPHANS_KEPT)
    return Maintained(expired, len(gone) + orphans)
