"""Errors in the words of the REST API: a reason decides the status.

Source: https://cloud.google.com/bigquery/docs/error-messages.
"""

from __future__ import annotations

from typing import Any

STATUS = {
    "accessDenied": 403,
    "backendError": 503,
    "conditionNotMet": 412,
    "duplicate": 409,
    "internalError": 500,
    "invalid": 400,
    "invalidQuery": 400,
    "notFound": 404,
    "quotaExceeded": 403,
    "rateLimitExceeded": 403,
    "resourceInUse": 400,
    "stopped": 200,
    "unknownToTheFake": 501,
}


class ApiError(Exception):
    """An error as the API would answer it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message
        self.status = STATUS[reason]

    def proto(self) -> dict[str, str]:
        """As it stands in the status of a job."""
        return {"reason": self.reason, "message": self.message}

    def body(self) -> dict[str, Any]:
        """As it stands in an answer."""
        errors = [{"domain": "global", **self.proto()}]
        return {"error": {"code": self.status, "message": self.message, "errors": errors}}


def unknown(what: str) -> ApiError:
    """Refuse what this fake does not know, instead of waving it through."""
    return ApiError("unknownToTheFake", f"the BigQuery fake does not know {what}; teach it or do without")
