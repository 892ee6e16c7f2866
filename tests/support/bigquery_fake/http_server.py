"""HTTP to `rest.Rest`, with failures on request."""

from __future__ import annotations

import json
import re
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from support.bigquery_fake.errors import ApiError, unknown
from support.bigquery_fake.failures import Call, Cut, Rule, wait_while_held
from support.bigquery_fake.rest import Ask, Reply

if TYPE_CHECKING:
    from support.bigquery_fake.rest import Rest
    from support.bigquery_fake.server import BigQueryFake

MOST_BYTES = 10 * 2**20  # of a request; uploads have their own path
_P = r"/bigquery/v2/projects/(?P<project>[^/]+)"
_D, _T = r"/datasets/(?P<dataset>[^/]+)", r"/tables/(?P<table>[^/]+)"
ROUTES = [
    (method, re.compile(_P + path), name)
    for method, path, name in (
        ("GET", "/datasets", "datasets.list"),
        ("POST", "/datasets", "datasets.insert"),
        ("GET", _D, "datasets.get"),
        ("DELETE", _D, "datasets.delete"),
        ("GET", f"{_D}/tables", "tables.list"),
        ("POST", f"{_D}/tables", "tables.insert"),
        ("GET", _D + _T, "tables.get"),
        ("PATCH", _D + _T, "tables.patch"),
        ("DELETE", _D + _T, "tables.delete"),
        ("GET", f"{_D}{_T}/data", "tabledata.list"),
        ("POST", "/jobs", "jobs.insert"),
        ("GET", "/jobs", "jobs.list"),
        ("GET", "/jobs/(?P<job>[^/]+)", "jobs.get"),
        ("GET", "/queries/(?P<job>[^/]+)", "jobs.getQueryResults"),
        ("POST", "/queries", "jobs.query"),
    )
] + [
    ("POST", re.compile(f"/upload{_P}/jobs"), "jobs.upload"),
    ("PUT", re.compile(f"/upload{_P}/jobs"), "jobs.uploadChunk"),
]


class Handler(BaseHTTPRequestHandler):
    """HTTP to `Rest`, with failures on request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fake: BigQueryFake
    rest: Rest

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PATCH(self) -> None:
        self._handle("PATCH")

    def do_PUT(self) -> None:
        self._handle("PUT")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _handle(self, method: str) -> None:
        path, _, query = self.path.partition("?")
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        call = Call("unknown", self.path, len(content))
        try:
            reply, answer = self._answer(method, path, dict(urllib.parse.parse_qsl(query)), content, call)
        except Cut:
            call.outcome = "cut"
            self.close_connection = True
            self.connection.close()
            return
        call.outcome = "ok" if reply.status < 400 else answer["error"]["errors"][0]["reason"]
        sent = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def _answer(
        self, method: str, path: str, asked: dict[str, str], content: bytes, call: Call
    ) -> tuple[Reply, Any]:
        try:
            name, arguments = _route(method, path)
            call.name = name
            # NOTE: the files of load jobs come as they are, and are not kept in the log.
            is_file = name == "jobs.uploadChunk" or asked.get("uploadType") == "multipart"
            if not is_file:
                call.body = json.loads(content or b"{}")
            if len(content) > MOST_BYTES and not is_file:
                raise ApiError("invalid", f"Request payload size exceeds the limit: {MOST_BYTES} bytes.")
            if name == "tables.patch" and self.headers.get("If-Match"):
                arguments["etag"] = self.headers["If-Match"]
            rule = self.fake.failures.arrived(call)
            if rule and not rule.applied:
                _fail(rule)
            project = arguments.pop("project")
            headers = {key.lower(): value for key, value in self.headers.items()}
            ask = Ask(asked, call.body, **arguments, headers=headers, content=content)
            answer = self.rest.answer(name, project, ask)
            if rule and rule.applied:
                _fail(rule)
        except ApiError as error:
            return Reply(error.status), error.body()
        except KeyError as error:
            return Reply(400), ApiError("invalid", f"Required parameter is missing: {error}").body()
        if isinstance(answer, Reply):
            return answer, None
        return (Reply(204), None) if answer is None else (Reply(200), answer)


def _route(method: str, path: str) -> tuple[str, dict[str, str]]:
    for its_method, pattern, name in ROUTES:
        if its_method == method and (found := pattern.fullmatch(path)):
            return name, {key: urllib.parse.unquote(value) for key, value in found.groupdict().items()}
    raise unknown(f"{method} {path}")


def _fail(rule: Rule) -> None:
    if rule.error == "hold":
        wait_while_held(rule)
    elif rule.error == "cut":
        raise Cut
    else:
        raise ApiError(rule.error, f"{rule.error}, as the test asked for")


class HttpServer(ThreadingHTTPServer):
    """Threads that end with the process; clients that hang up are nothing to speak of."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Say nothing: a killed client leaves a broken pipe."""
