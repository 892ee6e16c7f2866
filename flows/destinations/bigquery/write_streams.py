"""Arrow batches into a BigQuery table through PENDING streams of the Storage Write API.

Nothing of a PENDING stream is visible before it is committed. Every request says at which row of its stream
it starts, so that one sent twice is written once. A connection that breaks is opened again, and everything
unanswered is sent again from there. https://cloud.google.com/bigquery/docs/write-api-batch
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry, if_exception_type
from google.cloud.bigquery_storage_v1 import types

from flows.destinations.bigquery.append_requests import requests_of
from flows.destinations.bigquery.connection import CALL_SECONDS, PATIENT_GRPC
from flows.destinations.bigquery.errors import explained, refusal
from flows.errors import DestinationBusy, DestinationRefused, ReconciliationError, TaxiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from google.cloud.bigquery_storage_v1 import BigQueryWriteClient

    from flows.destinations.bigquery.append_requests import AppendTarget, Rows
    from flows.destinations.bigquery.connection import BigQuerySession
    from flows.runtime import ProgressCallback

IN_FLIGHT = 4
"""Requests of a stream that may be unanswered."""

SILENCE_SECONDS = 60.0
"""Longest wait for an answer; then the connection is taken for dead."""

RESUME_SECONDS = 60.0
"""How long a stream is resumed without a single new answer before it is given up."""

LONGEST_PAUSE_SECONDS = 5.0

COMMIT_SECONDS = 300.0
"""Longest wait for a commit: it grows with the rows."""

STATUS: dict[int, grpc.StatusCode] = {status.value[0]: status for status in grpc.StatusCode}

Code = types.StorageError.StorageErrorCode
PASSING_CODES = {
    Code.STORAGE_ERROR_CODE_UNSPECIFIED,
    Code.TABLE_NOT_FOUND,
    Code.STREAM_NOT_FOUND,
    Code.INVALID_STREAM_STATE,
}

# A table is not known to every server in the moment it is created.
OPENING = Retry(
    predicate=if_exception_type(google_errors.ServiceUnavailable, google_errors.NotFound),
    initial=0.1,
    maximum=2.0,
    timeout=10.0,
)


def write(
    session: BigQuerySession,
    target: AppendTarget,
    batches: Iterable[pa.RecordBatch],
    streams: int,
    report: ProgressCallback | None,
) -> int:
    """Write every batch, and make them visible at once; returns the number of rows.

    Args:
        session: connected.
        target: a table that has the batches' columns.
        batches: in any order of size.
        streams: how many streams share the work.
        report: called with (rows written for good, None).

    Raises:
        DestinationBusy: the server, or the way to it, kept failing.
        DestinationRefused: it does not want the rows.
        ReconciliationError: it counted other rows than were sent.
    """
    opened: deque[AppendStream] = deque()
    done = 0
    try:
        for rows in requests_of(target, batches):
            if len(opened) < streams:
                opened.appendleft(AppendStream(session.writer, target))
            done += opened[0].append(rows)
            opened.rotate(-1)
            if report:
                report(done, None)
        done += sum(stream.finish() for stream in opened)
    finally:
        for stream in opened:
            stream.close()
    if opened:
        commit(session.writer, target.parent, [stream.name for stream in opened])
    return done


def commit(client: BigQueryWriteClient, parent: str, streams: list[str]) -> None:
    """Make the rows of sealed streams visible, all at once.

    Raises:
        DestinationBusy: not done, and the month can be written again.
        DestinationRefused: not done.
    """
    request = types.BatchCommitWriteStreamsRequest(parent=parent, write_streams=streams)
    with explained():
        patient = PATIENT_GRPC.with_timeout(2 * COMMIT_SECONDS)
        answer = client.batch_commit_write_streams(request, retry=patient, timeout=COMMIT_SECONDS)
    # NOTE: what went wrong stands in the answer, it is not raised. A commit whose answer was lost is sent
    # again, and then some streams are committed already; the rows are counted afterwards in any case.
    errors = [error for error in answer.stream_errors if error.code != Code.STREAM_ALREADY_COMMITTED]
    if errors:
        said = "; ".join(f"{Code(error.code).name}: {error.error_message}" for error in errors[:3])
        kind = DestinationBusy if all(error.code in PASSING_CODES for error in errors) else DestinationRefused
        raise kind(f"BigQuery did not commit the streams ({said}); the month there stays, run it again")


class AppendStream:
    """One PENDING stream and its connection. Used by one thread.

    Attributes:
        name: as the server gave it.
    """

    def __init__(self, client: BigQueryWriteClient, target: AppendTarget) -> None:
        """Create the stream; the connection is opened by the first rows."""
        self._client, self._target = client, target
        pending = types.WriteStream(type_=types.WriteStream.Type.PENDING)
        with explained():
            self.name: str = client.create_write_stream(
                parent=target.parent, write_stream=pending, retry=OPENING, timeout=CALL_SECONDS
            ).name
        self._next_offset = 0
        self._unanswered: deque[tuple[int, Rows]] = deque()
        self._connection: _Connection | None = None
        self._failures = 0
        self._progress_at = time.monotonic()

    def append(self, rows: Rows) -> int:
        """Send rows; waits if too many are unanswered. Returns how many rows were written for good."""
        if not self._unanswered:
            self._progress_at = time.monotonic()
        self._unanswered.append((self._next_offset, rows))
        self._next_offset += rows.count
        self._connected().send(*self._unanswered[-1])
        return self._hear_until(IN_FLIGHT)

    def finish(self) -> int:
        """Wait for every answer and seal the stream; returns how many rows were written meanwhile.

        Raises:
            ReconciliationError: the server counts other rows.
        """
        written = self._hear_until(0)
        self.close()
        with explained():
            counted = self._client.finalize_write_stream(
                name=self.name, retry=PATIENT_GRPC, timeout=CALL_SECONDS
            ).row_count
        if counted != self._next_offset:
            raise ReconciliationError(
                f"{self._next_offset:,} rows sent to BigQuery, {counted:,} counted in the stream; the month "
                "that was there before stays. Run it again with --force"
            )
        return written

    def close(self) -> None:
        """Close the connection; what is unanswered stays so."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _hear_until(self, unanswered: int) -> int:
        written = 0
        while len(self._unanswered) > unanswered:
            written += self._hear()
        return written

    def _hear(self) -> int:
        """Take one answer; returns the rows it says are written."""
        offset, rows = self._unanswered[0]
        if failure := self._connected().answer(offset):
            self._resume(failure)
            return 0
        self._unanswered.popleft()
        self._failures, self._progress_at = 0, time.monotonic()
        return rows.count

    def _resume(self, failure: TaxiError) -> None:
        """Open another connection and send everything unanswered again.

        Raises:
            TaxiError: the failure, if it will not pass, or has not passed for long.
        """
        self.close()
        if not isinstance(failure, DestinationBusy) or time.monotonic() - self._progress_at > RESUME_SECONDS:
            raise failure
        pause = min(LONGEST_PAUSE_SECONDS, 0.05 * 2**self._failures)
        time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter
        self._failures += 1
        for offset, rows in self._unanswered:
            self._connected().send(offset, rows)

    def _connected(self) -> _Connection:
        if self._connection is None:
            self._connection = _Connection(self._client, self._target, self.name)
        return self._connection


class _Connection:
    """One AppendRows call: requests go out as they come, answers come back in the same order."""

    def __init__(self, client: BigQueryWriteClient, target: AppendTarget, stream: str) -> None:
        """Open it; an error comes as an answer."""
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
        """Send rows; does not wait."""
        self._outgoing.put(self._target.request(self._stream, offset, rows, first=self._is_first))
        self._is_first = False

    def answer(self, offset: int) -> TaxiError | None:
        """Wait for the next answer, to the request at that offset; None if its rows are written."""
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
            at_fault = [f"row {offset + row.index + 1:,}: {row.message}" for row in answer.row_errors[:1]]
            return _failure(STATUS[answer.error.code], "; ".join([answer.error.message, *at_fault]))
        said = answer.append_result.offset
        if said is not None and said != offset:
            return DestinationBusy(f"BigQuery answered for row {said:,} instead of {offset:,}")
        return None

    def close(self) -> None:
        """End it, whatever is under way."""
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


def _failure(status: grpc.StatusCode, said: str | None) -> TaxiError | None:
    """What an answer that is no success means; None: it had been written already."""
    if status is grpc.StatusCode.ALREADY_EXISTS:
        return None
    # Out of range: a request before this one was lost. Both are cured by sending again.
    if status in (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.CANCELLED):
        return DestinationBusy(f"BigQuery lost the connection ({said or status.name}); the month there stays")
    return refusal(google_errors.from_grpc_status(status, said or status.name))
