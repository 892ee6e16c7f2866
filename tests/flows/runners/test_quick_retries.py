"""What a Prefect server refuses with 503 is soon asked again, by every client that a run waits for."""

from __future__ import annotations

import asyncio
import contextvars
import http.server
import logging
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

    def __init__(self) -> None:
        self.refusals = 0
        self.headers: dict[str, str] = {}
        self.paths: list[str] = []
        self.bodies: list[bytes] = []


@pytest.fixture
def busy() -> Iterator[Busy]:
    state = Busy()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.do_GET()

        def do_GET(self) -> None:
            state.paths.append(self.path)
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


@pytest.fixture
def waited(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    """How often Prefect's client has waited by itself, for seconds: it says so."""
    caplog.set_level(logging.DEBUG, "prefect.client")
    return lambda: sum("Another attempt will be made" in text for text in caplog.messages)


@pytest.mark.parametrize("no_proxy", ["", "127.0.0.1"])
@pytest.mark.parametrize("ask", CLIENTS)
def test_a_refused_request_is_soon_repeated(
    ask: Callable[[], None],
    no_proxy: str,
    busy: Busy,
    waited: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with quick_retries():
        for _ in range(2):  # every request has its repetitions
            busy.refusals = len(PAUSES_SECONDS)
            ask()
            assert busy.refusals == -1
    assert waited() == 0


def test_a_body_is_sent_again(busy: Busy) -> None:
    busy.refusals = 2
    with quick_retries(), get_client(sync_client=True) as client:
        client.request("POST", "/logs/", json=[{"number": 7}])
    assert busy.bodies == [b'[{"number":7}]'] * 3


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_server_that_keeps_refusing_is_left_to_prefect(
    ask: Callable[[], None], busy: Busy, waited: Callable[[], int]
) -> None:
    busy.refusals = 1000
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        quick_retries(),
        pytest.raises(PrefectHTTPStatusError, match="503"),
    ):
        ask()
    assert busy.refusals == 1000 - len(PAUSES_SECONDS) - 1
    assert waited() == 1


def test_a_server_that_says_when_to_come_again_is_heeded(busy: Busy, waited: Callable[[], int]) -> None:
    busy.refusals, busy.headers = 1, {"Retry-After": "0.1"}
    with quick_retries():
        ask_from_this_thread()
    assert waited() == 1


@pytest.mark.parametrize("proxied", [True, False])
def test_a_proxy_is_still_used(*, proxied: bool, busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy on this machine is the server itself, which sees the whole URL then."""
    monkeypatch.setenv("http_proxy", PREFECT_API_URL.value().removesuffix("/api"))
    monkeypatch.setenv("no_proxy", "" if proxied else "127.0.0.1")
    with quick_retries():
        ask_from_this_thread()
    assert [path.startswith("http://") for path in busy.paths] == [proxied]


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
