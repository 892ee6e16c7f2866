"""The strict BigQuery fake, called by the official clients: what it accepts, and what it refuses."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.cloud.bigquery_storage_v1.writer import AppendRowsStream
from support.bigquery_fake.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google.cloud.bigquery_storage_v1.types import AppendRowsResponse
    from support.bigquery_fake import BigQueryFake
    from support.gcs import Bucket

FIELDS = [
    bigquery.SchemaField("zone", "INT64", description="of the pick-up"),
    bigquery.SchemaField("fare", "FLOAT64"),
    bigquery.SchemaField("note", "STRING"),
    bigquery.SchemaField("pickup", "DATETIME"),
    bigquery.SchemaField("file_month", "DATE", "REQUIRED"),
]
SCHEMA = pa.schema(
    [
        ("zone", pa.int64()),
        ("fare", pa.float64()),
        ("note", pa.string()),
        ("pickup", pa.timestamp("us")),
        ("file_month", pa.date32()),
    ]
)
PICKUP = dt.datetime.fromisoformat("2021-01-01 01:02:03.456789")
JANUARY, FEBRUARY = dt.date(2021, 1, 1), dt.date(2021, 2, 1)
Code = types.StorageError.StorageErrorCode
PENDING = types.WriteStream(type_=types.WriteStream.Type.PENDING)
AT_ONCE = Retry(initial=0.01, maximum=0.01, timeout=5)


def batch(rows: int = 2, first: int = 0, month: dt.date | None = JANUARY, note: str = "x") -> pa.RecordBatch:
    numbers = range(first, first + rows)
    columns: list[list[Any]] = [
        list(numbers), [n / 4 for n in numbers], [note] * rows, [PICKUP] * rows, [month] * rows,
    ]  # fmt: skip
    return pa.record_batch(columns, schema=SCHEMA)


class Project:
    """A dataset `trips` with a table `yellow`, and the official clients."""

    def __init__(self, fake: BigQueryFake) -> None:
        self.fake = fake
        options = {"api_endpoint": fake.rest_url}
        self.client = bigquery.Client(fake.project, AnonymousCredentials(), client_options=options)
        self._channel = grpc.insecure_channel(fake.grpc_address, [("grpc.max_send_message_length", -1)])
        self.writer = BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=self._channel))
        self.parent = f"projects/{fake.project}/datasets/trips/tables/yellow"
        self.client.create_dataset("trips")
        self.table = self.create("yellow")

    def close(self) -> None:
        self.client.close()
        self._channel.close()

    def new_table(self, name: str, fields: Sequence[bigquery.SchemaField] = FIELDS) -> bigquery.Table:
        table = bigquery.Table(f"{self.fake.project}.trips.{name}", fields)
        table.time_partitioning = bigquery.TimePartitioning("MONTH", "file_month")
        table.clustering_fields = ["zone"]
        return table

    def create(self, name: str) -> bigquery.Table:
        return self.client.create_table(self.new_table(name))

    def query(self, sql: str, **parameters: dt.date | str | int) -> list[tuple[Any, ...]]:
        kinds = {dt.date: "DATE", str: "STRING", int: "INT64", float: "FLOAT64", dt.datetime: "DATETIME"}
        bound = [bigquery.ScalarQueryParameter(n, kinds[type(v)], v) for n, v in parameters.items()]
        config = bigquery.QueryJobConfig(query_parameters=bound, default_dataset=f"{self.fake.project}.trips")
        return [tuple(row) for row in self.client.query(sql, config, job_retry=None).result(job_retry=None)]

    def count(self) -> int:
        [[rows]] = self.query("SELECT count(*) FROM yellow")
        return rows

    def stream(self) -> str:
        return self.writer.create_write_stream(parent=self.parent, write_stream=PENDING).name

    def append(
        self, stream: str, *requests: types.AppendRowsRequest, header: str | None = None
    ) -> list[AppendRowsResponse]:
        metadata = [("x-goog-request-params", f"write_stream={header or stream}")]
        return list(self.writer.append_rows(iter(requests), metadata=metadata))

    def commit(self, *streams: str) -> types.BatchCommitWriteStreamsResponse:
        request = types.BatchCommitWriteStreamsRequest(parent=self.parent, write_streams=streams)
        return self.writer.batch_commit_write_streams(request)

    def write(self, *batches: pa.RecordBatch) -> None:
        stream = self.stream()
        self.append(stream, *(request(stream, one, first=at == 0) for at, one in enumerate(batches)))
        self.writer.finalize_write_stream(name=stream)
        assert self.commit(stream).commit_time


def request(
    stream: str, rows: pa.RecordBatch, offset: int | None = None, *, first: bool = True
) -> types.AppendRowsRequest:
    message = types.AppendRowsRequest()
    if first:
        message.write_stream = stream
        message.arrow_rows.writer_schema.serialized_schema = rows.schema.serialize().to_pybytes()
    if offset is not None:
        message.offset = offset
    message.arrow_rows.rows.serialized_record_batch = rows.serialize().to_pybytes()
    return message


def code_of(response: AppendRowsResponse) -> Code:
    [detail] = response.error.details
    error = types.StorageError.pb(types.StorageError())
    assert detail.Unpack(error)
    return Code(error.code)


@pytest.fixture
def project(bigquery_fake: BigQueryFake) -> Iterator[Project]:
    project = Project(bigquery_fake)
    yield project
    project.close()


# Datasets and tables


def test_a_table_comes_back_as_it_was_made(project: Project) -> None:
    table = project.client.get_table(project.table)
    assert [(f.name, f.field_type, f.mode) for f in table.schema] == [
        ("zone", "INTEGER", "NULLABLE"),
        ("fare", "FLOAT", "NULLABLE"),
        ("note", "STRING", "NULLABLE"),
        ("pickup", "DATETIME", "NULLABLE"),
        ("file_month", "DATE", "REQUIRED"),
    ]
    assert table.time_partitioning == bigquery.TimePartitioning("MONTH", "file_month")
    assert (table.clustering_fields, table.num_rows, table.expires) == (["zone"], 0, None)
    assert table.schema[0].description == "of the pick-up"


def test_every_value_comes_back(project: Project) -> None:
    fields = [bigquery.SchemaField(kind.lower(), kind) for kind in (
        "INT64", "FLOAT64", "STRING", "DATETIME", "TIMESTAMP", "DATE", "BOOL", "BYTES", "NUMERIC",
    )]  # fmt: skip
    project.client.create_table(bigquery.Table("taxi-test.trips.all", fields))
    [row] = project.query(
        "INSERT INTO `all` VALUES (-9223372036854775808, 0.1, 'é\\'\\\\\\u0001\\n', "
        "DATETIME '2021-01-01 00:00:00.000001', TIMESTAMP '2021-01-01 00:00:00+01:00', DATE '0001-01-01', "
        "TRUE, b'\\x00', NUMERIC '1.5'); SELECT * FROM `all`"
    )
    at = dt.datetime(2020, 12, 31, 23, tzinfo=dt.UTC)
    moment = dt.datetime.fromisoformat("2021-01-01 00:00:00.000001")
    assert row[:-2] == (-(2**63), 0.1, "é'\\\x01\n", moment, at, dt.date(1, 1, 1), True)
    assert [tuple(one) for one in project.client.list_rows("taxi-test.trips.all")] == [row]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: setattr(t, "schema", [*FIELDS, bigquery.SchemaField("NOTE", "STRING")]),
            "Duplicate field name",
        ),
        (
            lambda t: setattr(t, "schema", [bigquery.SchemaField("a.b", "DATE"), *FIELDS]),
            "Invalid field name",
        ),
        (lambda t: setattr(t, "clustering_fields", ["fare"]), "not a valid clustering column type"),
        (lambda t: setattr(t, "clustering_fields", ["nope"]), "clustering cannot be found"),
        (
            lambda t: setattr(t, "time_partitioning", bigquery.TimePartitioning("MONTH", "zone")),
            "cannot be part",
        ),
        (lambda t: setattr(t, "expires", dt.datetime(2020, 1, 1, tzinfo=dt.UTC)), "lies in the past"),
    ],
)
def test_tables_that_cannot_be(
    project: Project, change: Callable[[bigquery.Table], None], message: str
) -> None:
    table = project.new_table("other")
    change(table)
    with pytest.raises(google_errors.BadRequest, match=message):
        project.client.create_table(table)


def test_a_decorator_is_no_name(project: Project) -> None:
    with pytest.raises(google_errors.BadRequest, match="Invalid table ID"):
        project.client.create_table(project.new_table("yellow$202101"))
    with pytest.raises(google_errors.Conflict):
        project.create("yellow")


def test_columns_are_added_nullable_and_nothing_else_is_changed(project: Project) -> None:
    def patched(*fields: bigquery.SchemaField) -> None:
        table = project.client.get_table(project.table)
        table.schema = fields
        project.client.update_table(table, ["schema"])

    patched(*FIELDS, bigquery.SchemaField("tip", "FLOAT64"))
    with pytest.raises(google_errors.BadRequest, match="tip is missing"):
        patched(*FIELDS)
    tip, extra = bigquery.SchemaField("tip", "STRING"), bigquery.SchemaField("e", "DATE", "REQUIRED")
    with pytest.raises(google_errors.BadRequest, match="changed type from FLOAT64 to STRING"):
        patched(*FIELDS, tip)
    with pytest.raises(google_errors.BadRequest, match="Cannot add required fields"):
        patched(*FIELDS, bigquery.SchemaField("tip", "FLOAT64"), extra)
    old = project.client.get_table(project.table)
    patched(*FIELDS, bigquery.SchemaField("tip", "FLOAT64"), bigquery.SchemaField("e", "DATE"))
    old.description = "read before somebody else changed it"
    with pytest.raises(google_errors.PreconditionFailed):
        project.client.update_table(old, ["description"])


def test_an_expired_table_is_gone(project: Project) -> None:
    table = project.new_table("staging")
    table.expires = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    project.client.create_table(table)
    names = [table.table_id for table in project.client.list_tables("trips")]
    project.fake.advance(3601)
    assert names == ["staging", "yellow"]
    assert [table.table_id for table in project.client.list_tables("trips")] == ["yellow"]
    with pytest.raises(google_errors.NotFound):
        project.query("SELECT * FROM staging")


# The Storage Write API


def test_rows_are_invisible_until_the_commit(project: Project) -> None:
    one, two = project.stream(), project.stream()
    answers = project.append(one, request(one, batch(2), 0), request(one, batch(3, 2), 2, first=False))
    assert [answer.append_result.offset for answer in answers] == [0, 2]
    project.append(two, request(two, batch(1, 9)))
    assert [project.writer.finalize_write_stream(name=name).row_count for name in (one, two)] == [5, 1]
    assert project.count() == 0
    assert not project.commit(one, two).stream_errors
    zones = project.query("SELECT zone FROM yellow ORDER BY zone")
    assert [zone for (zone,) in zones] == [0, 1, 2, 3, 4, 9]
    [row] = project.query("SELECT * FROM yellow WHERE zone = 9")
    assert row == (9, 2.25, "x", PICKUP, JANUARY)


def test_offsets(project: Project) -> None:
    stream = project.stream()
    answers = project.append(
        stream,
        request(stream, batch(2), 0),
        request(stream, batch(2), 0, first=False),
        request(stream, batch(2), 3, first=False),
        request(stream, batch(2), 2, first=False),
    )
    assert [a.error.code for a in answers] == [0, grpc.StatusCode.ALREADY_EXISTS.value[0],
                                              grpc.StatusCode.OUT_OF_RANGE.value[0], 0]  # fmt: skip
    assert [code_of(a) for a in answers[1:3]] == [Code.OFFSET_ALREADY_EXISTS, Code.OFFSET_OUT_OF_RANGE]
    assert project.writer.finalize_write_stream(name=stream).row_count == 4


def test_the_clients_own_manager_can_write(project: Project) -> None:
    stream = project.stream()
    template = types.AppendRowsRequest(write_stream=stream)
    template.arrow_rows.writer_schema.serialized_schema = SCHEMA.serialize().to_pybytes()
    manager = AppendRowsStream(project.writer, template)
    rest = [request(stream, batch(2), at * 2, first=False) for at in range(3)]
    for one in rest:
        one.write_stream = stream
    results = [manager.send(one) for one in rest]
    assert [one.result(10).append_result.offset for one in results] == [0, 2, 4]
    manager.close()


def test_commit_errors_are_answered_and_not_raised(project: Project) -> None:
    open_, done = project.stream(), project.stream()
    for stream in (open_, done):
        project.append(stream, request(stream, batch()))
    project.writer.finalize_write_stream(name=done)
    answer = project.commit(done, open_)
    assert [error.code for error in answer.stream_errors] == [Code.INVALID_STREAM_STATE]
    assert not answer.commit_time
    assert project.count() == 0  # all or none
    assert project.commit(done).commit_time
    assert [error.code for error in project.commit(done).stream_errors] == [Code.STREAM_ALREADY_COMMITTED]
    missing = f"{project.parent}/streams/nope"
    assert [error.code for error in project.commit(missing).stream_errors] == [Code.STREAM_NOT_FOUND]
    assert project.count() == 2


def test_no_append_after_finalize(project: Project) -> None:
    stream = project.stream()
    project.writer.finalize_write_stream(name=stream)
    [answer] = project.append(stream, request(stream, batch()))
    assert code_of(answer) == Code.STREAM_FINALIZED


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("note", pa.array(["x", "x"], pa.large_string())),
        ("note", pa.array(["x", "x"], pa.string_view())),
        ("zone", pa.array([1, 2], pa.int32())),
        ("zone", pa.array([1.0, 2.0], pa.float64())),
        ("fare", pa.array([1.0, 2.0], pa.float32())),
        ("pickup", pa.array([0, 0], pa.timestamp("us", "UTC"))),
        ("pickup", pa.array([0, 0], pa.timestamp("ns"))),
        ("pickup", pa.array([0, 0], pa.int64())),
        ("file_month", pa.array([0, 0], pa.date64())),
    ],
)
def test_only_the_one_arrow_type_is_taken(project: Project, column: str, values: pa.Array) -> None:
    stream, rows = project.stream(), batch()
    at = SCHEMA.get_field_index(column)
    wrong = rows.set_column(at, column, values)
    refused, later = project.append(stream, request(stream, wrong), request(stream, rows, first=False))
    assert refused.error.code == later.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert f"field {column} is not the one" in refused.error.message
    assert project.writer.finalize_write_stream(name=stream).row_count == 0


def test_columns_too_many_and_too_few(project: Project) -> None:
    stream = project.stream()
    wide = batch().append_column("tip", pa.array([1.0, 2.0]))
    narrow, enough = (request(stream, batch().drop_columns([name])) for name in ("file_month", "note"))
    extra, missing, fine = project.append(stream, request(stream, wide), narrow, enough)
    assert code_of(extra) == Code.SCHEMA_MISMATCH_EXTRA_FIELDS
    assert "extra fields: 'tip'" in extra.error.message
    assert "file_month is required" in missing.error.message
    assert fine.append_result.offset == 0
    project.writer.finalize_write_stream(name=stream)
    project.commit(stream)
    assert project.query("SELECT DISTINCT note FROM yellow") == [(None,)]


def test_a_null_in_a_required_column_is_an_error_of_its_row(project: Project) -> None:
    stream = project.stream()
    both = pa.Table.from_batches([batch(2), batch(1, month=None)]).combine_chunks().to_batches()[0]
    [answer] = project.append(stream, request(stream, both))
    assert [error.index for error in answer.row_errors] == [2]
    assert project.writer.finalize_write_stream(name=stream).row_count == 0


def test_a_request_has_a_largest_size(project: Project) -> None:
    stream = project.stream()
    rows = batch(1, note="x" * project.fake.max_request_bytes)
    answers = project.append(stream, request(stream, batch()), request(stream, rows, first=False))
    assert answers[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "too large" in answers[1].error.message
    assert project.fake.requests[-1].bytes > project.fake.max_request_bytes


def test_the_first_request_of_a_connection_says_everything(project: Project) -> None:
    stream, other = project.stream(), project.stream()
    with pytest.raises(google_errors.InvalidArgument, match="must name the write stream"):
        project.append(stream, request(stream, batch(), first=False))
    without = request(stream, batch(), first=False)
    without.write_stream = stream
    with pytest.raises(google_errors.InvalidArgument, match="writer schema"):
        project.append(stream, without)
    with pytest.raises(google_errors.InvalidArgument, match="x-goog-request-params"):
        project.append(stream, request(stream, batch()), header=other)
    [_, refused] = project.append(stream, request(stream, batch()), request(other, batch()))
    assert "one stream" in refused.error.message


def test_a_stream_goes_with_its_table(project: Project) -> None:
    stream = project.stream()
    project.client.delete_table(project.table)
    project.create("yellow")
    with pytest.raises(google_errors.NotFound):
        project.append(stream, request(stream, batch()))
    with pytest.raises(google_errors.NotFound, match=r"trips\.nope"):
        project.writer.create_write_stream(parent=project.parent[:-6] + "nope", write_stream=PENDING)


# What goes wrong on request


@pytest.mark.parametrize("applied", [False, True])
def test_a_connection_that_breaks_before_or_after_the_rows_are_written(
    project: Project, *, applied: bool
) -> None:
    stream = project.stream()
    project.fake.fail("AppendRows", "UNAVAILABLE", 2, applied=applied)
    both = [request(stream, batch(2), 0), request(stream, batch(2), 2, first=False)]
    with pytest.raises(google_errors.ServiceUnavailable):
        project.append(stream, *both)
    [again] = project.append(stream, request(stream, batch(2), 2))
    assert again.error.code == (grpc.StatusCode.ALREADY_EXISTS.value[0] if applied else 0)
    assert project.writer.finalize_write_stream(name=stream).row_count == 4


def test_stream_errors_on_request(project: Project) -> None:
    stream = project.stream()
    project.writer.finalize_write_stream(name=stream)
    project.fake.fail("BatchCommitWriteStreams", "stream_errors:INVALID_STREAM_STATE")
    assert [error.code for error in project.commit(stream).stream_errors] == [Code.INVALID_STREAM_STATE]
    assert project.commit(stream).commit_time


@pytest.mark.parametrize(
    ("reason", "raised"),
    [
        ("backendError", google_errors.ServiceUnavailable),
        ("quotaExceeded", google_errors.Forbidden),
        ("rateLimitExceeded", google_errors.Forbidden),
        ("accessDenied", google_errors.Forbidden),
    ],
)
def test_rest_errors_on_request(project: Project, reason: str, raised: type[Exception]) -> None:
    project.fake.fail("tables.get", reason, nth=2)
    assert project.client.get_table(project.table, retry=None)
    with pytest.raises(raised, match=reason):
        project.client.get_table(project.table, retry=None)
    assert project.client.get_table(project.table, retry=None)


def test_a_call_is_held_and_goes_on(project: Project) -> None:
    with project.fake.hold("tables.get", applied=True) as held:
        asking = threading.Thread(target=project.client.get_table, args=(project.table,))
        asking.start()
        assert held.reached.wait(10)
        assert asking.is_alive()
    asking.join(10)
    assert not asking.is_alive()


def test_the_client_repeats_what_may_pass(project: Project) -> None:
    project.fake.fail("tables.get", "rateLimitExceeded", times=2)
    project.fake.fail("tables.get", "cut", nth=3)
    assert project.client.get_table(project.table, retry=bigquery.DEFAULT_RETRY.with_delay(0.01, 0.01))
    outcomes = [call.outcome for call in project.fake.requests if call.name == "tables.get"]
    assert outcomes == ["rateLimitExceeded", "rateLimitExceeded", "cut", "ok"]


# Scripts and transactions

SWAP = """
BEGIN TRANSACTION;
DELETE FROM yellow WHERE file_month = @month;
INSERT INTO yellow (zone, file_month) SELECT zone + 100, file_month FROM `taxi-test.trips.yellow` WHERE FALSE;
INSERT INTO yellow (zone, file_month) VALUES (@zone, @month);
ASSERT (SELECT count(*) FROM yellow WHERE file_month = @month) = @rows AS 'not the rows';
COMMIT TRANSACTION;
"""


def test_a_script_is_one_transaction(project: Project) -> None:
    project.write(batch(3), batch(2, month=FEBRUARY))
    project.query(SWAP, month=JANUARY, zone=7, rows=1)
    assert sorted(project.query("SELECT zone, file_month FROM yellow")) == [
        (0, FEBRUARY), (1, FEBRUARY), (7, JANUARY),
    ]  # fmt: skip
    with pytest.raises(google_errors.BadRequest, match="not the rows"):
        project.query(SWAP, month=FEBRUARY, zone=8, rows=2)
    assert project.count() == 3
    assert project.query("SELECT count(*) FROM yellow WHERE zone = 8") == [(0,)]


def test_a_merge_is_known(project: Project) -> None:
    project.query("INSERT INTO yellow (zone, file_month) VALUES (1, DATE '2021-01-01')")
    merge = """MERGE INTO yellow t USING (SELECT @zone AS zone, @month AS file_month) s ON t.zone = s.zone
        WHEN MATCHED THEN UPDATE SET note = 'old'
        WHEN NOT MATCHED THEN INSERT (zone, file_month, note) VALUES (s.zone, s.file_month, 'new')"""
    for zone in (1, 2):
        project.query(merge, zone=zone, month=JANUARY)
    assert sorted(project.query("SELECT zone, note FROM yellow")) == [(1, "old"), (2, "new")]


def test_what_is_not_committed_is_rolled_back(project: Project) -> None:
    project.query("BEGIN TRANSACTION; INSERT INTO yellow (file_month) VALUES (DATE '2021-01-01')")
    assert project.count() == 0


def test_of_two_transactions_on_one_table_the_later_one_is_cancelled(project: Project) -> None:
    project.write(batch(2))
    engine = project.fake._engine
    first = engine.conflicts.begin(explicit=True)
    engine.conflicts.mutate(first, ("trips", "yellow"))
    with pytest.raises(
        google_errors.BadRequest, match="aborted due to concurrent update against table"
    ) as raised:
        project.query(SWAP, month=FEBRUARY, zone=1, rows=1)  # another month: it is the table that counts
    assert raised.value.errors[0]["reason"] == "invalidQuery"
    project.query(
        "BEGIN TRANSACTION; INSERT INTO yellow (file_month) VALUES (DATE '2021-03-01'); COMMIT TRANSACTION"
    )
    engine.conflicts.end(first, lambda: None, committed=True)
    project.query(SWAP, month=FEBRUARY, zone=1, rows=1)
    assert project.count() == 4


def test_a_transaction_that_began_before_the_other_was_committed_is_cancelled(project: Project) -> None:
    conflicts = project.fake._engine.conflicts
    early = conflicts.begin(explicit=True)
    project.query(SWAP, month=JANUARY, zone=1, rows=1)
    with pytest.raises(ApiError, match="aborted due to concurrent update"):
        conflicts.mutate(early, ("trips", "yellow"))
    conflicts.end(early, lambda: None, committed=False)
    project.query("DELETE FROM yellow WHERE zone = 1")  # it has let go
    assert project.count() == 0


def test_transactions_side_by_side_end_as_one_after_the_other(project: Project) -> None:
    project.write(batch(2))
    outcomes: list[str] = []

    def swap(zone: int) -> None:
        client = Project.__new__(Project)
        client.fake = project.fake
        client.client = bigquery.Client(
            project.fake.project,
            AnonymousCredentials(),
            client_options={"api_endpoint": project.fake.rest_url},
        )
        with contextlib.closing(client.client):
            try:
                client.query(SWAP, month=JANUARY, zone=zone, rows=1)
                outcomes.append("ok")
            except google_errors.BadRequest as error:
                outcomes.append("conflict" if "concurrent update" in str(error) else str(error))

    threads = [threading.Thread(target=swap, args=(zone,)) for zone in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert set(outcomes) <= {"ok", "conflict"}
    assert "ok" in outcomes
    assert project.count() == 1


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DELETE FROM yellow", "must have a WHERE clause"),
        ("SELECT FROM WHERE", "Syntax error"),
        ("SELECT * FROM nope", "Not found: Table"),
        ("SELECT @nope", "Query parameter 'nope' not found"),
        (
            "INSERT INTO yellow (zone, file_month) SELECT '1', DATE '2021-01-01'",
            "type STRING which cannot be ins",
        ),
        ("INSERT INTO yellow (zone) VALUES (1)", "Required field"),
        ("BEGIN TRANSACTION; CREATE TABLE x (a INT64); COMMIT TRANSACTION", "not supported in transactions"),
        ("COMMIT TRANSACTION", "no transaction in progress"),
        ("CREATE OR REPLACE TABLE yellow (a INT64)", "fake does not know"),
        ("DECLARE x INT64 DEFAULT 1", "fake does not know"),
        ("SELECT * FROM trips.INFORMATION_SCHEMA.TABLES", "fake does not know"),
        ("CALL something()", "fake does not know"),
    ],
)
def test_statements_that_are_refused(project: Project, sql: str, message: str) -> None:
    with pytest.raises(google_errors.GoogleAPICallError, match=message):
        project.query(sql)


def test_tables_by_statement(project: Project) -> None:
    project.query(
        "CREATE TABLE IF NOT EXISTS green (zone INT64 OPTIONS(description='where'), note STRING, "
        "m DATE NOT NULL) PARTITION BY DATE_TRUNC(m, MONTH) CLUSTER BY zone, note "
        "OPTIONS(expiration_timestamp=TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 1 DAY), "
        "description='a table')"
    )
    table = project.client.get_table("trips.green")
    assert table.time_partitioning == bigquery.TimePartitioning("MONTH", "m")
    assert (table.clustering_fields, table.schema[2].mode) == (["zone", "note"], "REQUIRED")
    assert table.expires
    assert abs((table.expires - dt.datetime.now(dt.UTC)).total_seconds() - 86400) < 60
    project.query("ALTER TABLE green ADD COLUMN IF NOT EXISTS note STRING, ADD COLUMN tip FLOAT64")
    assert [field.name for field in project.client.get_table("trips.green").schema] == [
        "zone",
        "note",
        "m",
        "tip",
    ]
    project.query("DROP TABLE green")
    with pytest.raises(google_errors.NotFound):
        project.client.get_table("trips.green")


# Load jobs


class Loads:
    """Loads Parquet from a bucket into `yellow`."""

    def __init__(self, project: Project, bucket: Bucket) -> None:
        self.project, self.bucket = project, bucket
        project.fake.loader.storage_url = bucket.emulator.url

    def __call__(
        self,
        table: str,
        *batches: pa.RecordBatch,
        job_id: str | None = None,
        **config: Any,  # noqa: ANN401
    ) -> bigquery.LoadJob:
        file = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_batches(batches), file)
        self.bucket.write("a/b c.parquet", file.getvalue().to_pybytes())
        options = {
            "source_format": "PARQUET",
            "schema": FIELDS,
            "write_disposition": "WRITE_TRUNCATE",
        } | config
        job = self.project.client.load_table_from_uri(
            f"gs://{self.bucket.name}/a/b c.parquet",
            f"taxi-test.trips.{table}",
            job_id=job_id,
            job_config=bigquery.LoadJobConfig(
                **{key: value for key, value in options.items() if value is not None}
            ),
        )
        job.result()
        return job


@pytest.fixture
def loads(project: Project, bucket: Bucket) -> Loads:
    return Loads(project, bucket)


def test_a_partition_is_replaced_and_no_other(loads: Loads) -> None:
    loads("yellow$202102", batch(2, month=FEBRUARY))
    loads("yellow$202101", batch(5))
    job = loads(
        "yellow$202101", batch(3, 10), time_partitioning=bigquery.TimePartitioning("MONTH", "file_month")
    )
    assert (job.output_rows, job.input_files, job.state) == (3, 1, "DONE")
    rows = loads.project.query("SELECT file_month, count(*) FROM yellow GROUP BY 1")
    assert sorted(rows) == [(JANUARY, 3), (FEBRUARY, 2)]
    assert [table.table_id for table in loads.project.client.list_tables("trips")] == ["yellow"]
    loads("yellow$202101", batch(1), write_disposition="WRITE_APPEND")
    assert loads.project.count() == 6


def test_a_table_is_made_for_a_decorator_only_with_its_partitioning(loads: Loads) -> None:
    month = bigquery.TimePartitioning("MONTH", "file_month")
    loads("new$202101", batch(1), time_partitioning=month, clustering_fields=["zone"])
    table = loads.project.client.get_table("trips.new")
    assert (table.time_partitioning, table.clustering_fields, table.num_rows) == (month, ["zone"], 1)


@pytest.mark.parametrize(
    ("table", "month", "config", "message"),
    [
        ("yellow$202101", FEBRUARY, {}, "Some rows belong to different partitions"),
        ("yellow$20210101", JANUARY, {}, "Invalid time partition id"),
        ("yellow$2021", JANUARY, {}, "Invalid time partition id"),
        ("nope$202101", JANUARY, {"create_disposition": "CREATE_NEVER"}, "Not found: Table"),
        ("yellow$202101", JANUARY, {"schema": [*FIELDS[:-1]]}, "columns that the job's schema lacks"),
        ("yellow$202101", JANUARY, {"schema": [bigquery.SchemaField("zone", "STRING"), *FIELDS[1:]]},
         "Parquet column 'zone' has type int64"),
        ("yellow$202101", JANUARY, {"schema": [*FIELDS[:-1], bigquery.SchemaField("file_month", "DATE")]},
         "changed mode from REQUIRED to NULLABLE"),
        ("yellow$202101", JANUARY, {"schema": [*FIELDS, bigquery.SchemaField("tip", "FLOAT64")]},
         "Cannot add fields"),
        ("yellow$202101", JANUARY, {"time_partitioning": bigquery.TimePartitioning("DAY", "file_month")},
         "Incompatible table partitioning"),
        ("yellow$202101", JANUARY, {"clustering_fields": ["note"]}, "Incompatible table partitioning"),
        ("yellow$202101", JANUARY, {"schema": None}, "load jobs without a schema"),
        ("yellow$202101", JANUARY, {"autodetect": True}, "autodetect"),
        ("yellow$202101", JANUARY, {"source_format": None}, "the source format CSV"),
        ("yellow$202101", JANUARY, {"max_bad_records": 5}, "maxBadRecords of a load job"),
    ],
)  # fmt: skip
def test_load_jobs_that_are_refused(
    loads: Loads, table: str, month: dt.date, config: dict[str, Any], message: str
) -> None:
    loads("yellow$202101", batch(1))
    with pytest.raises(google_errors.GoogleAPICallError, match=message):
        loads(table, batch(3, month=month), **config)
    assert loads.project.count() == 1
    assert [table.table_id for table in loads.project.client.list_tables("trips")] == ["yellow"]


def test_a_missing_object_fails_the_job(loads: Loads) -> None:
    config = bigquery.LoadJobConfig(source_format="PARQUET", schema=FIELDS)
    job = loads.project.client.load_table_from_uri(
        f"gs://{loads.bucket.name}/nope", "taxi-test.trips.yellow", job_config=config
    )
    with pytest.raises(google_errors.NotFound, match="Not found: URI"):
        job.result()
    assert job.error_result["reason"] == "notFound"


def test_a_job_id_is_used_once_whatever_became_of_it(loads: Loads) -> None:
    with pytest.raises(google_errors.BadRequest):
        loads("yellow$202101", batch(2, month=FEBRUARY), job_id="load-1")
    with pytest.raises(google_errors.Conflict, match=r"Already Exists: Job taxi-test:US\.load-1"):
        loads("yellow$202101", batch(2), job_id="load-1")
    job = loads.project.client.get_job("load-1", location="US")
    assert (job.state, job.error_result["reason"]) == ("DONE", "invalid")
    with pytest.raises(google_errors.NotFound):
        loads.project.client.get_job("load-1", location="EU")


def test_what_it_does_not_know_it_refuses(project: Project) -> None:
    with pytest.raises(google_errors.MethodNotImplemented, match="fake does not know POST"):
        project.client.insert_rows_json(project.table, [{"zone": 1}], retry=None)
    with pytest.raises(google_errors.MethodNotImplemented, match="dryRun of a job"):
        project.client.query("SELECT 1", bigquery.QueryJobConfig(dry_run=True), retry=None)
    with pytest.raises(google_errors.Forbidden):
        project.client.get_dataset("another-project.trips", retry=None)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{project.fake.rest_url}/bigquery/v2/projects/taxi-test/models")
    refused.value.close()
