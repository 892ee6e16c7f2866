"""A connection to Google Cloud Storage: Google's client, with our retries and one-line errors."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from google.api_core.exceptions import GoogleAPICallError
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.exceptions import InvalidResponse
from urllib3.exceptions import HTTPError, NewConnectionError

from flows.errors import DestinationBusy, DestinationRefused, TaxiError
from flows.gcp import GoogleIdentity, describe_network_error, endpoint_url
from flows.runtime import RetryPolicy, parse_retry_after, retry_transient

# NOTE: it logs URLs, and the URL of an upload is the key to it. Its warnings are among our own messages.
logging.getLogger("urllib3").setLevel(logging.ERROR)

CONNECT_SECONDS = 8.0
"""Longest wait for a connection."""

LONGEST_RETRY_AFTER_SECONDS = 30.0
"""Longest pause that is made because the server asks for it."""

DEFAULT_POLICY = RetryPolicy(attempts=5)

BUSY_STATUS = {408, 429, 500, 502, 503, 504}
ADVICE = {
    401: "name a key that is valid in TAXI_GCP_KEY_FILE, or sign in again with gcloud auth "
    "application-default login",
    403: "grant the role Storage Object User (roles/storage.objectUser) on the bucket, "
    "see docs/reference/google.md",
    404: "name another bucket in TAXI_GCS_BUCKET or the block de-gcs, or create this one with `gcloud "
    "storage buckets create gs://{bucket} --location=US`",
}


_CLIENT_ERRORS = (
    *(GoogleAPICallError, InvalidResponse, GoogleAuthError),
    *(requests.RequestException, HTTPError, ConnectionError),
)


class Unavailable(DestinationBusy):
    """The server, or the network on the way to it, failed in a way that may pass."""


class UploadLost(DestinationBusy):
    """The server no longer has an unfinished upload; it has to begin again."""


class GenerationConflict(DestinationBusy):
    """The object is no longer the generation that was expected."""


@dataclass(frozen=True, slots=True)
class GcsAddress:
    """Where a bucket is, and how long to try to reach it.

    Attributes:
        identity: the credentials.
        bucket: its name.
        policy: how long a failed request or upload is tried again.
        timeout_seconds: longest wait for an answer.
        emulator: endpoint of an emulator to use instead of Google.
    """

    identity: GoogleIdentity = field(repr=False)
    bucket: str
    policy: RetryPolicy = DEFAULT_POLICY
    timeout_seconds: float = 30.0
    emulator: str | None = None


@dataclass(frozen=True, slots=True)
class GcsSession:
    """One connection to one bucket.

    Attributes:
        bucket: makes and finds objects.
        policy: how long a lost upload is begun again.
        options: for every call of the client: `retry` and `timeout`.
    """

    bucket: storage.Bucket
    policy: RetryPolicy
    options: dict[str, Any]


@contextlib.contextmanager
def connected(address: GcsAddress) -> Generator[GcsSession]:
    """Sign in, and close the connection at the end of the block.

    Args:
        address: of the bucket.

    Yields:
        The session. Its calls raise `Unavailable`, `GenerationConflict` and `DestinationRefused`.

    Raises:
        DestinationRefused: Google cannot be reached, or does not accept the credentials.
    """
    identity, emulator = address.identity, address.emulator
    identity.sign_in()
    # Always given: otherwise the client reads STORAGE_EMULATOR_HOST itself.
    endpoint = endpoint_url(emulator) if emulator else "https://storage.googleapis.com"
    options = {
        "retry": _RequestRetry(address, urlsplit(endpoint).netloc),
        "timeout": (min(CONNECT_SECONDS, address.timeout_seconds), address.timeout_seconds),
    }
    with storage.Client(
        identity.project or "unused", identity.credentials, client_options={"api_endpoint": endpoint}
    ) as client:
        yield GcsSession(client.bucket(address.bucket), address.policy, options)


class _RequestRetry(Retry):
    """Repeats a single request as a `RetryPolicy` says, and explains its errors.

    The loop of Google's library counts no attempts, ignores Retry-After, and sleeps on when the run is told
    to stop: https://github.com/googleapis/python-api-core/issues/535
    """

    def __init__(self, address: GcsAddress, host: str) -> None:
        super().__init__()
        self._address = address
        self._host = host
        self._is_first = True

    def __call__(self, func: Callable[..., Any], on_error: object = None) -> Callable[..., Any]:  # noqa: ARG002 - the base class's argument
        return lambda: retry_transient(
            lambda: self._attempt(func), self._address.policy, retry_on=Unavailable
        )

    def _attempt(self, request: Callable[[], Any]) -> Any:  # noqa: ANN401 - the library's answer
        is_first, self._is_first = self._is_first, False
        try:
            return request()
        except _CLIENT_ERRORS as error:
            response: Any = getattr(error, "response", None)
            if response is None:
                raise self._network_error(error, is_first) from None
            if response.status_code == 404 and response.request.method == "GET" and "/o/" in response.url:
                raise  # no such object: left to the library and to our caller
            raise self._refusal(response) from None

    # NOTE: the text of an error is never shown: the URL of an upload may be in it.

    def _network_error(self, error: Exception, is_first: bool) -> TaxiError:
        if isinstance(error, GoogleAuthError):
            return DestinationRefused(
                f"Google no longer accepts the credentials ({type(error).__name__}); {ADVICE[401]}"
            )
        reason = describe_network_error(error)
        if not _is_unconnected(error):
            return Unavailable(f"the connection to {self._host} broke ({reason})", "run it again later")
        kind = DestinationRefused if is_first else Unavailable
        return kind(
            f"no connection to {self._host} ({reason})", "check the network and STORAGE_EMULATOR_HOST"
        )

    def _refusal(self, response: requests.Response) -> TaxiError:
        status, reason, bucket = response.status_code, _reason(response), self._address.bucket
        if status in BUSY_STATUS:
            busy = Unavailable(f"{self._host} cannot do it now ({reason})", "run it again later")
            busy.retry_after_seconds = parse_retry_after(
                response.headers.get("Retry-After"), LONGEST_RETRY_AFTER_SECONDS
            )
            return busy
        if status == 412:
            return GenerationConflict(
                f"another run has replaced the object in bucket {bucket} meanwhile",
                "let it finish, then run it again",
            )
        if response.request.method == "PUT" and status in (308, 404, 410):
            return UploadLost(f"{self._host} has forgotten an upload that was under way", "run it again")
        advice = ADVICE.get(status, "see docs/reference/google.md").format(bucket=bucket)
        subject = "there is no bucket" if status == 404 else f"{self._host} refused bucket"
        return DestinationRefused(f"{subject} {bucket} ({reason}); {advice}")


def _is_unconnected(error: Exception) -> bool:
    cause = error.args[0] if error.args else None
    kinds = (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)
    return isinstance(error, kinds) or isinstance(getattr(cause, "reason", None), NewConnectionError)


def _reason(response: requests.Response) -> str:
    """The server's own words, in one line and without tokens."""
    text = None
    with contextlib.suppress(ValueError, LookupError, TypeError, requests.RequestException):
        error = response.json()["error"]
        text = error["message"] if isinstance(error, dict) else error
    if not isinstance(text, str) or not text:
        text = f"HTTP {response.status_code}"
    return " ".join(re.sub(r"Bearer \S+|ya29\.\S+", "***", text).split())[:300]
