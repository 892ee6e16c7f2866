"""Who we are at Google: a service account's key, or the application default credentials.

Shared by the destinations `gcs` and `bigquery` and the sources `gs://`. Nothing here prints a key or a
token, and nothing waits longer than `SIGN_IN_SECONDS` for Google, where the library itself would go on for
minutes.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import google.auth
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from flows.errors import DestinationRefused, UsageError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from flows.settings import Settings

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
"""What a token is good for; what it may do is decided by the roles of the account."""

SIGN_IN_SECONDS = 8.0
"""Longest wait for the metadata server, and for a token."""

PLACES_TRIED = (
    "the environment variable TAXI_GCP_KEY_FILE, the same in .env, the Prefect block gcp-credentials, the "
    "application default credentials (GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default "
    "login, the metadata server)"
)


class NoCredentials(UsageError):
    """Nothing is configured at all."""


@dataclass(frozen=True, slots=True)
class GoogleIdentity:
    """Credentials, and whose they are.

    Attributes:
        credentials: of google-auth; anonymous at an emulator.
        project: the Google Cloud project to work in; None if nothing says which.
        origin: where they come from, for messages.
    """

    credentials: Credentials = field(repr=False)
    project: str | None
    origin: str

    @property
    def is_anonymous(self) -> bool:
        """Whether there is nothing to sign in with, because an emulator asks for nothing."""
        return isinstance(self.credentials, AnonymousCredentials)

    def sign_in(self) -> None:
        """Fetch a token, unless there is a good one.

        Clients would do so themselves, but wait for minutes if Google cannot be reached.

        Raises:
            DestinationRefused: no way to Google, or Google does not accept the credentials.
        """
        if self.is_anonymous or self.credentials.valid:
            return
        try:
            self.credentials.refresh(_BoundedRequest())
        except TransportError as error:
            raise DestinationRefused(
                f"no connection to Google to sign in with {self.origin} ({_kind(error)}); check the network, "
                "or name an emulator in STORAGE_EMULATOR_HOST or BIGQUERY_EMULATOR_HOST"
            ) from None
        except (GoogleAuthError, ValueError) as error:
            raise DestinationRefused(
                f"Google does not accept {self.origin} ({_reason(error)}); name another key in "
                "TAXI_GCP_KEY_FILE or sign in again with gcloud auth application-default login"
            ) from None


def google_credentials(settings: Settings, *, emulator: str | None = None) -> GoogleIdentity:
    """The identity that the settings name; reads files, fetches no token.

    Asks the metadata server of Google's own machines if nothing else is configured.

    Args:
        settings: those a block has for them already filled in.
        emulator: endpoint of the emulator that will be talked to; credentials are then anonymous.

    Raises:
        NoCredentials: there are none; lists every place that was tried.
        UsageError: they cannot be read.
    """
    project = settings.gcp_project
    if emulator:
        return GoogleIdentity(AnonymousCredentials(), project or "emulator", f"the emulator {emulator}")
    text = key_text(settings)
    if text is not None:
        return _of_key(text, project, _key_origin(settings))
    try:
        found: tuple[Any, str | None] = google.auth.default(scopes=SCOPES, request=_BoundedRequest())
    except (GoogleAuthError, OSError, ValueError) as error:
        reason = _reason(error)
        absent = reason.startswith("Your default credentials were not found")
        kind, why = (NoCredentials, "") if absent else (UsageError, f" ({reason})")
        raise kind(
            f"no Google credentials{why}. Tried: {PLACES_TRIED}. Or name an emulator in "
            "STORAGE_EMULATOR_HOST or BIGQUERY_EMULATOR_HOST"
        ) from None
    return GoogleIdentity(found[0], project or found[1], "the application default credentials")


class _BoundedRequest(Request):
    """Requests that end soon, and together before `SIGN_IN_SECONDS` have passed."""

    def __init__(self) -> None:
        super().__init__()
        self._until = time.monotonic() + SIGN_IN_SECONDS

    def __call__(self, url: str, *args: Any, timeout: float | None = None, **more: Any) -> Any:  # noqa: ANN401 - the base class's types
        left = self._until - time.monotonic()
        if left <= 0:
            raise TransportError(f"no answer within {SIGN_IN_SECONDS:g} s")
        bounded: Any = min(timeout or left, left)
        return super().__call__(url, *args, timeout=bounded, **more)


def key_text(settings: Settings) -> str | None:
    """The service account's key as JSON; None if the settings have none.

    Raises:
        UsageError: the file cannot be read.
    """
    if settings.gcp_key_file is None:
        return settings.gcp_key_json.get_secret_value() if settings.gcp_key_json else None
    try:
        return settings.gcp_key_file.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UsageError(
            f"{_key_origin(settings)}: {reason}; name the JSON key file of a service account in "
            "TAXI_GCP_KEY_FILE or the block gcp-credentials"
        ) from None


def _key_origin(settings: Settings) -> str:
    if settings.gcp_key_file:
        return f"the key {settings.gcp_key_file}"
    return "the key in TAXI_GCP_KEY_JSON or the block gcp-credentials"


def _of_key(text: str, project: str | None, origin: str) -> GoogleIdentity:
    """The service account of a key; says what is missing, never what is there."""
    reason = "not the JSON key of a service account"
    with contextlib.suppress(json.JSONDecodeError):
        info = json.loads(text)
        try:
            made: Any = service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
            return GoogleIdentity(made, project or info.get("project_id"), origin)
        except (GoogleAuthError, ValueError, TypeError, AttributeError):
            needed = ("type", "client_email", "private_key", "token_uri")
            lacking = [name for name in needed if not isinstance(info, dict) or name not in info]
            reason = f"no {', '.join(lacking)}" if lacking else "its private_key cannot be read"
    raise UsageError(
        f"{origin}: {reason}; create one with `gcloud iam service-accounts keys create FILE "
        "--iam-account NAME@PROJECT.iam.gserviceaccount.com`"
    ) from None


def _reason(error: Exception) -> str:
    """The first, human part of an error; the rest may be a whole answer with tokens in it."""
    first = error.args[0] if error.args else ""
    text = first if isinstance(first, str) else type(first).__name__
    if not text.strip() or text.lstrip().startswith("<"):  # a page, of a proxy for instance
        return type(error).__name__
    return " ".join(text.split())[:200]


def _kind(error: TransportError) -> str:
    """What broke; without the URL, which may carry a token."""
    cause = error.args[0] if error.args else error
    if isinstance(cause, str):
        return cause[:200]
    known = {"ConnectTimeout": "no answer", "ReadTimeout": "no answer", "ConnectionError": "cannot connect"}
    return known.get(type(cause).__name__, type(cause).__name__)
