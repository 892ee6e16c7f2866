"""The two official clients of BigQuery, and how long their calls wait: REST, and gRPC for the Write API.

By default they retry for ten minutes and more, so every call sets its own limits.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry, if_exception_type
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

from flows.destinations.bigquery.errors import NoConnection, TransactionConflict, translate_errors
from flows.errors import DestinationRefused, LockTimeout, UsageError
from flows.runtime import CONTENTION, RetryPolicy, retry_transient

if TYPE_CHECKING:
    from flows.gcp import GoogleIdentity

CONTACT_SECONDS = 4.0  # longest wait for the first answer: a missing network is reported at once
CALL_SECONDS = 30.0  # longest wait for any other answer; retried for twice as long if the server is busy
QUERY_SECONDS = 300.0
SCRIPT_SECONDS = 600.0

REST_LIMITS: dict[str, Any] = {
    "retry": bigquery.DEFAULT_RETRY.with_timeout(2 * CALL_SECONDS),
    "timeout": CALL_SECONDS,
}
"""Keyword arguments of every REST call."""

TRANSIENT_ERRORS = (
    google_errors.ServiceUnavailable,
    google_errors.Aborted,
    google_errors.InternalServerError,
    google_errors.DeadlineExceeded,
)
GRPC_RETRY = Retry(if_exception_type(*TRANSIENT_ERRORS), initial=0.1, maximum=5.0, timeout=2 * CALL_SECONDS)
# Not every server knows a table that has just been created.
OPEN_STREAM_RETRY = Retry(
    if_exception_type(google_errors.ServiceUnavailable, google_errors.NotFound),
    initial=0.1,
    maximum=2.0,
    timeout=10.0,
)

NO_MESSAGE_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True, slots=True)
class BigQueryAddress:
    """Where a dataset is.

    Attributes:
        identity: the account; it signs in when a session is opened.
        project, dataset: of Google Cloud.
        location: where the dataset is created if it does not exist, such as `US` or `europe-west1`.
        rest_url: of an emulator; None for Google.
        grpc_address: of an emulator, `host:port`; None for Google.
    """

    identity: GoogleIdentity = field(repr=False)
    project: str
    dataset: str
    location: str
    rest_url: str | None = None
    grpc_address: str | None = None

    def __str__(self) -> str:
        """The address without credentials."""
        return f"{self.project}.{self.dataset}" + (f" at {self.rest_url}" if self.rest_url else "")


def emulator_endpoints(rest: str | None, storage: str | None) -> tuple[str | None, str | None]:
    """The endpoints of an emulator as the clients expect them.

    Args:
        rest: BIGQUERY_EMULATOR_HOST, with or without a scheme.
        storage: BIGQUERY_STORAGE_EMULATOR_HOST, with or without a scheme.

    Returns:
        REST URL and gRPC address; both None for Google.

    Raises:
        UsageError: only one of the two is set; half of the calls would go to Google.
    """
    if not rest and not storage:
        return None, None
    if not rest or not storage:
        missing = "BIGQUERY_STORAGE_EMULATOR_HOST" if rest else "BIGQUERY_EMULATOR_HOST"
        raise UsageError(
            f"{missing} is not set, but the other one is. Legal are none of the two, or both: "
            "BIGQUERY_EMULATOR_HOST=http://127.0.0.1:9050 (REST) and "
            "BIGQUERY_STORAGE_EMULATOR_HOST=127.0.0.1:9060 (gRPC)"
        )
    url = rest if "://" in rest else f"http://{rest}"
    return url.rstrip("/"), storage.partition("://")[2].rstrip("/") or storage


class BigQuerySession:
    """The two clients, for the length of a `connected` block.

    Attributes:
        address: the dataset's.
        dataset: `project.dataset`.
        location: where the dataset is; None if it does not exist.
        client: for REST.
    """

    def __init__(self, address: BigQueryAddress) -> None:
        """Create the REST client, without a call."""
        self.address = address
        self.dataset = f"{address.project}.{address.dataset}"
        self.location: str | None = None
        options: Any = {"api_endpoint": address.rest_url} if address.rest_url else None
        self.client = bigquery.Client(
            project=address.project, credentials=address.identity.credentials, client_options=options
        )
        self._writer: BigQueryWriteClient | None = None

    def close(self) -> None:
        """Close every connection."""
        self.client.close()
        if self._writer:
            self._writer.transport.close()

    def find_location(self, limits: dict[str, Any] = REST_LIMITS) -> None:
        """Set `location`, if the dataset exists.

        Args:
            limits: `retry` and `timeout` of the call.
        """
        with contextlib.suppress(google_errors.NotFound):
            dataset = self.client.get_dataset(self.dataset, **limits)
            self.location = str(dataset.location or self.address.location)

    def ensure_dataset(self) -> None:
        """Create the dataset if it does not exist."""
        if self.location:
            return
        dataset = bigquery.Dataset(self.dataset)
        dataset.location = self.address.location
        with translate_errors():
            self.client.create_dataset(dataset, exists_ok=True, **REST_LIMITS)
            self.find_location()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one query in one round trip; if the answer is lost, it is run again.

        Args:
            sql: a statement that changes nothing.

        Returns:
            Its rows.
        """
        never: Any = None  # the client's type hints do not allow None
        with translate_errors():
            rows: Any = self.client.query_and_wait(
                sql,
                location=self.location,
                retry=REST_LIMITS["retry"],
                job_retry=never,
                api_timeout=CALL_SECONDS,
                wait_timeout=QUERY_SECONDS,
            )
            return [tuple(row.values()) for row in rows]

    def run(self, sql: str, job_id: str | None = None) -> None:
        """Run statements that change something, exactly once, even if an answer is lost.

        Args:
            sql: the statements.
            job_id: of the job that runs them; if there is such a job already, it is waited for instead.

        Raises:
            TransactionConflict: another transaction changed the same table; this one was rolled back.
        """
        job_id = job_id or f"taxi_etl_{secrets.token_hex(16)}"
        with translate_errors():
            try:
                job: Any = self.client.query(
                    sql, job_id=job_id, location=self.location, job_retry=None, **REST_LIMITS
                )
            except google_errors.Conflict:  # sent before, and the answer was lost
                job = self.client.get_job(job_id, location=self.location, **REST_LIMITS)
            job.result(retry=REST_LIMITS["retry"], job_retry=None, timeout=SCRIPT_SECONDS)

    def run_with_retry(
        self, sql: str, table: str, lock_timeout_seconds: float, job_name: str | None = None
    ) -> None:
        """Run a transaction, and run it again as long as it conflicts with others.

        Args:
            sql: statements that have the same effect however often they run.
            table: what they change, for the message.
            lock_timeout_seconds: no new attempt after that.
            job_name: the n-th attempt runs as the job `{job_name}_{n}`.

        Raises:
            LockTimeout: the last attempt conflicted, too; nothing has changed.
        """
        job_name = job_name or f"taxi_etl_{secrets.token_hex(16)}"
        numbers = itertools.count(1)
        policy = RetryPolicy(None, 0.2, 10.0, lock_timeout_seconds, CONTENTION)
        try:
            retry_transient(
                lambda: self.run(sql, f"{job_name}_{next(numbers)}"), policy, retry_on=TransactionConflict
            )
        except TransactionConflict as error:
            raise LockTimeout(
                f"other runs have been changing {table} for {lock_timeout_seconds:g} s; let them finish, or "
                "give it more time with TAXI_LOCK_TIMEOUT_SECONDS"
            ) from error

    @property
    def writer(self) -> BigQueryWriteClient:
        """The client of the Storage Write API; all streams of the session share its channel.

        Raises:
            DestinationRefused: no connection to it can be made.
        """
        if self._writer is None:
            address = self.address.grpc_address
            if address:
                channel = grpc.insecure_channel(address, NO_MESSAGE_LIMIT)
                self._writer = BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))
            else:
                self._writer = BigQueryWriteClient(credentials=self.address.identity.credentials)
            _check_contact(self._writer, address or "bigquerystorage.googleapis.com")
        return self._writer


def transaction(*statements: str) -> str:
    """The script that runs statements as one transaction."""
    return ";\n".join(["BEGIN TRANSACTION", *statements, "COMMIT TRANSACTION", ""])


def _check_contact(writer: BigQueryWriteClient, address: str) -> None:
    transport: Any = writer.transport
    try:
        grpc.channel_ready_future(transport.grpc_channel).result(timeout=CONTACT_SECONDS)
    except grpc.FutureTimeoutError as error:
        raise DestinationRefused(
            f"no connection to the Storage Write API at {address} within {CONTACT_SECONDS:g} s; check the "
            "network (gRPC over port 443), and BIGQUERY_STORAGE_EMULATOR_HOST if an emulator is meant"
        ) from error


@contextlib.contextmanager
def connected(address: BigQueryAddress) -> Generator[BigQuerySession]:
    """Open a session for the length of a block.

    Args:
        address: the dataset's; it need not exist.

    Yields:
        The session, signed in, with `location` set if the dataset exists.

    Raises:
        DestinationRefused: no connection to BigQuery, or no right to read the dataset.
    """
    address.identity.sign_in()
    session = BigQuerySession(address)
    with contextlib.closing(session):
        retry = bigquery.DEFAULT_RETRY.with_timeout(CONTACT_SECONDS)
        try:
            with translate_errors():
                session.find_location({"retry": retry, "timeout": CONTACT_SECONDS})
        except NoConnection as error:
            raise DestinationRefused(
                f"no connection to BigQuery for {address} ({error.reason}); check the network, "
                "TAXI_GCP_PROJECT, and BIGQUERY_EMULATOR_HOST if an emulator is meant"
            ) from error
        yield session
