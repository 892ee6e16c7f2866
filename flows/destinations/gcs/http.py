"""Single HTTP calls to Google Cloud Storage through gcsfs.

gcsfs brings the session, the tokens and the addresses. Its own retries are not used: they go on for half a
minute per call, start a chunk over instead of resuming it, and hide which status was answered.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
)
from fsspec.asyn import sync
from google.auth.exceptions import GoogleAuthError
from yarl import URL

from flows.gcp import HttpError, bucket_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.gcp import GoogleIdentity

NO_CONNECTION = (ClientConnectorError, ConnectionTimeoutError)
NO_ANSWER = (ClientError, OSError)
NO_TOKEN = (HttpError, GoogleAuthError)
"""What a call may raise, by what it means; ask in this order."""

CONNECT_SECONDS = 8.0
"""Longest wait for a connection."""

SLOWEST_BYTES_PER_SECOND = 2**16
"""A request that is slower is given up and resumed: a server that no longer reads says nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said.

    Attributes:
        status: of HTTP.
        headers: by name, in any case.
        body: all of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body; empty if it is no JSON object."""
        with contextlib.suppress(ValueError):
            found = json.loads(self.body)
            return found if isinstance(found, dict) else {}
        return {}

    @property
    def reason(self) -> str:
        """The server's own words, in one line."""
        error = self.json().get("error")
        said = error.get("message") if isinstance(error, dict) else error
        text = said if isinstance(said, str) and said else f"HTTP {self.status}"
        return " ".join(re.sub(r"Bearer \S+|ya29\.\S+", "***", text).split())[:300]


class SingleCalls:
    """gcsfs' way to a server, each request made once and answered as it is."""

    def __init__(self, identity: GoogleIdentity, emulator: str | None, timeout_seconds: float) -> None:
        """Nothing is sent yet.

        Args:
            identity: signed in.
            emulator: endpoint to talk to instead of Google, with or without http://.
            timeout_seconds: longest wait for an answer.
        """
        self._timeout_seconds = timeout_seconds
        self._files = bucket_files(identity, emulator)
        self._session: ClientSession | None = None

    @property
    def address(self) -> str:
        """Where the server is, such as https://storage.googleapis.com."""
        return str(self._files._location)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - gcsfs finds it out

    def call(
        self,
        method: str,
        path: str,
        *names: str,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        json: Mapping[str, Any] | None = None,
        **parameters: str | None,
    ) -> Answer:
        """Make one call; see `flows.destinations.gcs.connection.Session.call`.

        Raises:
            Exception: one of `NO_CONNECTION`, `NO_ANSWER`, `NO_TOKEN`.
        """
        answer: Any = sync(self._files.loop, self._call, method, path, names, headers, data, json, parameters)
        return answer

    def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            sync(self._files.loop, self._session.close)

    async def _call(
        self,
        method: str,
        path: str,
        names: tuple[str, ...],
        headers: Mapping[str, str] | None,
        data: bytes | None,
        json: Mapping[str, Any] | None,
        parameters: Mapping[str, str | None],
    ) -> Answer:
        files = self._files
        self._session = await files._set_session()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        seconds = self._timeout_seconds + len(data or b"") / SLOWEST_BYTES_PER_SECOND
        async with self._session.request(
            method,
            # Encoded already; once more would change the address of an upload.
            URL(files._format_path(path, names), encoded=True),  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            params={name: value for name, value in parameters.items() if value is not None} or None,
            json=json,
            headers=files._get_headers(headers),  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            data=data,
            timeout=ClientTimeout(total=seconds, sock_connect=min(CONNECT_SECONDS, self._timeout_seconds)),
            allow_redirects=False,  # 308 says how much of an upload has arrived
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())
