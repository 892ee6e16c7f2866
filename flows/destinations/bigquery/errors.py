"""The errors of BigQuery's clients, REST and gRPC, as one-line errors of ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from typing import Any

import grpc
import requests
from google.api_core import exceptions as google_errors
from google.auth.exceptions import GoogleAuthError

from flows.errors import DestinationBusy, DestinationRefused, TaxiError

# The only sign of a transaction in conflict is its text; the reason is just `invalidQuery`.
# https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency
CONFLICT = re.compile(r"due to concurrent update|concurrent transaction", re.IGNORECASE)

QUOTA_REASONS = {"quotaExceeded", "billingNotEnabled", "billingTierLimitExceeded", "RESOURCE_EXHAUSTED"}
TRANSIENT_REASONS = {
    "rateLimitExceeded",
    "backendError",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "tableUnavailable",
}
ADVICE = {
    "quotaExceeded": "wait until the quota is free or ask for more, see docs/reference/google.md",
    "RESOURCE_EXHAUSTED": "wait until the quota is free or ask for more, see docs/reference/google.md",
    "billingNotEnabled": "enable billing for the project, or load by flows/gcs_to_bq.py, which needs none",
    "notFound": "check TAXI_GCP_PROJECT and TAXI_BIGQUERY_DATASET",
}
ROLES = (
    "give the account roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project, "
    "see docs/reference/google.md"
)


class TransactionConflict(DestinationBusy):
    """Another transaction changed the same table; this one was rolled back."""


class NoConnection(DestinationBusy):
    """The connection to the server failed.

    Attributes:
        reason: the name of the client's error.
    """

    def __init__(self, reason: str) -> None:
        """Build the message from the reason."""
        super().__init__(f"the connection to BigQuery broke ({reason}); the month there stays as it was")
        self.reason = reason


@contextlib.contextmanager
def translate_errors() -> Generator[None]:
    """Raise every error of the clients as a `TaxiError`.

    Raises:
        DestinationBusy: the call may succeed later.
        DestinationRefused: it would fail again.
    """
    try:
        yield
    except (google_errors.GoogleAPIError, GoogleAuthError, grpc.RpcError, requests.RequestException) as error:
        raise to_taxi_error(error) from error
    except TimeoutError as error:  # concurrent.futures: a job that is not done in time
        raise DestinationBusy("BigQuery did not finish a job in time; the month there stays") from error


def to_taxi_error(error: Exception) -> TaxiError:
    """The `TaxiError` that an error of the clients is raised as.

    Args:
        error: as a client raised it.
    """
    if isinstance(error, google_errors.RetryError) and isinstance(error.cause, Exception):
        return to_taxi_error(error.cause)
    if isinstance(error, grpc.RpcError):
        error = google_errors.from_grpc_error(error)
    if isinstance(error, (requests.RequestException, GoogleAuthError)):
        return NoConnection(type(error).__name__)
    if not isinstance(error, google_errors.GoogleAPICallError):
        return DestinationBusy(f"BigQuery cannot do it now ({type(error).__name__})", "try again later")
    return _translate_refusal(error)


def _translate_refusal(error: google_errors.GoogleAPICallError) -> TaxiError:
    reason, message = _reason(error), _message(error)
    if CONFLICT.search(message):
        return TransactionConflict(
            f"BigQuery: another run changes the same table ({message})", "let it finish"
        )
    is_busy = isinstance(
        error, (google_errors.ServerError, google_errors.TooManyRequests, google_errors.Aborted)
    ) and not isinstance(error, google_errors.MethodNotImplemented)
    if reason not in QUOTA_REASONS and (reason in TRANSIENT_REASONS or is_busy):
        return DestinationBusy(f"BigQuery cannot do it now: {message} ({reason}); the month there stays")
    lacks_role = isinstance(error, (google_errors.Forbidden, google_errors.Unauthorized))
    advice = ADVICE.get(reason) or (ROLES if lacks_role else "see docs/reference/google.md")
    return DestinationRefused(f"BigQuery refused: {message} ({reason}); {advice}")


def _reason(error: google_errors.GoogleAPICallError) -> str:
    """BigQuery's reason (`quotaExceeded`), gRPC's status (`RESOURCE_EXHAUSTED`), or the HTTP status."""
    status: Any = error.grpc_status_code
    return _first_detail(error, "reason") or str(status.name if status else error.code)


def _message(error: google_errors.GoogleAPICallError) -> str:
    """The server's own message; the client's repeats it and adds the URL or the job."""
    message = _first_detail(error, "message") or str(error.message).partition("; reason:")[0]
    return " ".join(message.split())


def _first_detail(error: google_errors.GoogleAPICallError, key: str) -> str:
    details = [detail for detail in error.errors if isinstance(detail, dict)]
    return next((str(detail[key]) for detail in details if detail.get(key)), "")
