"""What a Prefect server refuses with 503 is soon asked again, by every client that a run waits for."""

from __future__ import annotations

import asyncio
import contextvars
import http.server
import logging
import re
import threading
from typing import TYPE_CHECKING

import pytest
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)
from prefect.utilities.asyncutils import run_coro_as_sync

from flows.runners.quick_retries import PAUSES_SECONDS, quick_retries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Busy:
    """A server that refuses the next requests with 503."""

    refusals = 0
    headers: dict[str, str] = {}  # noqa: RUF012 - replaced, not changed


@pytest.fixture
def busy() -> Iterator[Busy]:
    state = Busy()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, state.refusals = (503 if state.refusals > 0 else 200), state.refusals - 1
            self.send_response(status)
            for name, value in (state.headers | {"Content-Length": "4"}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"true")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with temporary_settings(
            {
                PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api",
                PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
                PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
                PREFECT_CLIENT_MAX_RETRIES: len(PAUSES_SECONDS),
            }
        ):
            yield state
        server.shutdown()
        thread.join()


def ask_from_this_thread() -> None:
    with get_client(sync_client=True) as client:
        client.hello()


def ask_from_another_thread() -> None:
    context, errors = contextvars.copy_context(), []

    def ask() -> None:
        try:
            context.run(ask_from_this_thread)
        except PrefectHTTPStatusError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    for error in errors:
        raise error


def ask_as_prefect_does_for_a_subflow() -> None:
    async def ask() -> None:
        async with get_client() as client:
            await client.hello()

    run_coro_as_sync(ask())


CLIENTS = [ask_from_this_thread, ask_from_another_thread, ask_as_prefect_does_for_a_subflow]


def pauses(caplog: pytest.LogCaptureFixture) -> list[float]:
    """The pauses that Prefect's client says it makes."""
    found = [re.search(r"Another attempt will be made in ([\d.e-]+)s", text) for text in caplog.messages]
    return [float(match.group(1)) for match in found if match]


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_refused_request_is_soon_repeated(
    ask: Callable[[], None], busy: Busy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "prefect.client")
    with quick_retries():
        for _ in range(2):  # every request has its pauses from the beginning
            busy.refusals = 3
            caplog.clear()
            ask()
            assert all(
                least <= pause < 2 * least
                for least, pause in zip(PAUSES_SECONDS, pauses(caplog), strict=True)
            )


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_server_that_keeps_refusing_is_not_asked_for_ever(ask: Callable[[], None], busy: Busy) -> None:
    busy.refusals = 1000
    with quick_retries(), pytest.raises(PrefectHTTPStatusError, match="503"):
        ask()
    assert busy.refusals == 1000 - len(PAUSES_SECONDS) - 1


def test_a_server_that_says_when_to_come_again_is_heeded(
    busy: Busy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "prefect.client")
    busy.refusals, busy.headers = 1, {"Retry-After": "0.7"}
    with quick_retries():
        ask_from_this_thread()
    [pause] = pauses(caplog)
    assert pause >= 0.7


def test_clients_are_closed_and_prefect_makes_its_own_again(busy: Busy) -> None:
    with quick_retries():
        with get_client(sync_client=True) as inside:
            pass
        assert get_client(sync_client=True) is inside
    assert isinstance(inside, SyncPrefectClient)
    with pytest.raises(RuntimeError, match="closing"), inside:
        pass
    ask_from_this_thread()
    asyncio.run(_hello())
    assert busy.refusals < 0


async def _hello() -> None:
    async with get_client() as client:
        await client.hello()
