"""Serves the files of a directory on a port of 127.0.0.1, as the releases are served: versions and ranges.

python benchmarks/web_server.py DIRECTORY     prints the port

A process of its own, which hands files to the kernel, so that it takes next to nothing from those it serves.
"""

from __future__ import annotations

import os
import sys
from email.utils import formatdate
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO


class Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of files, with ETag, If-None-Match, Range and If-Range."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file:
            self._answer_with(file, with_body=with_body)

    def _answer_with(self, file: BinaryIO, *, with_body: bool) -> None:
        stat = os.fstat(file.fileno())
        etag, modified = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"', formatdate(stat.st_mtime, usegmt=True)
        headers = {"ETag": etag, "Last-Modified": modified, "Accept-Ranges": "bytes"}
        if self.headers.get("If-None-Match") == etag:
            self._head(HTTPStatus.NOT_MODIFIED, headers)
            return
        start, end, status = 0, stat.st_size, HTTPStatus.OK
        if self.headers.get("Range") and self.headers.get("If-Range", etag) in (etag, modified):
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            start = int(first) if first else max(0, end - int(last))
            end = min(int(last) + 1, end) if first and last else end
            if start >= end:
                headers |= {"Content-Range": f"bytes */{stat.st_size}", "Content-Length": "0"}
                self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
                return
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{stat.st_size}"
        self._head(status, headers | {"Content-Length": str(end - start)})
        if with_body:
            self.connection.sendfile(file, start, end - start)

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


class Server(ThreadingHTTPServer):
    """A client that hangs up, as `curl | head` does, is no error."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*_)  # type: ignore[arg-type]


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    with Server(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
