"""The ledger of a bucket: the metadata of each object says what the object was made from.

Content and metadata of an object are written and read in one step, so they always belong together. Google
allows 8 KiB of metadata: nothing that grows belongs in it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, BinaryIO

import google_crc32c
from pydantic import TypeAdapter, ValidationError

from flows.destinations.base import Holding, Load

if TYPE_CHECKING:
    from google.cloud.storage import Blob

    from transforms.trip_month import TripMonth

CONTENT_CRC32C = "content_crc32c"
"""Our own copy of the checksum; it differs from the server's if other content has come under the metadata."""

ODD_ROWS = "odd_rows"
"""Rows by what is odd about them, as JSON; what judges the month on its way out of the bucket."""

LONGEST_SOURCE = 2048
PIECE_BYTES = 2**18

_LOAD = TypeAdapter(Load)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One generation of an object in the bucket.

    Attributes:
        name: in the bucket.
        generation: changes with every change of the content.
        size: in bytes.
        crc32c: of the content as the server computes it, in base64.
        metadata: custom metadata, set by the uploader.
    """

    name: str
    generation: int
    size: int
    crc32c: str
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, blob: Blob) -> StoredObject:
        """Read what the server said of an object.

        Args:
            blob: as the client represents the object.
        """
        return cls(
            name=str(blob.name),
            generation=int(blob.generation or 0),
            size=int(blob.size or 0),
            crc32c=str(blob.crc32c or ""),
            metadata=dict(blob.metadata or {}),
        )

    @property
    def load(self) -> Load | None:
        """The ledger entry in the metadata; None if there is none."""
        return from_metadata(self.metadata)

    @property
    def odd_rows(self) -> dict[str, int]:
        """Rows by what is odd about them; empty if an earlier version has uploaded the object."""
        return json.loads(self.metadata.get(ODD_ROWS, "{}"))

    @property
    def is_as_uploaded(self) -> bool:
        """Whether the content is still that which came with the metadata."""
        return self.metadata.get(CONTENT_CRC32C) == self.crc32c

    def holding_of(self, month: TripMonth, rejects: StoredObject | None) -> Holding:
        """Describe the object as the holding of a month.

        Args:
            month: whose object this should be.
            rejects: the object with the month's rejects, if there is one.

        Returns:
            The ledger entry, if it is one of this month, and the rows that were counted when this very
            content was uploaded; the rows of any other content are unknown. Rejects that were uploaded with
            another load of the month do not count.
        """
        load = self.load
        if load is None or (load.dataset, load.file_month) != (month.color, month.first_day):
            return Holding(month.first_day, None, None)
        has_rejects = rejects is not None and rejects.is_as_uploaded and rejects.load == load
        return Holding(
            month.first_day,
            load,
            load.row_count if self.is_as_uploaded else None,
            load.rejected_rows if has_rejects else 0,
        )


def to_metadata(load: Load, crc32c: str, odd: Iterable[tuple[str, int]] = ()) -> dict[str, str]:
    """Turn a ledger entry into the metadata of an object.

    Args:
        load: the entry.
        crc32c: checksum of the content, in base64.
        odd: rows by what is odd about them, see `transforms.quality`.

    Returns:
        Every field of the entry as text, the checksum, and the counts.
    """
    fields = {name: str(value) for name, value in asdict(load).items() if value is not None}
    fields["source"] = load.source[:LONGEST_SOURCE]
    if load.warnings:
        fields["warnings"] = load.warnings[:LONGEST_SOURCE]
    fields["loaded_at"] = load.loaded_at.isoformat()
    counts = {ODD_ROWS: json.dumps(dict(odd))} if odd else {}
    return {**fields, CONTENT_CRC32C: crc32c, **counts}


def from_metadata(metadata: Mapping[str, str]) -> Load | None:
    """Read a ledger entry back; None if the metadata is not what `to_metadata` writes.

    Args:
        metadata: of the object.
    """
    try:
        return _LOAD.validate_strings(dict(metadata))
    except ValidationError:
        return None


def crc32c_of(file: BinaryIO) -> str:
    """Compute the checksum of a whole file as Google writes it: big-endian, in base64.

    Args:
        file: seekable; read from its beginning.
    """
    checksum = google_crc32c.Checksum()
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        checksum.update(piece)
    return base64.b64encode(checksum.digest()).decode()
