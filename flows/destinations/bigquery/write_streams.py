"""Arrow batches into a BigQuery table through PENDING streams of the Storage Write API.

The rows of a PENDING stream are invisible until it is committed. Every request names the offset of its first
row, so that a request sent twice is written once. If a connection breaks, another one is opened, and every
unanswered request is sent again. https://cloud.google.com/bigquery/docs/write-api-batch
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core import exceptions as google_errors
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types

from flows.destinations.bigquery.append_requests import AppendTarget, Rows, split_into_requests
from flows.destinations.bigquery.connection import (
    CALL_SECONDS,
    GRPC_RETRY,
    OPEN_STREAM_RETRY,
    BigQuerySession,
)
from flows.destinations.bigquery.errors import to_taxi_error, translate_errors
from flows.errors import DestinationBusy, DestinationRefused, ReconciliationError, TaxiError
from flows.runtime import RetryPolicy, pause

if TYPE_CHECKING:
    import pyarrow as pa

IN_FLIGHT = 4  # unanswered requests of a stream
SILENCE_SECONDS = 60.0  # longest wait for an answer before the connection is considered dead
RESUME_SECONDS = 60.0  # how long a stream is resumed without a new answer before it is given up
COMMIT_SECONDS = 300.0  # longest wait for a commit, which takes longer for more rows
RESUME_POLICY = RetryPolicy(first_pause_seconds=0.05, longest_pause_seconds=5.0)

STATUS: dict[int, grpc.StatusCode] = {status.value[0]: status for status in grpc.StatusCode}

Code = types.StorageError.StorageErrorCode
TRANSIENT_CODES = {
    Code.STORAGE_ERROR_CODE_UNSPECIFIED,
    Code.TABLE_NOT_FOUND,
    Code.STREAM_NOT_FOUND,
    Code.INVALID_STREAM_STATE,
}


def write(
    session: BigQuerySession,
    target: AppendTarget,
    batches: Iterable[pa.RecordBatch],
    streams: int,
    report: Callable[[int], None] | None,
) -> None:
    """Write every batch and make the rows visible, all at once.

    Args:
        session: connected.
        target: a table with the batches' columns.
        batches: record batches of any size.
        streams: how many streams share the work.
        report: called with the number of rows acknowledged so far.

    Raises:
        DestinationBusy: the server, or the connection to it, kept failing.
        DestinationRefused: the server refuses the rows.
        ReconciliationError: the server counted other rows than were sent.
    """
    opened: deque[_AppendStream] = deque()
    acknowledged = 0
    try:
        for rows in split_into_requests(target, batches):
            if len(opened) < streams:
                opened.appendleft(_AppendStream(session.writer, target))
            acknowledged += opened[0].append(rows)
            opened.rotate(-1)
            if report:
                report(acknowledged)
        for stream in opened:
            stream.finish()
    finally:
        for stream in opened:
            stream.close()
    if opened:
        _commit(session.writer, target.parent, [stream.name for stream in opened])


def _commit(client: BigQueryWriteClient, parent: str, streams: list[str]) -> None:
    """Make the rows of finalized streams visible, all at once."""
    request = types.BatchCommitWriteStreamsRequest(parent=parent, write_streams=streams)
    with translate_errors():
        retry = GRPC_RETRY.with_timeout(2 * COMMIT_SECONDS)
        answer = client.batch_commit_write_streams(request, retry=retry, timeout=COMMIT_SECONDS)
    # NOTE: errors come in the answer, they are not raised. A commit whose answer was lost is sent again, and
    # some streams are committed already then; the rows are counted afterwards in any case.
    errors = [error for error in answer.stream_errors if error.code != Code.STREAM_ALREADY_COMMITTED]
    if errors:
        reasons = "; ".join(f"{Code(error.code).name}: {error.error_message}" for error in errors[:3])
        is_transient = all(error.code in TRANSIENT_CODES for error in errors)
        kind = DestinationBusy if is_transient else DestinationRefused
        raise kind(f"BigQuery did not commit the streams ({reasons}); the month there stays, run it again")


class _AppendStream:
    """One PENDING stream and its connection, used by one thread."""

    def __init__(self, client: BigQueryWriteClient, target: AppendTarget) -> None:
        """Create the stream; the first rows open the connection."""
        self._client, self._target = client, target
        pending = types.WriteStream(type_=types.WriteStream.Type.PENDING)
        with translate_errors():
            self.name: str = client.create_write_stream(
                parent=target.parent, write_stream=pending, retry=OPEN_STREAM_RETRY, timeout=CALL_SECONDS
            ).name
        self._next_offset = 0
        self._unanswered: deque[tuple[int, Rows]] = deque()
        self._connection: _Connection | None = None
        self._failures = 0
        self._progress_at = time.monotonic()

    def append(self, rows: Rows) -> int:
        """Send rows, waiting while too many requests are unanswered; returns how many were acknowledged."""
        if not self._unanswered:
            self._progress_at = time.monotonic()
        self._unanswered.append((self._next_offset, rows))
        self._next_offset += rows.count
        self._connect().send(*self._unanswered[-1])
        return self._receive_until(IN_FLIGHT)

    def finish(self) -> None:
        """Wait for every answer, finalize the stream, and check the server's count."""
        self._receive_until(0)
        self.close()
        with translate_errors():
            counted = self._client.finalize_write_stream(
                name=self.name, retry=GRPC_RETRY, timeout=CALL_SECONDS
            ).row_count
        if counted != self._next_offset:
            raise ReconciliationError(
                f"{self._next_offset:,} rows sent to BigQuery, {counted:,} counted in the stream; the month "
                "that was there before stays. Run it again with --force"
            )

    def close(self) -> None:
        """Close the connection, without waiting for answers."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _receive_until(self, unanswered: int) -> int:
        acknowledged = 0
        while len(self._unanswered) > unanswered:
            acknowledged += self._receive()
        return acknowledged

    def _receive(self) -> int:
        """Take one answer; returns the number of rows it acknowledges."""
        offset, rows = self._unanswered[0]
        if failure := self._connect().receive(offset):
            self._resume(failure)
            return 0
        self._unanswered.popleft()
        self._failures, self._progress_at = 0, time.monotonic()
        return rows.count

    def _resume(self, failure: TaxiError) -> None:
        """Open another connection and send every unanswered request again.

        Raises:
            TaxiError: the failure, if it is not transient, or there has been no progress for too long.
        """
        self.close()
        if not isinstance(failure, DestinationBusy) or time.monotonic() - self._progress_at > RESUME_SECONDS:
            raise failure
        self._failures += 1
        pause(RESUME_POLICY.pause_seconds(self._failures))
        for offset, rows in self._unanswered:
            self._connect().send(offset, rows)

    def _connect(self) -> _Connection:
        if self._connection is None:
            self._connection = _Connection(self._client, self._target, self.name)
        return self._connection


class _Connection:
    """One AppendRows call: requests go out one after the other, answers come back in the same order."""

    def __init__(self, client: BigQueryWriteClient, target: AppendTarget, stream: str) -> None:
        """Open it; an error is received as an answer."""
        self._target, self._stream = target, stream
        self._is_first = True
        self._outgoing: queue.SimpleQueue[types.AppendRowsRequest | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Not `client.append_rows`, which waits for the first answer before it returns.
        append_rows: Any = client.transport.append_rows
        routing = [("x-goog-request-params", f"write_stream={stream}")]
        self._call: Any = append_rows(iter(self._outgoing.get, None), metadata=routing)
        threading.Thread(target=self._listen, name="append-rows", daemon=True).start()

    def send(self, offset: int, rows: Rows) -> None:
        """Send rows without waiting."""
        self._outgoing.put(self._target.request(self._stream, offset, rows, first=self._is_first))
        self._is_first = False

    def receive(self, offset: int) -> TaxiError | None:
        """Wait for the answer to the request at an offset; None: its rows are written."""
        try:
            answer = self._answers.get(timeout=SILENCE_SECONDS)
        except queue.Empty:
            return DestinationBusy(
                f"BigQuery has not answered for {SILENCE_SECONDS:g} s; the month there stays"
            )
        if answer is None:
            return DestinationBusy("BigQuery ended the connection; the month there stays as it was")
        if isinstance(answer, grpc.RpcError):
            status: Any = answer
            return _failure(status.code(), status.details())
        if answer.error.code:
            bad_rows = [f"row {offset + row.index + 1:,}: {row.message}" for row in answer.row_errors[:1]]
            return _failure(STATUS[answer.error.code], "; ".join([answer.error.message, *bad_rows]))
        answered = answer.append_result.offset
        if answered is not None and answered != offset:
            return DestinationBusy(f"BigQuery answered for row {answered:,} instead of {offset:,}")
        return None

    def close(self) -> None:
        """End the call, whatever is under way."""
        self._outgoing.put(None)
        self._call.cancel()

    def _listen(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(answer)
        except grpc.RpcError as error:
            self._answers.put(error)
        finally:
            self._answers.put(None)


def _failure(status: grpc.StatusCode, message: str | None) -> TaxiError | None:
    """The error for an answer that is no success; None: the rows had been written already."""
    if status is grpc.StatusCode.ALREADY_EXISTS:
        return None
    message = message or status.name
    # Out of range: a request before this one was lost. Both are cured by sending again.
    if status in (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.CANCELLED):
        return DestinationBusy(f"BigQuery lost the connection ({message}); the month there stays")
    return to_taxi_error(google_errors.from_grpc_status(status, message))
