"""A connection to Google Cloud Storage: Google's client, with our retries and one-line errors."""

from __future__ import annotations

import contextlib
import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from google.api_core.exceptions import GoogleAPICallError, NotFound
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.exceptions import InvalidResponse
from urllib3.exceptions import NewConnectionError

from flows.destinations.gcs.ledger import StoredObject
from flows.errors import DestinationBusy, DestinationRefused
from flows.gcp import describe_network_error, endpoint_url
from flows.runtime import retry_transient

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from flows.errors import TaxiError
    from flows.gcp import GoogleIdentity
    from flows.runtime import RetryPolicy

# NOTE: at DEBUG it logs URLs, and the URL of an upload is the key to it.
logging.getLogger("urllib3").setLevel(logging.INFO)

CONNECT_SECONDS = 8.0
"""Longest wait for a connection."""

LONGEST_RETRY_AFTER_SECONDS = 30.0
"""A server that asks for a longer pause is asked again after this one."""

LISTED_FIELDS = "items(name,generation,size,crc32c,metadata),nextPageToken"

BUSY_STATUS = {408, 429, 500, 502, 503, 504}
ADVICE = {
    400: "see docs/google.md",
    401: "name a key that is valid in TAXI_GCP_KEY_FILE, or sign in again with gcloud auth "
    "application-default login",
    403: "grant the role Storage Object User (roles/storage.objectUser) on the bucket, see docs/google.md",
    404: "name another bucket in TAXI_GCS_BUCKET or the block de-gcs, or create this one with `gcloud "
    "storage buckets create gs://{bucket} --location=US`",
}

# NOTE: ConnectionError is the builtin one, by which the client reports an incomplete answer.
_CLIENT_ERRORS = (
    GoogleAPICallError,
    InvalidResponse,
    GoogleAuthError,
    requests.RequestException,
    ConnectionError,
)


class Unavailable(DestinationBusy):
    """The server, or the network on the way to it, failed in a way that may pass."""


class NoConnection(Unavailable):
    """No connection could be made at all."""


class UploadLost(DestinationBusy):
    """The server no longer has an unfinished upload; it has to begin again."""


class GenerationConflict(DestinationBusy):
    """The object is no longer the generation that was expected."""


class GcsSession:
    """One connection to one bucket.

    Attributes:
        bucket: makes and finds objects.
        policy: how long a failed request or upload is tried again.
        timeout_seconds: longest wait for an answer.
        retry: the policy, as an argument for calls of Google's client.
    """

    def __init__(
        self, client: storage.Client, bucket: str, policy: RetryPolicy, timeout_seconds: float
    ) -> None:
        """Keep the client; nothing is sent."""
        self.bucket = client.bucket(bucket)
        self.policy = policy
        self.timeout_seconds = timeout_seconds
        self.retry = _RequestRetry(policy, self._explain)
        self._host = urlsplit(client.api_endpoint).netloc

    def find(self, name: str) -> StoredObject | None:
        """Look an object up.

        Args:
            name: in the bucket.

        Returns:
            The object as it is now; None if there is no object of that name.

        Raises:
            DestinationRefused: no connection, or no permission.
            Unavailable: the server stays busy.
        """
        with self.explain_errors():
            blob = self.bucket.get_blob(name, **self._options())
        return StoredObject.of(blob) if blob else None

    def list(self, prefix: str) -> list[StoredObject]:
        """List the objects whose names begin with `prefix`, in pages of a thousand.

        Raises:
            DestinationRefused: no connection, no such bucket, or no permission.
            Unavailable: the server stays busy.
        """
        with self.explain_errors():
            blobs = self.bucket.list_blobs(prefix=prefix, fields=LISTED_FIELDS, **self._options())
            return [StoredObject.of(blob) for blob in blobs]

    def read(self, stored: StoredObject, first: int, end: int) -> bytes:
        """Read a part of one generation of an object.

        Args:
            stored: the object.
            first: first byte.
            end: the byte after the last.

        Returns:
            The bytes.

        Raises:
            GenerationConflict: this generation is gone.
            Unavailable: the server stays busy.
        """
        blob = self.bucket.blob(stored.name, generation=stored.generation)
        with self.explain_errors():
            try:
                return blob.download_as_bytes(start=first, end=end - 1, checksum=None, **self._options())
            except NotFound:
                raise GenerationConflict(
                    f"gs://{self.bucket.name}/{stored.name} was replaced while it was read; run it again"
                ) from None

    @contextlib.contextmanager
    def explain_errors(self) -> Generator[None]:
        """Turn every error of Google's client into a `TaxiError` with one line."""
        try:
            yield
        except _CLIENT_ERRORS as error:
            raise self._explain(error) from None

    def _options(self) -> dict[str, Any]:
        connect_seconds = min(CONNECT_SECONDS, self.timeout_seconds)
        return {"retry": self.retry, "timeout": (connect_seconds, self.timeout_seconds)}

    def _explain(self, error: Exception) -> TaxiError:
        """What an error means. NOTE: never its text, in which the URL of an upload may be."""
        if isinstance(error, GoogleAuthError):
            return DestinationRefused(
                f"Google no longer accepts the credentials ({type(error).__name__}); {ADVICE[401]}"
            )
        response: Any = getattr(error, "response", None)
        if response is not None:
            return self._refusal(response)
        reason = describe_network_error(error)
        if _is_unconnected(error):
            return NoConnection(
                f"no connection to {self._host} ({reason}); check the network and STORAGE_EMULATOR_HOST"
            )
        return Unavailable(f"the connection to {self._host} broke ({reason}); run it again later")

    def _refusal(self, response: requests.Response) -> TaxiError:
        status, reason = response.status_code, _reason(response)
        if status in BUSY_STATUS:
            busy = Unavailable(f"{self._host} cannot do it now ({reason}); run it again later")
            seconds = response.headers.get("Retry-After", "")
            if seconds.isdecimal():
                busy.retry_after_seconds = min(float(seconds), LONGEST_RETRY_AFTER_SECONDS)
            return busy
        if status == 412:
            return GenerationConflict(
                f"another run has replaced the object in bucket {self.bucket.name} meanwhile; let it finish, "
                "then run it again"
            )
        if response.request.method == "PUT" and status in (308, 404, 410):
            return UploadLost(f"{self._host} has forgotten an upload that was under way; run it again")
        advice = ADVICE.get(status, ADVICE[400]).format(bucket=self.bucket.name)
        subject = "there is no bucket" if status == 404 else f"{self._host} refused bucket"
        return DestinationRefused(f"{subject} {self.bucket.name} ({reason}); {advice}")


class _RequestRetry(Retry):
    """Repeats a request as a `RetryPolicy` says.

    Google's own loop knows no number of attempts and no Retry-After, and sleeps on when the run is told to stop:
    https://github.com/googleapis/python-api-core/issues/535
    """

    def __init__(self, policy: RetryPolicy, explain: Callable[[Exception], TaxiError]) -> None:
        super().__init__()
        self._policy = policy
        self._explain = explain
        self._was_reached = False

    def __call__(self, func: Callable[..., Any], on_error: object = None) -> Callable[..., Any]:  # noqa: ARG002 - the base class's argument
        return lambda *args, **more: retry_transient(
            lambda: self._attempt(func, *args, **more), self._policy, retry_on=Unavailable
        )

    def _attempt(self, func: Callable[..., Any], *args: object, **more: object) -> Any:  # noqa: ANN401 - the client's answer
        try:
            answer = func(*args, **more)
        except _CLIENT_ERRORS as error:
            meaning = self._explain(error)
            if isinstance(meaning, NoConnection) and not self._was_reached:
                raise DestinationRefused(meaning.message) from None
            self._was_reached = True
            if isinstance(meaning, Unavailable):
                raise meaning from None
            raise  # the client itself may know what to do with it
        self._was_reached = True
        return answer


@contextlib.contextmanager
def connected(
    identity: GoogleIdentity, bucket: str, policy: RetryPolicy, timeout_seconds: float, emulator: str | None
) -> Generator[GcsSession]:
    """Sign in, and close the connection at the end of the block.

    Args:
        identity: the credentials.
        bucket: its name.
        policy: how long a failed request or upload is tried again.
        timeout_seconds: longest wait for an answer.
        emulator: endpoint of an emulator to use instead of Google.

    Yields:
        The session.

    Raises:
        DestinationRefused: Google cannot be reached, or does not accept the credentials.
    """
    identity.sign_in()
    # Always given: otherwise the client reads STORAGE_EMULATOR_HOST itself.
    endpoint = endpoint_url(emulator) if emulator else "https://storage.googleapis.com"
    client = storage.Client(
        project=identity.project or "unused",
        credentials=identity.credentials,
        client_options={"api_endpoint": endpoint},
    )
    with client:
        yield GcsSession(client, bucket, policy, timeout_seconds)


def _is_unconnected(error: Exception) -> bool:
    if isinstance(
        error, (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)
    ):
        return True
    inner = error.args[0] if error.args else None
    return isinstance(getattr(inner, "reason", inner), NewConnectionError)


def _reason(response: requests.Response) -> str:
    """The server's own words, in one line and without tokens."""
    try:
        error = response.json()["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, TypeError, requests.RequestException):
        text = None
    text = text if isinstance(text, str) and text else f"HTTP {response.status_code}"
    return " ".join(re.sub(r"Bearer \S+|ya29\.\S+", "***", text).split())[:300]
