"""A connection to Google Cloud Storage: what is tried again, and every refusal explained in one line."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from flows.destinations.gcs.http import NO_ANSWER, NO_CONNECTION, NO_TOKEN, Answer, SingleCalls
from flows.errors import DestinationBusy, DestinationRefused, TaxiError
from flows.runtime import check_stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping

    from flows.gcp import GoogleIdentity

T = TypeVar("T")

LONGEST_PAUSE_SECONDS = 30.0

BUSY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
ADVICE = {
    400: "see docs/google.md",
    401: "name a key that is valid in TAXI_GCP_KEY_FILE, or sign in again with gcloud auth "
    "application-default login",
    403: "grant the role Storage Object User (roles/storage.objectUser) on the bucket, see docs/google.md",
    404: "name another bucket in TAXI_GCS_BUCKET or the block de-gcs, or create this one with `gcloud "
    "storage buckets create gs://{bucket} --location=US`",
}


class NoConnection(DestinationBusy):
    """Nobody was reached at all."""


class Unavailable(DestinationBusy):
    """The server, or the way to it, failed in a way that may pass.

    Attributes:
        retry_after_seconds: the pause the server asked for; 0 if it asked for none.
    """

    retry_after_seconds = 0.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: in a row without any progress.
        backoff_seconds: the first pause; it doubles.
        timeout_seconds: longest wait for an answer.
    """

    attempts: int = 5
    backoff_seconds: float = 1.0
    timeout_seconds: float = 30.0

    def pause_seconds(self, failures: int, error: DestinationBusy) -> float:
        """How long to wait after so many failures in a row."""
        doubled = self.backoff_seconds * 2 ** (failures - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        asked = error.retry_after_seconds if isinstance(error, Unavailable) else 0.0
        return min(max(doubled, asked), LONGEST_PAUSE_SECONDS)


class Session:
    """One connection to one bucket.

    Attributes:
        bucket: its name.
        patience: how long to try.
    """

    def __init__(self, calls: SingleCalls, bucket: str, patience: Patience) -> None:
        """Talk through `calls`."""
        self._calls = calls
        self.bucket = bucket
        self.patience = patience

    def call(
        self,
        method: str,
        path: str,
        *names: str,
        expect: Collection[int] = (200,),
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        json: Mapping[str, Any] | None = None,
        **parameters: str | None,
    ) -> Answer:
        """Make one call, once.

        Args:
            method: of HTTP.
            path: below `/storage/v1/`, or a whole address; `{}` in it are the `names`, quoted.
            names: of bucket and object.
            expect: statuses to return; any other is raised.
            headers: beside those of gcsfs.
            data: body, as it is.
            json: body, to be encoded.
            parameters: of the query; None leaves one out.

        Raises:
            NoConnection: nobody was reached.
            Unavailable: the server failed in a way that may pass.
            DestinationRefused: any other status.
        """
        try:
            answer = self._calls.call(
                method, path, *names, headers=headers, data=data, json=json, **parameters
            )
        except NO_CONNECTION as error:
            raise NoConnection(
                f"no connection to {self.where} ({_kind(error)}); check the network and STORAGE_EMULATOR_HOST"
            ) from None
        except NO_ANSWER as error:
            raise Unavailable(
                f"the connection to {self.where} broke ({_kind(error)}); run it again later"
            ) from None
        except NO_TOKEN as error:
            raise DestinationRefused(
                f"Google no longer accepts the credentials ({type(error).__name__}); {ADVICE[401]}"
            ) from None
        if answer.status not in expect:
            raise self.refusal(answer)
        return answer

    def open_call(
        self, method: str, path: str, *names: str, expect: Collection[int] = (200,), **parameters: str | None
    ) -> Answer:
        """Make the first call of all, patiently; if nobody is reached, there is no network.

        Raises:
            DestinationRefused: nobody is reached, no bucket, no right to do it.
            Unavailable: the server stays busy.
        """

        def call() -> Answer:
            try:
                return self.call(
                    method, path, *names, expect=expect, headers=None, data=None, json=None, **parameters
                )
            except NoConnection as error:
                raise DestinationRefused(error.message) from None

        return self.patiently(call)

    def patiently(self, function: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Call a function again and again until it goes well, or patience ends.

        Args:
            function: it may be called again after `NoConnection` and `Unavailable`.
            progress: grows when something was achieved; failures are then counted anew.
        """
        best, failures = progress(), 0
        while True:
            try:
                return function()
            except (NoConnection, Unavailable) as error:
                failures = 1 if progress() > best else failures + 1
                best = max(best, progress())
                if failures >= self.patience.attempts:
                    raise
                _sleep(self.patience.pause_seconds(failures, error))

    @property
    def upload_address(self) -> str:
        """Where uploads begin; to be filled with the bucket's name."""
        return f"{self._calls.address}/upload/storage/v1/b/{{}}/o"

    @property
    def where(self) -> str:
        """The server, for messages."""
        return self._calls.address.partition("://")[2]

    def refusal(self, answer: Answer) -> TaxiError:
        """What to raise for an answer nobody wanted."""
        if answer.status in BUSY_STATUS:
            busy = Unavailable(f"{self.where} cannot do it now ({answer.reason}); run it again later")
            with contextlib.suppress(ValueError):
                busy.retry_after_seconds = float(answer.headers.get("Retry-After", "0"))
            return busy
        advice = ADVICE.get(answer.status, ADVICE[400]).format(bucket=self.bucket)
        subject = "there is no bucket" if answer.status == 404 else f"{self.where} refused bucket"
        return DestinationRefused(f"{subject} {self.bucket} ({answer.reason}); {advice}")


@contextlib.contextmanager
def connected(
    identity: GoogleIdentity, bucket: str, patience: Patience, emulator: str | None
) -> Generator[Session]:
    """Sign in, and hang up at the end of the block.

    Raises:
        DestinationRefused: no way to Google, or it does not accept the credentials.
    """
    identity.sign_in()
    calls = SingleCalls(identity, emulator, patience.timeout_seconds)
    try:
        yield Session(calls, bucket, patience)
    finally:
        calls.close()


def _sleep(seconds: float) -> None:
    """Sleep, but end soon if the run is told to stop."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check_stopped()
        time.sleep(min(left, 0.5))


def _kind(error: BaseException) -> str:
    """What broke; without addresses, which are keys to an upload."""
    inner = getattr(error, "os_error", None) or error
    text = getattr(inner, "strerror", None) or ("no answer" if isinstance(inner, TimeoutError) else "")
    return " ".join(str(text or type(inner).__name__).split())
