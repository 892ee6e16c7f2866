"""A real HTTP/1.1 server on 127.0.0.1 that serves files well, and badly when it is told to.

>>> url = web.put("/trips.csv.gz", body)
>>> web.misbehave("/trips.csv.gz", cut_after=1000, times=1)
>>> httpx.get(url), httpx.get(url)
>>> [seen.status for seen in web.requests]
[200, 200]
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

FIRST_MODIFIED = 1_600_000_000  # seconds since 1970; every `put` is a minute newer than the one before
CHUNK_BYTES = 2**16


@dataclass(frozen=True)
class Seen:
    """A request and how it was answered.

    Attributes:
        method, path, query, headers: of the request; the path decoded, header names in lower case.
        status: of the answer; 0 if raw bytes were sent instead of one.
        body_bytes: how many bytes of body were to be sent, before any cut or stall.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    status: int
    body_bytes: int


@dataclass
class _Misbehaviour:
    times: int | None
    status: int | None
    headers: Mapping[str, str | None]
    body: bytes | None
    raw: bytes | None
    cut_after: int | None
    stall_after: int | None
    drip_after: int | None
    delay_seconds: float
    chunked: bool
    ignore_range: bool
    ignore_if_range: bool
    then: Callable[[], object] | None


@dataclass(frozen=True)
class _File:
    body: bytes
    etag: str | None
    modified: str | None


@dataclass
class _Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Web:
    """The server; `url` has no slash at its end."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._files: dict[str, _File] = {}
        self._directory: Path | None = None
        self._misbehaviours: dict[str, list[_Misbehaviour]] = defaultdict(list)
        self._puts = 0
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))
        self._thread.start()

    def put(self, path: str, body: bytes, *, etag: str | None = "", modified: str | None = "") -> str:
        """Serve `body` at `path` (not percent-encoded) from now on; returns its URL.

        `etag` and `modified` (Last-Modified) are made up unless given; None sends none.
        """
        self._puts += 1
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"' if etag == "" else etag
        if modified == "":
            modified = formatdate(FIRST_MODIFIED + 60 * self._puts, usegmt=True)
        with self.lock:
            self._files[path] = _File(body, etag, modified)
        return self.url + quote(path)

    def remove(self, path: str) -> None:
        """Answer 404 at `path` from now on."""
        with self.lock:
            self._files.pop(path)

    def serve(self, directory: Path) -> None:
        """Serve the files below `directory` too; what was `put` goes first."""
        self._directory = directory

    def misbehave(
        self,
        path: str,
        *,
        times: int | None = None,
        status: int | None = None,
        headers: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
        raw: bytes | None = None,
        cut_after: int | None = None,
        stall_after: int | None = None,
        drip_after: int | None = None,
        delay_seconds: float = 0.0,
        chunked: bool = False,
        ignore_range: bool = False,
        ignore_if_range: bool = False,
        then: Callable[[], object] | None = None,
    ) -> None:
        """Answer the next `times` requests (None: all) for `path` in this way; calls queue up.

        Args:
            path: not percent-encoded; it need not be served.
            times: how many requests; the next misbehaviour of this path, or none, follows.
            status: answer with this status and `body` instead of the file.
            headers: set over those of the answer; None as a value takes the header away.
            body: send these bytes as the body, whatever the headers say.
            raw: send these bytes instead of an HTTP answer and hang up; empty: just hang up.
            cut_after: hang up after so many bytes of the body.
            stall_after: send nothing more after so many bytes of the body.
            drip_after: send a byte every ten milliseconds after so many bytes of the body.
            delay_seconds: wait before the answer.
            chunked: send the body in chunks instead of announcing its length.
            ignore_range: answer a range with the whole file.
            ignore_if_range: answer a range request although its version is no longer the current one.
            then: called for each of these requests, just before the answer is sent.
        """
        with self.lock:
            self._misbehaviours[path].append(
                _Misbehaviour(
                    times,
                    status,
                    headers or {},
                    body,
                    raw,
                    cut_after,
                    stall_after,
                    drip_after,
                    delay_seconds,
                    chunked,
                    ignore_range,
                    ignore_if_range,
                    then,
                )
            )

    def heal(self) -> None:
        """Behave from now on, and forget the requests so far."""
        with self.lock:
            self._misbehaviours.clear()
            self.requests.clear()

    def stop(self) -> None:
        """Close the port: connections are refused from now on. Can be called again."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def find(self, path: str) -> _File | None:
        """What is served at `path`."""
        if path in self._files or self._directory is None:
            return self._files.get(path)
        file = (self._directory / path.lstrip("/")).resolve()
        if not file.is_relative_to(self._directory.resolve()) or not file.is_file():
            return None
        stat = file.stat()
        return _File(file.read_bytes(), f'"{stat.st_mtime_ns:x}"', formatdate(stat.st_mtime, usegmt=True))

    def misbehaviour(self, path: str) -> _Misbehaviour | None:
        """The misbehaviour that is due for a request of `path`; counts it as used."""
        for due in self._misbehaviours[path]:
            if due.times is None:
                return due
            if due.times > 0:
                due.times -= 1
                return due
        return None

    @property
    def errors(self) -> list[BaseException]:
        """What went wrong in the server itself."""
        return self._server.errors


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for the connections, and none is left behind

    def __init__(self, web: Web) -> None:
        self.web = web
        self.errors: list[BaseException] = []
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the base class's type
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in self._open.copy():  # clients may keep them open for later requests
            _hang_up(connection)
        super().server_close()

    def handle_error(self, *_: object) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):  # the client hung up
            self.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        web, parts = self.server.web, urlsplit(self.path)
        path = unquote(parts.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        with web.lock:
            bad = web.misbehaviour(path)
            answer = self._answer(web.find(path), headers, bad)
            raw = bad.raw if bad else None
            web.requests.append(
                Seen(
                    self.command,
                    path,
                    parse_qs(parts.query),
                    headers,
                    answer.status if raw is None else 0,
                    len(answer.body if raw is None else raw),
                )
            )
        if bad:
            self.close_connection = True
            if bad.then:
                bad.then()
            web.closing.wait(bad.delay_seconds)
        if raw is not None:
            self.wfile.write(raw)
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(answer.body, bad)

    def _answer(
        self, file: _File | None, request_headers: dict[str, str], bad: _Misbehaviour | None
    ) -> _Answer:
        if bad and bad.status is not None:
            answer = _Answer(bad.status)
        elif file is None:
            answer = _Answer(404, body=b"no such file")
        else:
            answer = _file_answer(file, request_headers, bad)
        if bad and bad.body is not None:
            answer.body = bad.body
        if answer.status != 304:
            answer.headers["Content-Length"] = str(len(answer.body))
        if bad and bad.chunked:
            del answer.headers["Content-Length"]
            answer.headers["Transfer-Encoding"] = "chunked"
        if bad:
            changed = {**answer.headers, "Connection": "close", **bad.headers}
            answer.headers = {name: value for name, value in changed.items() if value is not None}
        return answer

    def _send_body(self, body: bytes, bad: _Misbehaviour | None) -> None:
        stops = (bad.cut_after, bad.stall_after, bad.drip_after) if bad else ()
        stops = [stop for stop in stops if stop is not None]
        end = min(stops, default=len(body))
        chunked = bad is not None and bad.chunked
        for start in range(0, end, CHUNK_BYTES):
            piece = body[start : min(start + CHUNK_BYTES, end)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        for at in range(end, len(body) if bad and bad.drip_after is not None else end):
            if self.server.web.closing.wait(0.01):
                break
            self.wfile.write(body[at : at + 1])
        if bad and bad.stall_after is not None:
            self.server.web.closing.wait()
        elif bad and bad.cut_after is not None:
            _hang_up(self.connection)
        elif chunked:
            self.wfile.write(b"0\r\n\r\n")


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client has closed it already
        connection.shutdown(socket.SHUT_RDWR)


def _file_answer(file: _File, request_headers: dict[str, str], bad: _Misbehaviour | None) -> _Answer:
    answer = _Answer(200, body=file.body)
    if file.etag:
        answer.headers["ETag"] = file.etag
    if file.modified:
        answer.headers["Last-Modified"] = file.modified
    if "if-none-match" in request_headers:
        unchanged = file.etag is not None and request_headers["if-none-match"] in (file.etag, "*")
    else:
        unchanged = file.modified is not None and request_headers.get("if-modified-since") == file.modified
    if unchanged:
        return _Answer(304, answer.headers)
    condition = request_headers.get("if-range")
    if "range" not in request_headers or (bad and bad.ignore_range):
        return answer
    weak = condition is not None and condition.startswith("W/")
    if condition and (weak or condition not in (file.etag, file.modified)):  # noqa: SIM102
        if not (bad and bad.ignore_if_range):
            return answer
    return _range_answer(file.body, request_headers["range"], answer.headers)


def _range_answer(body: bytes, requested: str, headers: dict[str, str]) -> _Answer:
    first, _, last = requested.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(0, len(body) - int(last))
    end = min(int(last), len(body) - 1) if first and last else len(body) - 1
    if start > end:
        return _Answer(416, headers | {"Content-Range": f"bytes */{len(body)}"})
    content_range = f"bytes {start}-{end}/{len(body)}"
    return _Answer(206, headers | {"Content-Range": content_range}, body[start : end + 1])


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A new server for each test; a proxy named in the environment is not used."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Web()
    yield server
    server.stop()
    assert server.errors == []
