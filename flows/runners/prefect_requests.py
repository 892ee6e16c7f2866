"""Requests to a Prefect server that may be busy, or restarting."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

import httpx

from flows.runtime import RetryPolicy, retry_transient

logger = logging.getLogger("flows.runners")

Result = TypeVar("Result")

RETRIED_STATUS = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
"""Answers of a server, or of the proxy before it, worth another try; a server on SQLite often says 503."""


def retry_server(call: Callable[[], Result], policy: RetryPolicy, level: int = logging.WARNING) -> Result:
    """Call the server, again if need be: one that is busy or being restarted does not end hours of work.

    Args:
        call: sends requests; safe to be called again.
        policy: limits and pauses, beside those of Prefect's client.
        level: of the log line before each pause.

    Returns:
        The result of `call`.

    Raises:
        HTTPStatusError, TransportError: permanent, or for as long as the policy allows.
    """

    def announce(error: BaseException, _: float) -> None:
        logger.log(level, "the Prefect server does not answer (%s); asking again", error)

    return retry_transient(call, policy, retry_on=_is_transient, before_pause=announce)


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in RETRIED_STATUS
    return isinstance(error, httpx.TransportError)
