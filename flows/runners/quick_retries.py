"""Requests that a busy Prefect server has refused are soon repeated.

A server on SQLite answers 503 when two writes meet, as those of months that start side by side do. It does
not say when to come again, and Prefect's client waits two, four, ... seconds for what takes milliseconds
(PrefectHQ/prefect#18934, #19771, #8950). The servers that `flows/cli/serve_api.py` starts never answer so.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import urllib.request
from collections.abc import Generator
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx
from prefect import get_client
from prefect.context import AsyncClientContext, SyncClientContext
from prefect.settings import PREFECT_API_URL
from prefect.utilities.asyncutils import run_coro_as_sync

PAUSES_SECONDS = (0.4, 0.8)
"""Before the repetitions of a request, give or take a half. Then Prefect's own begin: 2 s, 4 s, ...

NOTE: few, and not shorter. The writes of a start take some tenths of a second, a repetition that is too early
meets them again, and about one refusal in a hundred leaves such a server locked for a minute.
"""

LIMITS = httpx.Limits(max_connections=16, max_keepalive_connections=8, keepalive_expiry=25)
"""As in Prefect's own clients, and like theirs these connect in up to four attempts."""


@contextlib.contextmanager
def quick_retries() -> Generator[None]:
    """Repeat requests of flows and tasks soon, if the server refuses them with 503 and does not say when.

    It holds for the clients that Prefect takes from the context, in this thread and those of a task runner.
    Others, which send logs and events in the background, keep Prefect's pauses; nobody waits for them. So do
    servers behind https or a proxy, which are no SQLite of this kind.
    """
    url = PREFECT_API_URL.value()
    if not _is_plain_server(url):
        yield
        return
    # Of this server alone: `http://` would yield to an entry of NO_PROXY that names its host.
    server = f"http://{urlsplit(url).netloc.rpartition('@')[2]}"
    sync_client = get_client({"mounts": {server: RepeatingTransport()}}, sync_client=True)
    async_client = get_client(httpx_settings={"mounts": {server: AsyncRepeatingTransport()}})
    # NOTE: not made with `httpx_settings`: such a context is passed over wherever Prefect asks for a client
    # without any, which is everywhere.
    sync_context = SyncClientContext.model_construct(client=sync_client)
    async_context = AsyncClientContext.model_construct(client=async_client)
    # An asynchronous client belongs to the loop that starts it: the one on which Prefect runs what it awaits
    # in a synchronous flow. So the context is entered here, and the client there.
    run_coro_as_sync(async_client.__aenter__())
    try:
        with sync_context, async_context:
            yield
    finally:
        run_coro_as_sync(async_client.__aexit__(None, None, None))


class RepeatingTransport(httpx.HTTPTransport):
    """Repeats a refused request a few times before Prefect's client hears of it."""

    def __init__(self) -> None:
        """Connect as Prefect's clients do."""
        super().__init__(limits=LIMITS, retries=3)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, again and again while it is refused.

        Args:
            request: of Prefect's client.
        """
        for pause in PAUSES_SECONDS:
            response = super().handle_request(request)
            if not _is_refused(response):
                return response
            response.close()
            time.sleep(_jittered(pause))
        return super().handle_request(request)


class AsyncRepeatingTransport(httpx.AsyncHTTPTransport):
    """The same for Prefect's asynchronous client, which creates the task run of a subflow."""

    def __init__(self) -> None:
        """Connect as Prefect's clients do."""
        super().__init__(limits=LIMITS, retries=3)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, again and again while it is refused.

        Args:
            request: of Prefect's client.
        """
        for pause in PAUSES_SECONDS:
            response = await super().handle_async_request(request)
            if not _is_refused(response):
                return response
            await response.aclose()
            await asyncio.sleep(_jittered(pause))
        return await super().handle_async_request(request)


def _is_refused(response: httpx.Response) -> bool:
    return response.status_code == HTTPStatus.SERVICE_UNAVAILABLE and "Retry-After" not in response.headers


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


def _is_plain_server(url: str | None) -> bool:
    """Whether requests to a URL go by HTTP to the server itself."""
    address = urlsplit(url or "")
    if address.scheme != "http":
        return False
    has_proxy = "http" in urllib.request.getproxies() or "all" in urllib.request.getproxies()
    return not has_proxy or bool(urllib.request.proxy_bypass(address.hostname or ""))
