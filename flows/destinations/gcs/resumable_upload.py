"""A resumable upload: in chunks, continued where the server says, visible only when it is whole.

See https://cloud.google.com/storage/docs/performing-resumable-uploads.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from flows.destinations.gcs.connection import Unavailable
from flows.destinations.gcs.ledger import StoredObject
from flows.errors import DestinationBusy, LocalStorageError, TaxiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flows.destinations.gcs.connection import Session
    from flows.destinations.gcs.http import Answer

GRAIN_BYTES = 2**18
"""A server keeps whole multiples of it, and wants every chunk but the last to be one."""

CHUNK_BYTES = 32 * GRAIN_BYTES
"""As much is in memory at once, and sent again at worst."""

CONTENT_TYPE = "application/vnd.apache.parquet"
DONE, INCOMPLETE, OVERTAKEN, GONE = (200, 201), 308, 412, (404, 410)


class GenerationConflict(DestinationBusy):
    """Somebody else has replaced the object since it was looked at; ours did not appear."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What is to be uploaded.

    Attributes:
        name: of the object.
        size: of the file in bytes.
        crc32c: of the file; the server refuses a content with another.
        metadata: of the object.
        replaces: generation of the object to be replaced; "0": there must be none.
    """

    name: str
    size: int
    crc32c: str
    metadata: Mapping[str, str]
    replaces: str


class Transfer:
    """One upload under way.

    Attributes:
        arrived: bytes that the server has.
    """

    def __init__(
        self,
        session: Session,
        wanted: Upload,
        file: BinaryIO,
        *,
        before_the_end: Callable[[], None],
        progress: Callable[[int], None],
    ) -> None:
        """Nothing is sent yet.

        Args:
            session: of the bucket.
            wanted: what is to be uploaded.
            file: its bytes.
            before_the_end: called once before the last chunk, which makes the object appear; what it
                raises leaves the old object in place.
            progress: called with the bytes that have arrived.
        """
        self.arrived = 0
        self._most_arrived = 0
        self._session = session
        self._wanted = wanted
        self._file = file
        self._before_the_end: Callable[[], None] | None = before_the_end
        self._progress = progress
        self._address: str | None = None

    def run(self) -> StoredObject:
        """Upload, whatever happens in between.

        Raises:
            GenerationConflict: the object was replaced by somebody else.
            DestinationBusy: not a byte got through in as many attempts as the settings allow.
            DestinationRefused: no right to do it, no such bucket.
        """
        try:
            return self._session.patiently(self._go_on, lambda: self._most_arrived)
        except BaseException:
            self._cancel()
            raise

    def _go_on(self) -> StoredObject:
        """Begin, or continue with the first byte the server does not have."""
        if self._address is None:
            self._begin()
        elif (stored := self._ask()) is not None:
            return stored
        while True:
            self._file.seek(self.arrived)
            chunk = self._file.read(CHUNK_BYTES)
            if not chunk:
                raise LocalStorageError("the staged file has become shorter meanwhile; run it again")
            if self.arrived + len(chunk) >= self._wanted.size and self._before_the_end:
                check, self._before_the_end = self._before_the_end, None
                check()
            if (stored := self._put(chunk)) is not None:
                return stored

    def _begin(self) -> None:
        wanted = self._wanted
        answer = self._session.call(
            "POST",
            self._session.upload_address,
            self._session.bucket,
            expect=(*DONE, OVERTAKEN),
            headers={"X-Upload-Content-Type": CONTENT_TYPE, "X-Upload-Content-Length": str(wanted.size)},
            json={
                "name": wanted.name,
                "contentType": CONTENT_TYPE,
                "crc32c": wanted.crc32c,
                "metadata": wanted.metadata,
            },
            uploadType="resumable",
            name=wanted.name,
            ifGenerationMatch=wanted.replaces,
        )
        self._refuse_if_overtaken(answer)
        self._address, self.arrived = answer.headers["Location"], 0

    def _ask(self) -> StoredObject | None:
        """Ask the server how much it has; the object, if that is all."""
        return self._send("PUT", f"bytes */{self._wanted.size}", b"")

    def _put(self, chunk: bytes) -> StoredObject | None:
        """Send the next chunk; the object, if it was the last."""
        last = self.arrived + len(chunk) - 1
        # As gcsfs does. A PUT is repeated by aiohttp itself when a connection breaks, without asking what
        # has arrived.
        return self._send("POST", f"bytes {self.arrived}-{last}/{self._wanted.size}", chunk)

    def _send(self, method: str, content_range: str, content: bytes) -> StoredObject | None:
        assert self._address  # noqa: S101 - for the type checker: begun before
        answer = self._session.call(
            method,
            self._address,
            expect=(*DONE, INCOMPLETE, OVERTAKEN, *GONE),
            headers={"Content-Range": content_range, "Content-Type": CONTENT_TYPE},
            data=content,
        )
        self._refuse_if_overtaken(answer)
        if answer.status in GONE:
            self._address = None
            raise Unavailable(
                f"{self._session.where} has forgotten an upload that was under way; run it again"
            )
        if answer.status in DONE:
            self._progress(self._wanted.size)
            return StoredObject.of(answer.json())
        self._arrived_is(answer.headers.get("Range", ""))
        return None

    def _arrived_is(self, kept: str) -> None:
        found = re.fullmatch(r"bytes=0-(\d+)", kept.strip())
        # Whole grains: an emulator that has nothing at all says `bytes=0-0`.
        self.arrived = (int(found[1]) + 1) // GRAIN_BYTES * GRAIN_BYTES if found else 0
        self._most_arrived = max(self._most_arrived, self.arrived)
        self._progress(self._most_arrived)

    def _refuse_if_overtaken(self, answer: Answer) -> None:
        if answer.status == OVERTAKEN:
            self._address = None
            raise GenerationConflict(
                f"another run has replaced {self._wanted.name} in bucket {self._session.bucket} meanwhile; "
                "let it finish, then run it again"
            )

    def _cancel(self) -> None:
        """Let the server forget what has arrived; it would do so by itself after a week."""
        if self._address is None:
            return
        with contextlib.suppress(TaxiError):
            self._session.call("DELETE", self._address, expect=range(200, 600))
