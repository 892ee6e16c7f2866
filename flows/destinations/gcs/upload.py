"""A resumable upload: in chunks, each sent again if it fails, visible only when the object is whole.

See https://cloud.google.com/storage/docs/performing-resumable-uploads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from flows.destinations.gcs.connection import UploadLost
from flows.destinations.gcs.ledger import StoredObject
from flows.runtime import retry_transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flows.destinations.gcs.connection import GcsSession

CHUNK_BYTES = 8 * 2**20
"""Held in memory, and sent again after a failure; Google wants a multiple of 256 KiB."""

SLOWEST_BYTES_PER_SECOND = 2**16
"""A slower chunk is given up and sent again."""

CONTENT_TYPE = "application/vnd.apache.parquet"


def upload(
    session: GcsSession,
    file: BinaryIO,
    *,
    name: str,
    crc32c: str,
    metadata: Mapping[str, str],
    replaces: int,
    progress: Callable[[int], None],
) -> StoredObject:
    """Upload a file as an object; begins again if the server loses the upload.

    NOTE: checksum and metadata go ahead of the content, so the server refuses any other content, and the object
    appears together with its metadata.

    Args:
        session: of the bucket.
        file: the bytes, read from the beginning.
        name: of the object.
        crc32c: checksum of the file, in base64.
        metadata: of the object.
        replaces: generation of the object to be replaced; 0 if there must be none.
        progress: called with the number of bytes that have arrived.

    Returns:
        The new object.

    Raises:
        GenerationConflict: another run has replaced the object meanwhile.
        DestinationBusy: no byte got through in as many attempts as the policy allows.
        DestinationRefused: no permission, no such bucket, or the file has changed since its checksum was taken.
    """
    furthest = 0

    def arrived(size: int) -> None:
        nonlocal furthest
        furthest = max(furthest, size)
        progress(furthest)

    def attempt() -> StoredObject:
        blob = session.bucket.blob(name, chunk_size=CHUNK_BYTES)
        blob.crc32c, blob.metadata = crc32c, metadata
        file.seek(0)
        try:
            with session.explain_errors():
                blob.upload_from_file(
                    _WatchedFile(file, arrived),
                    content_type=CONTENT_TYPE,
                    if_generation_match=replaces,
                    checksum=None,  # with one, the client deletes the object, of whichever run, if it differs
                    retry=session.retry,
                    # Its first part would bound the sending of a chunk as well as the connecting.
                    timeout=session.timeout_seconds + CHUNK_BYTES / SLOWEST_BYTES_PER_SECOND,
                )
        except ValueError as error:  # the server has kept less of a chunk than was sent
            raise UploadLost("a part of an upload was lost on the way; run it again") from error
        return StoredObject.of(blob)

    return retry_transient(attempt, session.policy, retry_on=UploadLost, progress=lambda: furthest)


class _WatchedFile:
    """A file that reports its position at each read: the server has acknowledged everything before it."""

    def __init__(self, file: BinaryIO, report: Callable[[int], None]) -> None:
        self.tell = file.tell
        self._file = file
        self._report = report

    def read(self, size: int) -> bytes:
        self._report(self.tell())
        return self._file.read(size)
