"""Every refusal of BigQuery, REST or gRPC, explained in one line; and whether it is worth another try."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import grpc
import requests
from google.api_core import exceptions as google_errors
from google.auth.exceptions import GoogleAuthError

from flows.errors import DestinationBusy, DestinationRefused, TaxiError

if TYPE_CHECKING:
    from collections.abc import Generator

# How BigQuery says that somebody else changed the same table; the reason is no more than `invalidQuery`.
# https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency
CONFLICT = re.compile(r"due to concurrent update|concurrent transaction", re.IGNORECASE)

QUOTA_REASONS = {"quotaExceeded", "billingNotEnabled", "billingTierLimitExceeded", "RESOURCE_EXHAUSTED"}
PASSING_REASONS = {
    "rateLimitExceeded",
    "backendError",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "tableUnavailable",
}
ADVICE = {
    "quotaExceeded": "wait until the quota is free or ask for more, see docs/google.md",
    "RESOURCE_EXHAUSTED": "wait until the quota is free or ask for more, see docs/google.md",
    "billingNotEnabled": "enable billing for the project, or load by flows/gcs_to_bq.py, which needs none",
    "notFound": "check TAXI_GCP_PROJECT and TAXI_BIGQUERY_DATASET",
}
ROLES = (
    "give the account roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project, "
    "see docs/google.md"
)


class Conflicting(DestinationBusy):
    """Another transaction changed the same table; nothing of ours stays."""


class NoConnection(DestinationBusy):
    """The way to the server broke.

    Attributes:
        reason: in a word.
    """

    def __init__(self, reason: str) -> None:
        """Say what it means for the month."""
        super().__init__(f"the connection to BigQuery broke ({reason}); the month there stays as it was")
        self.reason = reason


@contextlib.contextmanager
def explained() -> Generator[None]:
    """Raise what the clients raise as one of ours."""
    try:
        yield
    except (google_errors.GoogleAPIError, GoogleAuthError, grpc.RpcError, requests.RequestException) as error:
        raise refusal(error) from error
    except TimeoutError as error:  # concurrent.futures: a job that is not done in time
        raise DestinationBusy("BigQuery did not finish a job in time; the month there stays") from error


def refusal(error: Exception) -> TaxiError:
    """What to raise for a call that failed."""
    if isinstance(error, google_errors.RetryError) and isinstance(error.cause, Exception):
        return refusal(error.cause)
    if isinstance(error, grpc.RpcError):
        error = google_errors.from_grpc_error(error)
    if isinstance(error, (requests.RequestException, GoogleAuthError)):
        return NoConnection(type(error).__name__)
    if not isinstance(error, google_errors.GoogleAPICallError):
        return DestinationBusy(f"BigQuery cannot do it now ({type(error).__name__}); try again later")
    return _refusal_of_call(error)


def _refusal_of_call(error: google_errors.GoogleAPICallError) -> TaxiError:
    reason, said = _reason(error), _said(error)
    if CONFLICT.search(said):
        return Conflicting(f"BigQuery: another run changes the same table ({said}); let it finish")
    busy = isinstance(
        error, (google_errors.ServerError, google_errors.TooManyRequests, google_errors.Aborted)
    ) and not isinstance(error, google_errors.MethodNotImplemented)
    if reason not in QUOTA_REASONS and (reason in PASSING_REASONS or busy):
        return DestinationBusy(f"BigQuery cannot do it now: {said} ({reason}); the month there stays")
    lacks_right = isinstance(error, (google_errors.Forbidden, google_errors.Unauthorized))
    advice = ADVICE.get(reason) or (ROLES if lacks_right else "see docs/google.md")
    return DestinationRefused(f"BigQuery refused: {said} ({reason}); {advice}")


def _reason(error: google_errors.GoogleAPICallError) -> str:
    """BigQuery's word for it (`quotaExceeded`), gRPC's (`RESOURCE_EXHAUSTED`), or the HTTP status."""
    for detail in error.errors:
        if isinstance(detail, dict) and detail.get("reason"):
            return str(detail["reason"])
    status: Any = error.grpc_status_code
    return str(status.name if status else error.code)


def _said(error: google_errors.GoogleAPICallError) -> str:
    """The server's own words; the client's message repeats them and adds the URL or the job."""
    for detail in error.errors:
        if isinstance(detail, dict) and detail.get("message"):
            return " ".join(str(detail["message"]).split())
    return " ".join(str(error.message).partition("; reason:")[0].split())
