"""A bucket for tests: gcp-storage-emulator, and a front before it that is as strict as Google.

The emulator stores and serves; it has no preconditions, forgets an upload once it is done, stores bytes twice
that are sent twice, and would accept chunks of any size. The front corrects these four, and misbehaves when
it is told to:

>>> bucket.front.misbehave("chunk", skip=1, status=503)
>>> bucket.front.misbehave("chunk", keep_bytes=2**18)
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import socket
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcp_storage_emulator.server import create_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GRAIN_BYTES = 2**18
TOKEN = "ya29.secret-token"
"""What the front gives to whoever signs in at `/token`."""
NOT_FORWARDED = {"host", "connection", "transfer-encoding", "content-length", "server", "date"}


class StorageEmulator:
    """gcp-storage-emulator in this process, in memory.

    Attributes:
        url: what `STORAGE_EMULATOR_HOST` should be.
    """

    def __init__(self) -> None:
        self._server = create_server("127.0.0.1", 0, in_memory=True)
        self._server.start()
        self.port: int = self._server._api._httpd.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop()

    def create_bucket(self, name: str) -> None:
        self.ask("POST", "/storage/v1/b?project=emulator", json.dumps({"name": name}).encode())

    def names(self, bucket: str) -> set[str]:
        """Every object of a bucket."""
        listed = self.ask("GET", f"/storage/v1/b/{bucket}/o")
        return {item["name"] for item in json.loads(listed).get("items", [])}

    def resource(self, bucket: str, name: str) -> dict[str, Any] | None:
        """What the emulator says of an object, metadata included; None if there is none."""
        answer = self.forward("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}", {}, b"")
        return json.loads(answer.body) if answer.status == 200 else None

    def read(self, bucket: str, name: str) -> bytes:
        """The content of an object."""
        return self.ask("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media")

    def write(self, bucket: str, name: str, content: bytes) -> None:
        """Put an object there behind everybody's back."""
        where = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
        self.ask("POST", where, content)

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        kind = "application/json" if body[:1] == b"{" else "application/octet-stream"
        answer = self.forward(method, path, {"Content-Type": kind}, body)
        assert answer.status == 200, answer
        return answer.body

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())


@dataclass
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Seen:
    """A request as it came in.

    Attributes:
        kind: `begin`, `chunk`, `end` (of an upload, without any bytes), `object`, `list`, `read`, `token`.
        method, path, query, headers: what was asked; header names in lower case.
        body_bytes: of the request.
    """

    kind: str
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body_bytes: int


@dataclass
class _Misbehaviour:
    kind: str
    skip: int
    times: int
    status: int | None
    body: bytes
    headers: dict[str, str]
    keep_bytes: int | None
    lose_answer: bool
    stall: bool
    then: Callable[[], object] | None


@dataclass
class _Upload:
    bucket: str
    name: str
    generation: str | None
    arrived: int = 0
    finished: Answer | None = None

    @property
    def incomplete(self) -> Answer:
        """How much has arrived; Google leaves the header out if it is nothing."""
        return Answer(308, {"Range": f"bytes=0-{self.arrived - 1}"} if self.arrived else {})


class Front:
    """An HTTP server before the emulator.

    Attributes:
        url: what `STORAGE_EMULATOR_HOST` should be.
        requests: everything that came in.
        page_size: how many objects a page of a listing has; the emulator knows no pages.
    """

    def __init__(self, emulator: StorageEmulator) -> None:
        self.emulator = emulator
        self.requests: list[Seen] = []
        self.page_size = 1000
        self.closing = threading.Event()
        self.uploads: dict[str, _Upload] = {}
        self.replacing = threading.Lock()
        self._misbehaviours: list[_Misbehaviour] = []
        self._lock = threading.Lock()
        self._listen(port=0)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _listen(self, port: int) -> None:
        self._server = _Server(self, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))
        self._thread.start()

    def restart(self) -> None:
        """Drop every connection and every upload that is under way, and listen again on the same port."""
        port, errors = self._server.server_port, self._server.errors
        self.stop()
        self.uploads.clear()
        self.closing.clear()
        self._listen(port)
        self._server.errors = errors

    def misbehave(
        self,
        kind: str,
        *,
        skip: int = 0,
        times: int = 1,
        status: int | None = None,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        keep_bytes: int | None = None,
        lose_answer: bool = False,
        stall: bool = False,
        then: Callable[[], object] | None = None,
    ) -> None:
        """Answer requests of a kind in this way; several misbehaviours of a kind follow each other.

        Args:
            kind: see `Seen`.
            skip: how many to let pass first.
            times: how many then.
            status: answer with this status, `body` and `headers`; nothing reaches the emulator.
            body, headers: of that answer.
            keep_bytes: keep so many bytes of a chunk (Google keeps whole multiples of 256 KiB), hang up.
            lose_answer: do what is asked, and hang up instead of saying so.
            stall: say nothing until the test ends.
            then: called when the request is there and before anything is done.
        """
        with self._lock:
            self._misbehaviours.append(
                _Misbehaviour(
                    kind, skip, times, status, body, headers or {}, keep_bytes, lose_answer, stall, then
                )
            )

    def heal(self) -> None:
        """Behave from now on, and forget the requests so far."""
        with self._lock:
            self._misbehaviours.clear()
            self.requests.clear()

    def kinds(self) -> list[str]:
        """The kinds of all requests, in order."""
        with self._lock:
            return [seen.kind for seen in self.requests]

    def settle(self) -> None:
        """Wait until nothing is under way."""
        while self._server.busy:
            self.closing.wait(0.005)

    def stop(self) -> None:
        """Close the port: connections are refused from now on. Harmless when repeated."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, seen: Seen) -> _Misbehaviour | None:
        """Note a request; the misbehaviour that is due for it."""
        with self._lock:
            self.requests.append(seen)
            for due in self._misbehaviours:
                if due.kind != seen.kind or not due.times:
                    continue
                if due.skip:
                    due.skip -= 1
                    return None
                due.times -= 1
                return due
        return None

    def answer(self, seen: Seen, raw_path: str, body: bytes) -> Answer:
        """As Google would answer."""
        headers = {name: value for name, value in seen.headers.items() if name not in NOT_FORWARDED}
        upload_id = seen.query.get("upload_id", [""])[0]
        if seen.kind == "token":
            token = {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
            return Answer(200, {"Content-Type": "application/json"}, json.dumps(token).encode())
        if seen.kind == "begin":
            return self._begin(seen, raw_path, headers, body)
        if seen.kind == "list":
            return self._page(seen, self.emulator.forward(seen.method, raw_path, headers, body))
        if not upload_id:
            return self.emulator.forward(seen.method, raw_path, headers, body)
        if upload_id not in self.uploads:
            return Answer(404)
        upload = self.uploads[upload_id]
        if upload.finished:
            return upload.finished
        assert seen.method == "PUT", "the public client sends nothing else to an upload"
        return self._chunk(upload, seen, raw_path, headers, body)

    def _page(self, seen: Seen, whole: Answer) -> Answer:
        if whole.status != 200:
            return whole
        items = json.loads(whole.body).get("items", [])
        first = int(seen.query.get("pageToken", ["0"])[0])
        page: dict[str, Any] = {"items": items[first : first + self.page_size]}
        if first + self.page_size < len(items):
            page["nextPageToken"] = str(first + self.page_size)
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(page).encode())

    def _begin(self, seen: Seen, raw_path: str, headers: dict[str, str], body: bytes) -> Answer:
        bucket = seen.path.split("/b/")[1].split("/")[0]
        upload = _Upload(bucket, json.loads(body)["name"], seen.query.get("ifGenerationMatch", [None])[0])
        if not self._is_as_expected(upload):
            return Answer(412)
        answer = self.emulator.forward(seen.method, raw_path, headers, body)
        if answer.status == 200:
            address = answer.headers["Location"].replace(self.emulator.url, self.url)
            answer.headers["Location"] = address
            self.uploads[parse_qs(urlsplit(address).query)["upload_id"][0]] = upload
        return answer

    def _chunk(
        self, upload: _Upload, seen: Seen, raw_path: str, headers: dict[str, str], body: bytes
    ) -> Answer:
        first, last, total = _content_range(seen.headers["content-range"])
        assert last - first + 1 == len(body), "Content-Range is not what was sent"
        is_last = total is not None and last + 1 == total
        if not is_last and len(body) % GRAIN_BYTES:
            return Answer(400, body=b'{"error": {"message": "a chunk is no multiple of 256 KiB"}}')
        assert first <= upload.arrived, "a chunk is left out"
        if last < upload.arrived and not is_last:
            return upload.incomplete
        headers["content-range"] = _range_header(upload.arrived, last, total)
        with self.replacing:
            if is_last and not self._is_as_expected(upload):
                return Answer(412)
            answer = self.emulator.forward("PUT", raw_path, headers, body[upload.arrived - first :])
        if answer.status == 200:
            upload.finished = answer
        if answer.status != 308:
            return answer
        upload.arrived = last + 1
        return upload.incomplete

    def _is_as_expected(self, upload: _Upload) -> bool:
        there = self.emulator.resource(upload.bucket, upload.name)
        return upload.generation in (None, there["generation"] if there else "0")


def _content_range(text: str) -> tuple[int, int, int | None]:
    """First byte, last byte and size; the last is before the first if a request has none."""
    span, _, total = text.removeprefix("bytes ").partition("/")
    if span == "*":
        return int(total), int(total) - 1, int(total)
    first, _, last = span.partition("-")
    return int(first), int(last), None if total == "*" else int(total)


def _range_header(first: int, last: int, total: int | None) -> str:
    size = "*" if total is None else total
    return f"bytes {first}-{last}/{size}" if first <= last else f"bytes */{size}"


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for the connections, and none is left behind

    def __init__(self, front: Front, port: int) -> None:
        self.front = front
        self.errors: list[BaseException] = []
        self.busy = 0
        self._counting = threading.Lock()
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def count(self, change: int) -> None:
        with self._counting:
            self.busy += change

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the base class's type
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in self._open.copy():  # clients may keep them for a request to come
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
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

    def handle_one_request(self) -> None:
        # Every method is served in the same way; looked up by the base class as do_GET and so on.
        self.do_GET = self.do_POST = self.do_PUT = self.do_PATCH = self.do_DELETE = self._counted
        super().handle_one_request()

    def _counted(self) -> None:
        self.server.count(1)
        try:
            self._serve()
        finally:
            self.server.count(-1)

    def _serve(self) -> None:
        front, parts = self.server.front, urlsplit(self.path)
        announced = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(announced)
        if len(body) < announced:  # killed in the middle of a chunk
            self.close_connection = True
            return
        query = parse_qs(parts.query, keep_blank_values=True)
        headers = {name.lower(): value for name, value in self.headers.items()}
        kind = _kind(parts.path, query, headers)
        seen = Seen(kind, self.command, parts.path, query, headers, len(body))
        bad = front.take(seen)
        if bad and bad.then:
            bad.then()
        if bad and bad.stall:
            front.closing.wait()
        if bad and bad.keep_bytes is not None:
            self._keep(seen, body[: bad.keep_bytes])
        elif bad and bad.status is not None:
            self._send(Answer(bad.status, dict(bad.headers), bad.body))
        else:
            answer = front.answer(seen, self.path, body)
            if bad and (bad.lose_answer or bad.stall):
                self._hang_up()
            else:
                self._send(answer)

    def _keep(self, seen: Seen, kept: bytes) -> None:
        if kept:
            first, _, total = _content_range(seen.headers["content-range"])
            headers = {**seen.headers, "content-range": _range_header(first, first + len(kept) - 1, total)}
            shortened = Seen(seen.kind, seen.method, seen.path, seen.query, headers, len(kept))
            answer = self.server.front.answer(shortened, self.path, kept)
            assert answer.status == 308, answer
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in NOT_FORWARDED:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)


def _kind(path: str, query: dict[str, list[str]], headers: dict[str, str]) -> str:
    if "upload_id" in query:
        return "end" if headers.get("content-range", "").startswith("bytes */") else "chunk"
    if path == "/token":
        return "token"
    if path.startswith("/upload/"):
        return "begin" if query.get("uploadType") == ["resumable"] else "upload"
    if path.endswith("/o"):
        return "list"
    return "read" if query.get("alt") == ["media"] else "object"


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own for a test.

    Attributes:
        name: of the bucket; it is empty.
        emulator: behind the front, for looking behind everybody's back.
        front: what the code under test talks to.
    """

    name: str
    emulator: StorageEmulator
    front: Front

    @property
    def settings(self) -> dict[str, Any]:
        """What the destination needs to get here; it does not wait long."""
        return {
            "gcs_bucket": self.name,
            "storage_emulator_host": self.front.url,
            "http_backoff_seconds": 0.01,
        }

    def names(self) -> set[str]:
        return self.emulator.names(self.name)

    def read(self, name: str) -> bytes:
        return self.emulator.read(self.name, name)

    def write(self, name: str, content: bytes) -> None:
        self.emulator.write(self.name, name, content)

    def resource(self, name: str) -> dict[str, Any] | None:
        return self.emulator.resource(self.name, name)


@pytest.fixture(scope="session")
def storage_emulator() -> Iterator[StorageEmulator]:
    """The emulator of the session."""
    # A proxy that the environment names is not asked.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"])))
        emulator = StorageEmulator()
        yield emulator
        emulator.stop()


@dataclass(frozen=True)
class ServiceAccount:
    """A service account that Google does not know.

    Attributes:
        key_file: its JSON key.
        email, project: what is in it.
        secret: a part of its private key that must not be seen anywhere.
    """

    key_file: Path
    email: str
    project: str
    secret: str


@pytest.fixture(scope="session")
def service_account(tmp_path_factory: pytest.TempPathFactory) -> ServiceAccount:
    """A key that can sign."""
    private_key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    email, project = "taxi@taxi-project.iam.gserviceaccount.com", "taxi-project"
    key = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": "1234",
        "private_key": private_key.decode(),
        "client_email": email,
        "client_id": "5678",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    path = tmp_path_factory.mktemp("google") / "key.json"
    path.write_text(json.dumps(key))
    return ServiceAccount(path, email, project, private_key.decode().splitlines()[3])


@pytest.fixture
def no_google_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing in the environment, in files or at a metadata server to sign in with."""
    for name in ("STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", True)


_numbers = itertools.count()


@pytest.fixture
def bucket(storage_emulator: StorageEmulator) -> Iterator[Bucket]:
    """An empty bucket behind a front of its own."""
    name = f"taxi-test-{next(_numbers)}"
    storage_emulator.create_bucket(name)
    front = Front(storage_emulator)
    yield Bucket(name, storage_emulator, front)
    front.stop()
    assert front._server.errors == []
