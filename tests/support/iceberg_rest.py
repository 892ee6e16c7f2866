"""An Iceberg REST catalog on 127.0.0.1: the part of its protocol that the destination uses, kept in SQLite.

No package index offers a server that runs by itself. What this one does not have: credentials, views,
transactions over several tables.
"""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from pyiceberg.catalog.rest import CreateTableRequest, TableResponse
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.table import CommitTableRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyiceberg.table import Table

CODES = {
    NoSuchTableError: 404,
    NoSuchNamespaceError: 404,
    NamespaceAlreadyExistsError: 409,
    TableAlreadyExistsError: 409,
    CommitFailedException: 409,
}


@contextlib.contextmanager
def rest_catalog(directory: Path) -> Iterator[str]:
    """Serve a catalog whose tables lie in a directory; yields its address."""
    directory.mkdir(parents=True)
    catalog = SqlCatalog("rest", uri=f"sqlite:///{directory}/catalog.db", warehouse=str(directory))
    handler = type("Handler", (_Handler,), {"catalog": catalog, "turn": threading.Lock()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            catalog.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    catalog: SqlCatalog
    turn: threading.Lock

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        try:
            with self.turn:
                code, text = 200, self._do(self.path.removeprefix("/v1/").split("/"), body)
        except tuple(CODES) as error:
            code = CODES[type(error)]
            text = json.dumps({"error": {"message": str(error), "type": type(error).__name__, "code": code}})
        content = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _do(self, path: list[str], body: bytes) -> str:
        match self.command, *path:
            case "GET", ("config?" | "config"):
                return json.dumps({"defaults": {}, "overrides": {}})
            case "POST", "namespaces":
                [name] = json.loads(body)["namespace"]
                self.catalog.create_namespace(name)
                return json.dumps({"namespace": [name], "properties": {}})
            case "POST", "namespaces", namespace, "tables":
                return self._create_table(
                    namespace, CreateTableRequest(**{"location": None, **json.loads(body)})
                )
            case "GET", "namespaces", namespace, "tables", name:
                return self._table(self.catalog.load_table((namespace, name)))
            case "POST", "namespaces", namespace, "tables", name:
                request = CommitTableRequest.model_validate_json(body)
                table = self.catalog.load_table((namespace, name))
                return self.catalog.commit_table(
                    table, request.requirements, request.updates
                ).model_dump_json()
        raise AssertionError(f"{self.command} {self.path} is not served")

    def _create_table(self, namespace: str, request: CreateTableRequest) -> str:
        assert request.partition_spec
        return self._table(
            self.catalog.create_table(
                (namespace, request.name),
                request.table_schema,
                partition_spec=request.partition_spec,
                properties=request.properties,
            )
        )

    def _table(self, table: Table) -> str:
        answer = TableResponse(metadata=table.metadata, **{"metadata-location": table.metadata_location})
        return answer.model_dump_json()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
