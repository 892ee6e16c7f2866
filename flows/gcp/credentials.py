"""Google credentials: a service account's key, or the application default credentials.

Shared by the destinations `gcs` and `bigquery` and by `gs://` sources. Nothing here shows a key or a token,
and nothing waits longer than `SIGN_IN_SECONDS` for Google; the library itself would retry for minutes.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import google.auth
import requests
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from flows.errors import DestinationRefused, UsageError

if TYPE_CHECKING:
    from flows.settings import Settings

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
"""Scope of the tokens; what they allow is decided by the roles of the account."""

SIGN_IN_SECONDS = 8.0
"""Longest wait for the metadata server, and for a token."""


class NoCredentials(UsageError):
    """No credentials are configured at all."""


@dataclass(frozen=True, slots=True)
class GoogleIdentity:
    """Credentials, with the project and the place they come from.

    Attributes:
        credentials: of google-auth; anonymous for an emulator.
        project: the Google Cloud project to work in; None if neither settings nor credentials name one.
        origin: where the credentials come from, for messages.
    """

    credentials: Credentials = field(repr=False)
    project: str | None
    origin: str

    @property
    def is_anonymous(self) -> bool:
        """Whether there is nothing to sign in with, as for an emulator."""
        return isinstance(self.credentials, AnonymousCredentials)

    def sign_in(self) -> None:
        """Fetch a token unless a valid one is at hand.

        Google's clients would do so themselves, but wait for minutes if Google cannot be reached.

        Raises:
            DestinationRefused: Google cannot be reached, or does not accept the credentials.
        """
        if self.is_anonymous or self.credentials.valid:
            return
        try:
            self.credentials.refresh(_BoundedRequest())
        except TransportError as error:
            raise DestinationRefused(
                f"no connection to Google to sign in with {self.origin} ({describe_network_error(error)}); "
                "check the network, or name an emulator in STORAGE_EMULATOR_HOST or BIGQUERY_EMULATOR_HOST"
            ) from None
        except (GoogleAuthError, ValueError) as error:
            raise DestinationRefused(
                f"Google does not accept {self.origin} ({_reason(error)}); name another key in "
                "TAXI_GCP_KEY_FILE or sign in again with gcloud auth application-default login"
            ) from None


def google_credentials(settings: Settings, *, emulator: str | None = None) -> GoogleIdentity:
    """Find the credentials that the settings name; reads files, fetches no token.

    If nothing else is configured, the metadata server of Google's own machines is queried.

    Args:
        settings: with the values of Prefect blocks already filled in.
        emulator: endpoint of the emulator to be used; the credentials are then anonymous.

    Returns:
        The identity, not signed in yet.

    Raises:
        NoCredentials: there are none; the message lists every place that was tried.
        UsageError: they cannot be read.
    """
    project = settings.gcp_project
    if emulator:
        return GoogleIdentity(AnonymousCredentials(), project or "emulator", f"the emulator {emulator}")
    key = key_text(settings)
    if key is not None:
        return _from_key(key, project, _key_origin(settings))
    try:
        default: tuple[Any, str | None] = google.auth.default(scopes=SCOPES, request=_BoundedRequest())
    except (GoogleAuthError, OSError, ValueError) as error:
        reason = _reason(error)
        is_absent = reason.startswith("Your default credentials were not found")
        kind, details = (NoCredentials, "") if is_absent else (UsageError, f" ({reason})")
        raise kind(
            f"no Google credentials{details}. Tried: the environment variable TAXI_GCP_KEY_FILE, the same "
            "in .env, the Prefect block gcp-credentials, the application default credentials "
            "(GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login, the metadata server). "
            "Or name an emulator in STORAGE_EMULATOR_HOST or BIGQUERY_EMULATOR_HOST"
        ) from None
    return GoogleIdentity(default[0], project or default[1], "the application default credentials")


def key_text(settings: Settings) -> str | None:
    """Read the service account's key.

    Args:
        settings: may name a key file, or hold the key.

    Returns:
        The key as JSON text; None if the settings name none.

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


def describe_network_error(error: BaseException) -> str:
    """Say what broke, without any URL: one may carry a token or be the key to an upload.

    Args:
        error: of google-auth, requests or the operating system.

    Returns:
        A few words, such as `Connection refused` or `no answer`.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (TimeoutError, requests.Timeout)):
            return "no answer"
        if reason := getattr(cause, "strerror", None):
            return " ".join(str(reason).split())
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


class _BoundedRequest(Request):
    """Requests that all together end before `SIGN_IN_SECONDS` have passed."""

    def __init__(self) -> None:
        super().__init__()
        self._deadline = time.monotonic() + SIGN_IN_SECONDS

    def __call__(self, url: str, *args: Any, timeout: float | None = None, **more: Any) -> Any:  # noqa: ANN401 - the base class's types
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TransportError(f"no answer within {SIGN_IN_SECONDS:g} s") from TimeoutError()
        bounded: Any = min(timeout or left, left)
        return super().__call__(url, *args, timeout=bounded, **more)


def _key_origin(settings: Settings) -> str:
    if settings.gcp_key_file:
        return f"the key {settings.gcp_key_file}"
    return "the key in TAXI_GCP_KEY_JSON or the block gcp-credentials"


def _from_key(key: str, project: str | None, origin: str) -> GoogleIdentity:
    """The service account of a key; an error names the missing fields, never a value."""
    reason = "not the JSON key of a service account"
    with contextlib.suppress(json.JSONDecodeError):
        info = json.loads(key)
        try:
            credentials: Any = service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
            return GoogleIdentity(credentials, project or info.get("project_id"), origin)
        except (GoogleAuthError, ValueError, TypeError, AttributeError):
            needed = ("type", "client_email", "private_key", "token_uri")
            missing = [name for name in needed if not isinstance(info, dict) or name not in info]
            reason = f"no {', '.join(missing)}" if missing else "its private_key cannot be read"
    raise UsageError(
        f"{origin}: {reason}; create one with `gcloud iam service-accounts keys create FILE "
        "--iam-account NAME@PROJECT.iam.gserviceaccount.com`"
    ) from None


def _reason(error: Exception) -> str:
    """An error's first argument, if it is text for people; the others may be an answer with tokens."""
    first = error.args[0] if error.args else None
    text = " ".join(first.split()) if isinstance(first, str) else ""
    if not text or text.startswith("<"):  # the HTML page of a proxy, for instance
        return type(error).__name__
    return text[:200]
