"""The ledger of a bucket: each object says in its own metadata what it was made from.

Content and metadata of an object are written in one step and read in one step, so that neither can speak
of another month than the other. Google allows 8 KiB of metadata: nothing that grows belongs here.
"""

from __future__ import annotations

import base64
import datetime as dt
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import google_crc32c

from flows.destinations.base import Holding, Load
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

    from flows.destinations.gcs.connection import Session
    from transforms.dataset import Dataset

CONTENT_CRC32C = "content_crc32c"
"""Metadata written by us and not by the server: differs if another content came under it."""

LONGEST_SOURCE = 2048
LISTED_FIELDS = "items(name,generation,size,crc32c,metadata),nextPageToken"
PIECE_BYTES = 2**18


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the bucket has it.

    Attributes:
        name: in the bucket.
        generation: which version; another one after every change of the content.
        size: in bytes.
        crc32c: of the content as the server counts it, in base64.
        metadata: ours.
    """

    name: str
    generation: str
    size: int
    crc32c: str
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, resource: Mapping[str, Any]) -> StoredObject:
        """Read the server's description of an object.

        See https://cloud.google.com/storage/docs/json_api/v1/objects#resource.
        """
        return cls(
            name=str(resource.get("name", "")),
            generation=str(resource.get("generation", "0")),
            size=int(resource.get("size") or 0),
            crc32c=str(resource.get("crc32c", "")),
            metadata={str(key): str(value) for key, value in (resource.get("metadata") or {}).items()},
        )

    def load_of(self, month: TripMonth) -> Load | None:
        """What the object says of the month; None if it is not what we wrote for that month."""
        holding = self.holding_of(month)
        return holding.load if holding.reconciles else None

    def holding_of(self, month: TripMonth) -> Holding:
        """What there is of a month, if this is its object.

        NOTE: the rows are those that were counted when this very content was uploaded; of any other content
        they are unknown.
        """
        load = from_metadata(self.metadata)
        if load is None or (load.dataset, load.file_month) != (month.color, month.first_day):
            return Holding(month.first_day, None, None)
        is_ours = self.metadata.get(CONTENT_CRC32C) == self.crc32c
        return Holding(month.first_day, load, load.row_count if is_ours else None)


def object_name(folder: str, month: TripMonth) -> str:
    """The name of a month's object below a folder (empty, or with a slash at its end)."""
    return f"{folder}data/{month.color}/{month.stem}.parquet"


def holdings(
    session: Session, folder: str, dataset: Dataset, between: tuple[dt.date, dt.date]
) -> list[Holding]:
    """See `Destination.holdings`; one listing, in pages of a thousand objects."""
    found: list[Holding] = []
    prefix = f"{folder}data/{dataset.name}/"
    for stored in _listed(session, prefix):
        iso = stored.name.removeprefix(f"{prefix}{dataset.name}_tripdata_").removesuffix(".parquet")
        try:
            month = TripMonth.of_iso(dataset.name, iso)
        except ValueError:  # another object
            continue
        if stored.name == object_name(folder, month) and between[0] <= month.first_day <= between[1]:
            found.append(stored.holding_of(month))
    return sorted(found, key=lambda holding: holding.file_month)


def _listed(session: Session, prefix: str) -> Iterator[StoredObject]:
    page: str | None = None
    while True:
        answer = session.open_call(
            "GET", "b/{}/o", session.bucket, prefix=prefix, fields=LISTED_FIELDS, pageToken=page
        ).json()
        yield from map(StoredObject.of, answer.get("items", []))
        page = answer.get("nextPageToken")
        if not page:
            return


def to_metadata(load: Load, crc32c: str) -> dict[str, str]:
    """A load as the metadata of the object that holds it."""
    noted = {key: str(value) for key, value in asdict(load).items()}
    noted["source"] = load.source[:LONGEST_SOURCE]
    noted["loaded_at"] = load.loaded_at.isoformat()
    return {**noted, CONTENT_CRC32C: crc32c}


def from_metadata(metadata: Mapping[str, str]) -> Load | None:
    """The load that metadata tells of; None if it is not ours."""
    try:
        noted: dict[str, Any] = {field.name: metadata[field.name] for field in fields(Load)}
        noted["file_month"] = dt.date.fromisoformat(noted["file_month"])
        noted["loaded_at"] = dt.datetime.fromisoformat(noted["loaded_at"])
        for count in ("source_rows", "rejected_rows", "row_count"):
            noted[count] = int(noted[count])
    except (KeyError, ValueError):
        return None
    return Load(**noted)


def crc32c_of(file: BinaryIO) -> str:
    """The checksum of a file from its beginning, as Google writes it: big-endian, base64."""
    checksum = google_crc32c.Checksum()
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        checksum.update(piece)
    return base64.b64encode(checksum.digest()).decode()
