"""A resumable upload: in chunks, each sent again if it fails, visible only when the object is whole.

See https://cloud.google.com/storage/docs/performing-resumable-uploads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from flows.destinations.gcs.connection import GcsSession, UploadLost
from flows.runtime import retry_transient

if TYPE_CHECKING:
    from google.cloud.storage import Blob

CHUNK_BYTES = 8 * 2**20
"""Held in memory, and sent again after a failure; Google wants a multiple of 256 KiB."""

SLOWEST_BYTES_PER_SECOND = 2**16
"""A slower chunk is given up and sent again."""


def upload(
    session: GcsSession, blob: Blob, file: BinaryIO, replaces: int, progress: Callable[[int], None]
) -> None:
    """Upload a file as an object; begins again if the server loses the upload.

    NOTE: the metadata and the checksum of the blob are sent before the content. So the server refuses any
    other content, and the object appears together with its metadata.

    Args:
        session: a connection to the bucket.
        blob: the object to make, with its metadata and checksum; gets what the server says of it.
        file: the content, read from its beginning.
        replaces: generation of the object to be replaced; 0 if there must be none.
        progress: called with the number of bytes that have arrived.

    Raises:
        GenerationConflict: another run has replaced the object meanwhile.
        DestinationBusy: no byte got through in as many attempts as the policy allows.
        DestinationRefused: no permission, no such bucket, or the content is not that of the checksum.
    """
    watched = _ProgressFile(file, progress)
    blob.chunk_size = CHUNK_BYTES
    # NOTE: the time to connect, which comes first in a pair, would bound the sending of a whole chunk too.
    seconds = session.options["timeout"][1] + CHUNK_BYTES / SLOWEST_BYTES_PER_SECOND
    # With a checksum of its own the client would delete an object that differs, even that of another run.
    options: dict[str, Any] = {**session.options, "timeout": seconds, "checksum": None}

    def attempt() -> None:
        file.seek(0)
        try:
            blob.upload_from_file(
                watched,
                content_type="application/vnd.apache.parquet",
                if_generation_match=replaces,
                **options,
            )
        except ValueError as error:  # the server has kept less of a chunk than was sent
            raise UploadLost("a part of an upload was lost on the way", "run it again") from error

    retry_transient(attempt, session.policy, retry_on=UploadLost, progress=lambda: watched.acknowledged)


class _ProgressFile:
    """Reports its position before each read: the server has acknowledged everything before it."""

    def __init__(self, file: BinaryIO, report: Callable[[int], None]) -> None:
        self.tell = file.tell
        self.acknowledged = 0
        self._file = file
        self._report = report

    def read(self, size: int) -> bytes:
        self.acknowledged = max(self.acknowledged, self.tell())
        self._report(self.acknowledged)
        return self._file.read(size)
