"""`BigQueryFake`: one project of BigQuery on this machine, for the length of a `with` block."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Self

import duckdb
from support.bigquery_fake import grpc_server
from support.bigquery_fake.catalog import Catalog, Table, quoted
from support.bigquery_fake.engine import Engine
from support.bigquery_fake.failures import Call, Failures, Hold, Rule
from support.bigquery_fake.http_server import Handler, HttpServer
from support.bigquery_fake.jobs import Jobs
from support.bigquery_fake.load import Loader
from support.bigquery_fake.rest import Rest
from support.bigquery_fake.streams import Streams

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Sequence

    import pyarrow as pa


class BigQueryFake:
    """A strict BigQuery: REST for datasets, tables, jobs and queries, gRPC for the Storage Write API.

    The official clients talk to it over TCP, from this process or another. What it does not know it
    refuses (REST: 501 `unknownToTheFake`); what the server refuses and emulators wave through it refuses
    as the server does.

    Attributes:
        project, location: the one project there is, and where its datasets are unless they say otherwise.
        rest_url: such as `http://127.0.0.1:1234`, for `client_options={"api_endpoint": ...}`.
        grpc_address: such as `127.0.0.1:1235`, for `grpc.insecure_channel`.
        max_request_bytes: of one append, serialized. The server's documents say 20 MB since 2025 and said
            10 MB before; the lower one is what clients can count on.
    """

    def __init__(
        self,
        *,
        project: str = "taxi-test",
        location: str = "US",
        storage_url: str | None = None,
        max_request_bytes: int = 10_000_000,
    ) -> None:
        """Nothing is started yet.

        Args:
            project: its name.
            location: of datasets that do not say.
            storage_url: where load jobs read `gs://`; None: STORAGE_EMULATOR_HOST, if there is one.
            max_request_bytes: see above.
        """
        self.project, self.location, self.max_request_bytes = project, location, max_request_bytes
        self.failures = Failures()
        self._database = duckdb.connect(":memory:")
        self.catalog = Catalog(self._database, project, location)
        self._engine = Engine(self.catalog, self._database)
        storage_url = storage_url or os.environ.get("STORAGE_EMULATOR_HOST")
        self.loader = Loader(self.catalog, self._engine, storage_url)
        self.jobs = Jobs(self.catalog, self._engine, self.loader)
        self.streams = Streams(self.catalog, self._engine)

    def __enter__(self) -> Self:
        self._listen(0, 0)
        return self

    def _listen(self, http_port: int, grpc_port: int) -> None:
        handler = type("BoundHandler", (Handler,), {"fake": self, "rest": Rest(self)})
        self._http = HttpServer(("127.0.0.1", http_port), handler)
        threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True, name="bigquery-fake"
        ).start()
        self._grpc, port = grpc_server.start(self, grpc_port)
        self.rest_url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.grpc_address = f"127.0.0.1:{port}"

    def _hang_up(self) -> None:
        self._grpc.stop(grace=None).wait()
        self._http.shutdown()
        self._http.server_close()

    def restart(self) -> None:
        """Drop every connection, and listen again on the same ports; a job that has begun goes on."""
        self._hang_up()
        self._listen(self._http.server_address[1], int(self.grpc_address.rpartition(":")[2]))

    def __exit__(self, *_: object) -> None:
        self.failures.clear()
        self._hang_up()
        self._database.close()
        # DuckDB complains when the process ends if anybody still refers to a connection.
        for holder in (self, self.catalog, self._engine):
            del holder._database

    @property
    def requests(self) -> list[Call]:
        """Everything that arrived, in order."""
        return self.failures.requests

    def fail(self, call: str, error: str, nth: int = 1, *, times: int = 1, applied: bool = False) -> None:
        """Let the nth call of a name fail from now on; see `failures.Rule`.

        Examples:
            fail("AppendRows", "UNAVAILABLE", 3): the third request is lost, and the connection with it.
            fail("AppendRows", "ABORTED", 3, applied=True): it is written, but nobody is told.
            fail("BatchCommitWriteStreams", "stream_errors:INVALID_STREAM_STATE"): not raised, but answered.
            fail("jobs.insert", "rateLimitExceeded"), fail("tables.*", "backendError", times=2).
        """
        self.failures.add(Rule(call, error, nth, times, applied))

    def hold(
        self, call: str, nth: int = 1, *, applied: bool = False
    ) -> contextlib.AbstractContextManager[Hold]:
        """Hold the nth call while the block lasts: `reached.wait(...)` inside, then kill somebody."""
        return self.failures.hold(call, nth, applied=applied)

    def abort_transactions(self, times: int = 1) -> None:
        """Cancel the next transactions at their first UPDATE, DELETE or MERGE, as a concurrent one would."""
        self._engine.conflicts.aborts_on_request = times

    def advance(self, seconds: float) -> None:
        """Let time go by: what expires by then is gone."""
        self.catalog.seconds_ahead += seconds

    def reset(self) -> None:
        """Forget every table, rule and request; jobs keep their ids."""
        self.failures.clear()
        self._engine.conflicts.aborts_on_request = 0
        self.catalog.seconds_ahead = 0.0
        for name in list(self.catalog.datasets):
            self.catalog.drop_dataset(name, with_tables=True)

    def rows(self, table: Table, names: Sequence[str]) -> pa.Table:
        """Rows that are visible, in the order in which they were written."""
        with self._database.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            columns = ", ".join(map(quoted, names))
            order = "" if table.is_view else " ORDER BY rowid"
            return cursor.sql(f"SELECT {columns} FROM {table.sql_name}{order}").to_arrow_table()

    def count(self, table: Table) -> int:
        """How many are visible."""
        with self._database.cursor() as cursor:
            found = cursor.execute(f"SELECT count(*) FROM {table.sql_name}").fetchone()
        assert found
        return found[0]
