"""Requests that a busy Prefect server has refused are soon repeated.

A server on SQLite answers 503 when two writes meet, as those of months that start side by side do. It does
not say when to come again, and Prefect's client waits two, four, ... seconds for what takes milliseconds
(PrefectHQ/prefect#18934, #19771, #8950). The servers that `flows/cli/serve_api.py` starts never answer so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from http import HTTPStatus
from typing import TYPE_CHECKING

from prefect import get_client
from prefect.context import AsyncClientContext, SyncClientContext
from prefect.utilities.asyncutils import run_coro_as_sync

if TYPE_CHECKING:
    import httpx

PAUSES_SECONDS = (0.25, 0.5, 1.0, 2.0)
"""Before the first repetitions of a request; Prefect adds a jitter. Its own pauses follow: 16 s, 32 s."""


@contextlib.contextmanager
def quick_retries() -> Generator[None]:
    """Repeat requests of flows and tasks soon, if the server refuses them with 503 and says nothing else.

    It holds for the clients that Prefect takes from the context, in this thread and those of a task runner.
    Others, which send logs and events in the background, keep Prefect's pauses; nobody waits for them.
    """
    sync_client = get_client({"event_hooks": {"response": [_ask_to_repeat]}}, sync_client=True)
    async_client = get_client(httpx_settings={"event_hooks": {"response": [_ask_to_repeat_async]}})
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


def _ask_to_repeat(response: httpx.Response) -> None:
    """Say when to come again, in a refusal that does not; Prefect's client heeds it."""
    if response.status_code != HTTPStatus.SERVICE_UNAVAILABLE or "Retry-After" in response.headers:
        return
    refusals: int = response.request.extensions.get("taxi_refusals", 0)
    if refusals < len(PAUSES_SECONDS):
        response.request.extensions["taxi_refusals"] = refusals + 1
        response.headers["Retry-After"] = str(PAUSES_SECONDS[refusals])


async def _ask_to_repeat_async(response: httpx.Response) -> None:
    _ask_to_repeat(response)
