"""The gRPC half: BigQueryWrite on the wire, with Google's own messages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types
from google.protobuf import any_pb2, wrappers_pb2
from google.rpc import status_pb2
from support.bigquery_fake.errors import ApiError
from support.bigquery_fake.failures import Call, Rule, wait_while_held
from support.bigquery_fake.streams import (
    Code,
    StorageFailure,
    Stream,
    check_rows,
    check_schema,
    storage_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.bigquery_fake.server import BigQueryFake

SERVICE = "google.cloud.bigquery.storage.v1.BigQueryWrite"
LONGEST_MESSAGE = 256 * 2**20  # larger requests are to arrive, so that they can be refused as the server does
OPTIONS = [
    ("grpc.max_receive_message_length", LONGEST_MESSAGE),
    ("grpc.max_send_message_length", LONGEST_MESSAGE),
    ("grpc.so_reuseport", 0),
]


class WriteService:
    """The methods of BigQueryWrite."""

    def __init__(self, fake: BigQueryFake) -> None:
        self._fake, self._streams, self._failures = fake, fake.streams, fake.failures

    def handler(self) -> grpc.GenericRpcHandler:
        unary = {
            "CreateWriteStream": (self.create, types.CreateWriteStreamRequest, types.WriteStream),
            "GetWriteStream": (self.get, types.GetWriteStreamRequest, types.WriteStream),
            "FinalizeWriteStream": (
                self.finalize, types.FinalizeWriteStreamRequest, types.FinalizeWriteStreamResponse,
            ),
            "BatchCommitWriteStreams": (
                self.commit, types.BatchCommitWriteStreamsRequest, types.BatchCommitWriteStreamsResponse,
            ),
        }  # fmt: skip
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._guarded(name, method), request.deserialize, response.serialize
            )
            for name, (method, request, response) in unary.items()
        }
        handlers["AppendRows"] = grpc.stream_stream_rpc_method_handler(
            self.append_rows, _sized_request, types.AppendRowsResponse.serialize
        )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def create(self, request: types.CreateWriteStreamRequest) -> types.WriteStream:
        made = self._streams.create(request.parent, types.WriteStream.Type(request.write_stream.type_))
        return self._answer(made)

    def get(self, request: types.GetWriteStreamRequest) -> types.WriteStream:
        return self._answer(self._streams.get(request.name))

    def finalize(self, request: types.FinalizeWriteStreamRequest) -> types.FinalizeWriteStreamResponse:
        return types.FinalizeWriteStreamResponse(row_count=self._streams.finalize(request.name))

    def commit(self, request: types.BatchCommitWriteStreamsRequest) -> types.BatchCommitWriteStreamsResponse:
        committed = self._streams.commit(request.parent, list(request.write_streams))
        if isinstance(committed, list):
            return types.BatchCommitWriteStreamsResponse(stream_errors=committed)
        return types.BatchCommitWriteStreamsResponse(commit_time=committed)

    def append_rows(
        self, requests: Iterator[tuple[types.AppendRowsRequest, int]], context: grpc.ServicerContext
    ) -> Iterator[types.AppendRowsResponse]:
        """One connection: the stream and the schema are said once, the answers come in order."""
        stream: Stream | None = None
        schema: pa.Schema | None = None
        # The client's own library adds the header once more, empty.
        routing = [value for key, value in context.invocation_metadata() if key == "x-goog-request-params"]
        for request, size in requests:
            name = request.write_stream or (stream.name if stream else "")
            offset = request.offset if "offset" in request else None
            call = Call("AppendRows", name, size, {"offset": offset})
            rule = self._failures.arrived(call)
            if rule and not rule.applied:
                _fail(rule, call, context)
            try:
                self._check_size(size)
                if stream is None:
                    _check_first(request, routing)
                    stream = self._streams.get(name)
                elif name != stream.name:
                    raise StorageFailure(
                        grpc.StatusCode.INVALID_ARGUMENT,
                        f"A connection is for one stream, not also for {name}",
                    )
                if written := request.arrow_rows.writer_schema.serialized_schema:
                    schema = None  # should the new one be refused
                    schema = _checked_schema(stream, written)
                if schema is None:
                    raise StorageFailure(
                        grpc.StatusCode.INVALID_ARGUMENT, "No writer schema was accepted so far"
                    )
                batch = _read_batch(request.arrow_rows.rows.serialized_record_batch, schema)
                call.body["rows"] = batch.num_rows
                check_rows(stream, batch)
                at = self._streams.append(self._streams.get(stream.name), batch, offset)
            except StorageFailure as error:
                call.outcome = error.status.name
                if stream is None:  # the server ends a connection that began wrongly
                    _abort(context, error)
                yield _error_response(error, name)
                continue
            if rule and rule.applied:
                _fail(rule, call, context)
            call.outcome = call.outcome or "ok"
            result = types.AppendRowsResponse.AppendResult(offset=wrappers_pb2.Int64Value(value=at))
            yield types.AppendRowsResponse(append_result=result, write_stream=stream.name)

    def _check_size(self, size: int) -> None:
        if size > self._fake.max_request_bytes:
            raise StorageFailure(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"AppendRows request too large: {size} limit {self._fake.max_request_bytes}",
            )

    def _guarded(self, name: str, method: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        """A method with the log, the failures on request, and errors in gRPC's words."""

        def call_it(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
            target = getattr(request, "name", "") or getattr(request, "parent", "")
            call = Call(name, target, len(type(request).serialize(request)))
            rule = self._failures.arrived(call)
            if rule and rule.error.startswith("stream_errors:"):
                call.outcome = rule.error
                code = Code[rule.error.partition(":")[2]]
                errors = [storage_error(code, one, "as the test asked for") for one in request.write_streams]
                return types.BatchCommitWriteStreamsResponse(stream_errors=errors)
            if rule and not rule.applied:
                _fail(rule, call, context)
            try:
                answer = method(request)
            except StorageFailure as error:
                call.outcome = error.status.name
                _abort(context, error)
            except ApiError as error:
                call.outcome = error.reason
                context.abort(grpc.StatusCode.INTERNAL, error.message)
            if rule and rule.applied:
                _fail(rule, call, context)
            call.outcome = call.outcome or "ok"
            return answer

        return call_it

    def _answer(self, stream: Stream) -> types.WriteStream:
        return types.WriteStream(
            name=stream.name,
            type_=stream.type,
            create_time=stream.created,
            commit_time=stream.committed,
            write_mode=types.WriteStream.WriteMode.INSERT,
            location=self._fake.catalog.location.lower(),
        )


def _sized_request(sent: bytes) -> tuple[types.AppendRowsRequest, int]:
    return types.AppendRowsRequest.deserialize(sent), len(sent)


def _check_first(request: types.AppendRowsRequest, routing: list[Any]) -> None:
    """What the first request of a connection must say.

    The header is what finds the region; without it a stream outside the default region is not found.
    """
    if not request.write_stream:
        raise StorageFailure(grpc.StatusCode.INVALID_ARGUMENT, "The first request must name the write stream")
    if f"write_stream={request.write_stream}" not in [str(value).replace("%2F", "/") for value in routing]:
        raise StorageFailure(
            grpc.StatusCode.INVALID_ARGUMENT,
            "The header x-goog-request-params does not name the write stream",
        )
    if not request.arrow_rows.writer_schema.serialized_schema:
        raise StorageFailure(
            grpc.StatusCode.INVALID_ARGUMENT, "The first request must have rows as Arrow with a writer schema"
        )


def _checked_schema(stream: Stream, sent: bytes) -> pa.Schema:
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(sent))
    except (pa.ArrowException, OSError) as error:
        raise StorageFailure(grpc.StatusCode.INVALID_ARGUMENT, f"Invalid Arrow schema: {error}") from None
    check_schema(stream, schema)
    return schema


def _read_batch(sent: bytes, schema: pa.Schema) -> pa.RecordBatch:
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(sent), schema)
        batch.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise StorageFailure(
            grpc.StatusCode.INVALID_ARGUMENT, f"Invalid Arrow record batch: {error}"
        ) from None
    return batch


def _details(error: StorageFailure) -> list[any_pb2.Any]:
    if error.code is None:
        return []
    packed = any_pb2.Any()
    packed.Pack(types.StorageError.pb(storage_error(error.code, error.entity, error.message)))
    return [packed]


def _status(error: StorageFailure) -> status_pb2.Status:
    message = f"{error.message} Entity: {error.entity}" if error.entity else error.message
    return status_pb2.Status(code=error.status.value[0], message=message, details=_details(error))


def _error_response(error: StorageFailure, name: str) -> types.AppendRowsResponse:
    rows = [
        types.RowError(index=at, code=types.RowError.RowErrorCode.FIELDS_ERROR, message=text)
        for at, text in error.rows
    ]
    return types.AppendRowsResponse(error=_status(error), row_errors=rows, write_stream=name)


def _abort(context: grpc.ServicerContext, error: StorageFailure) -> None:
    status = _status(error)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(error.status, status.message)


def _fail(rule: Rule, call: Call, context: grpc.ServicerContext) -> None:
    if rule.error == "hold":
        wait_while_held(rule)
        return
    call.outcome = rule.error
    code = grpc.StatusCode.UNAVAILABLE if rule.error == "cut" else grpc.StatusCode[rule.error]
    context.abort(code, f"{rule.error}, as the test asked for")


def start(fake: BigQueryFake, port: int = 0) -> tuple[grpc.Server, int]:
    """A server on a port of this machine; 0: on a free one."""
    server = grpc.server(ThreadPoolExecutor(32, "bigquery-fake"), options=OPTIONS)
    server.add_generic_rpc_handlers((WriteService(fake).handler(),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port
