"""The ledger of a table: the summary of each snapshot says what its month was loaded from.

The summary goes when the snapshot expires, so the table's properties keep the newest row of each month as
well. Every data file belongs to the snapshot that added it, and a row is believed only if it is of that very
snapshot: after a rollback or a change by another program, no row speaks for data it was not written for.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError
from pyiceberg.expressions.parser import parse
from pyiceberg.expressions.visitors import manifest_evaluator
from pyiceberg.manifest import DataFileContent, ManifestEntry

from flows.destinations.base import ALL_MONTHS, Holding, Load
from flows.destinations.ledger import NAMES
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.io import FileIO
    from pyiceberg.table.metadata import TableMetadata

PREFIX = "taxi-etl."
PROPERTY = f"{PREFIX}load."
"""Of the table, with a month after it."""

SNAPSHOT = "snapshot-id"
EPOCH = dt.date(1970, 1, 1)

_LOAD = TypeAdapter(Load)


def to_summary(load: Load) -> dict[str, str]:
    """Write a row as properties of a snapshot.

    Args:
        load: the row.
    """
    values = _LOAD.dump_python(load, mode="json", exclude_none=True)
    return {f"{PREFIX}{name}": str(value) for name, value in values.items()}


def to_property(load: Load, snapshot_id: int) -> dict[str, str]:
    """Write a row as a property of the table.

    Args:
        load: the row.
        snapshot_id: of the snapshot that loads the month.
    """
    return {f"{PROPERTY}{load.file_month}": json.dumps({SNAPSHOT: snapshot_id, **to_summary(load)})}


def holdings(
    metadata: TableMetadata, io: FileIO, dataset: str, between: tuple[dt.date, dt.date] = ALL_MONTHS
) -> list[Holding]:
    """The months that the ledger or the table has; see `Destination.holdings`.

    Args:
        metadata: of the table.
        io: its files; only manifests are read.
        dataset: the dataset's name in the ledger.
        between: first and last month, both included.
    """
    entries: dict[dt.date, list[ManifestEntry]] = defaultdict(list)
    for entry in live_entries(metadata, io, between):
        entries[month_of(entry)].append(entry)
    recorded = [name.removeprefix(PROPERTY) for name in metadata.properties if name.startswith(PROPERTY)]
    months = entries.keys() | {
        month for month in map(dt.date.fromisoformat, recorded) if between[0] <= month <= between[1]
    }
    return [
        Holding(month, _load_of(metadata, dataset, month, entries[month]), _rows(entries[month]))
        for month in sorted(months)
    ]


def live_entries(
    metadata: TableMetadata, io: FileIO, between: tuple[dt.date, dt.date]
) -> Iterator[ManifestEntry]:
    """The files that the newest snapshot has for some months.

    Args:
        metadata: of the table.
        io: its files; only manifests are read, and of these only those with files of the months.
        between: first and last month, both included.

    Yields:
        An entry for each file.
    """
    if not (snapshot := metadata.current_snapshot()):
        return
    specs, schema = metadata.specs(), metadata.schema()
    for manifest in snapshot.manifests(io):
        spec = specs[manifest.partition_spec_id]
        if manifest_evaluator(spec, schema, in_months(between))(manifest):
            for entry in manifest.fetch_manifest_entry(io, discard_deleted=True):
                if between[0] <= month_of(entry) <= between[1]:
                    yield entry


def in_months(between: tuple[dt.date, dt.date]) -> BooleanExpression:
    """The condition that selects the rows of some months.

    Args:
        between: first and last month, both included.
    """
    return parse(f"{FILE_MONTH} >= '{between[0]}' and {FILE_MONTH} <= '{between[1]}'")


def month_of(entry: ManifestEntry) -> dt.date:
    """The month that a file belongs to.

    Args:
        entry: of a file, partitioned by its month first.
    """
    days = entry.data_file.partition[0]
    return EPOCH + dt.timedelta(days=days)


def _rows(entries: list[ManifestEntry]) -> int | None:
    """The rows of a month; None if another program has deleted some without writing the file anew."""
    files = [entry.data_file for entry in entries]
    if any(file.content != DataFileContent.DATA for file in files):
        return None
    return sum(file.record_count for file in files)


def _load_of(
    metadata: TableMetadata, dataset: str, month: dt.date, entries: list[ManifestEntry]
) -> Load | None:
    """The newest row that was written with one of the files; without files, the one in the properties."""
    snapshots = {entry.snapshot_id for entry in entries}
    kept = json.loads(metadata.properties.get(f"{PROPERTY}{month}", "{}"))
    rows = [kept] if not entries or kept.get(SNAPSHOT) in snapshots else []
    found = [one for one in metadata.snapshots if one.snapshot_id in snapshots]
    rows += [one.summary.additional_properties for one in found if one.summary]
    loads = [load for load in map(_from_summary, rows) if load and load.dataset == dataset]
    ours = [load for load in loads if load.file_month == month]
    return max(ours, key=lambda load: load.loaded_at, default=None)


def _from_summary(summary: Mapping[str, str]) -> Load | None:
    try:
        keys = {name: f"{PREFIX}{name}" for name in NAMES}
        return _LOAD.validate_strings({name: summary[key] for name, key in keys.items() if key in summary})
    except ValidationError:
        return None
