"""Uploads: the file of a load job that comes with the request, or after it in chunks.

Source: https://cloud.google.com/bigquery/docs/reference/api-uploads.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, Any

from support.bigquery_fake.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

CHUNK_BYTES = 256 * 1024  # chunks but for the last are multiples of it
RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Upload:
    """A resumable upload under way.

    Attributes:
        job: that is to load the file.
        expected: bytes of the file as said in the beginning; None: not said.
        content: what has come so far.
    """

    job: dict[str, Any]
    expected: int | None
    content: bytearray = field(default_factory=bytearray)


class Uploads:
    """The resumable uploads that have begun and not ended."""

    def __init__(self) -> None:
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def begin(self, job: dict[str, Any], headers: Mapping[str, str]) -> str:
        """Remember the job; the upload's id."""
        length = headers.get("x-upload-content-length")
        upload_id = uuid.uuid4().hex
        with self._lock:
            self._uploads[upload_id] = Upload(job, None if length is None else int(length))
        return upload_id

    def put(self, upload_id: str, headers: Mapping[str, str], chunk: bytes) -> Upload | int:
        """Take a chunk: the upload if that was the last one, or how many bytes are here.

        Raises:
            ApiError: no such upload, or not the chunk that comes next.
        """
        with self._lock:
            if not (upload := self._uploads.get(upload_id)):
                raise ApiError("notFound", f"Not found: upload {upload_id}")
            said = RANGE.fullmatch(headers.get("content-range", ""))
            if not said:
                raise ApiError("invalid", f"Invalid Content-Range: {headers.get('content-range')}")
            total = None if said[3] == "*" else int(said[3])
            if said[1]:
                _check_chunk(upload, int(said[1]), int(said[2]), total, chunk)
                upload.content += chunk
            elif chunk:
                raise ApiError("invalid", "A request for the state of an upload has no content.")
            if total is None or len(upload.content) < total:
                return len(upload.content)
            return self._uploads.pop(upload_id)


def _check_chunk(upload: Upload, first: int, last: int, total: int | None, chunk: bytes) -> None:
    if first != len(upload.content) or last - first + 1 != len(chunk):
        raise ApiError(
            "invalid",
            f"Content-Range says bytes {first}-{last}; there are {len(upload.content)}, {len(chunk)} came",
        )
    if (total is None or last + 1 < total) and len(chunk) % CHUNK_BYTES:
        raise ApiError("invalid", f"A chunk that is not the last must be a multiple of {CHUNK_BYTES} bytes.")
    if upload.expected is not None and total not in (None, upload.expected):
        raise ApiError("invalid", f"{upload.expected} bytes were announced, now they are {total}")


def multipart(content: bytes, content_type: str) -> tuple[dict[str, Any], bytes]:
    """Job and file of a `multipart/related` body.

    Raises:
        ApiError: it is no such body.
    """
    kind = Message()
    kind["content-type"] = content_type
    boundary = kind.get_boundary()
    if kind.get_content_type() != "multipart/related" or not boundary:
        raise ApiError("invalid", f"Invalid Content-Type of a multipart upload: {content_type}")
    separator = b"--" + boundary.encode()
    # NOTE: the file is bytes, whatever they are: no parser of messages may touch it. Split where the
    # second part begins and the last ends, it may contain anything but the separator.
    start, *parts = content.split(b"\r\n" + separator) if content.startswith(separator) else [b""]
    if len(parts) != 2 or parts[1].strip() != b"--":
        raise ApiError("invalid", "A multipart upload has two parts: the job, and the file.")
    _, _, job = start.partition(b"\r\n\r\n")
    _, _, file = parts[0].partition(b"\r\n\r\n")
    try:
        return json.loads(job), file
    except ValueError as error:
        raise ApiError("invalid", f"The first part is not JSON: {error}") from None
