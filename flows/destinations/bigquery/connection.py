"""A connection to BigQuery: where it goes, and how long it waits.

Two official clients: REST for datasets, tables and queries, gRPC for the Storage Write API. Left alone they
retry for ten minutes and more, so every call here says how long it may take.
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry, if_exception_type
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

from flows.destinations.bigquery.errors import NoConnection, explained
from flows.errors import DestinationRefused, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from flows.gcp import GoogleIdentity

CONTACT_SECONDS = 4.0
"""Longest wait for the first answer: without a network one wants to know at once."""

CALL_SECONDS = 30.0
"""Longest wait for one answer later on; a call is repeated for twice as long if the server is busy."""

PATIENT = bigquery.DEFAULT_RETRY.with_timeout(2 * CALL_SECONDS)
PATIENT_GRPC = Retry(
    predicate=if_exception_type(
        google_errors.ServiceUnavailable,
        google_errors.Aborted,
        google_errors.InternalServerError,
        google_errors.DeadlineExceeded,
    ),
    initial=0.1,
    maximum=5.0,
    timeout=2 * CALL_SECONDS,
)

NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True, slots=True)
class BigQueryAddress:
    """Where a dataset is.

    Attributes:
        identity: who asks; asked for a token when it connects.
        project, dataset: of Google Cloud.
        location: where the dataset is created if it is not there, such as `US` or `europe-west1`.
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
        """What people may read."""
        return f"{self.project}.{self.dataset}" + (f" at {self.rest_url}" if self.rest_url else "")


def emulator_endpoints(rest: str | None, storage: str | None) -> tuple[str | None, str | None]:
    """The REST URL and the gRPC address of an emulator, in the form the clients want.

    Raises:
        UsageError: only one of the two is given: half of the work would go to Google.
    """
    if not rest and not storage:
        return None, None
    if not rest or not storage:
        lacking = "BIGQUERY_STORAGE_EMULATOR_HOST" if rest else "BIGQUERY_EMULATOR_HOST"
        raise UsageError(
            f"{lacking} is not set, but the other one is. Legal are none of the two, or both: "
            "BIGQUERY_EMULATOR_HOST=http://127.0.0.1:9050 (REST) and "
            "BIGQUERY_STORAGE_EMULATOR_HOST=127.0.0.1:9060 (gRPC)"
        )
    url = rest if "://" in rest else f"http://{rest}"
    return url.rstrip("/"), storage.partition("://")[2].rstrip("/") or storage


class BigQuerySession:
    """The two clients, for as long as a `connected` block.

    Attributes:
        address: where they go.
        location: where the dataset really is; None if there is no dataset yet.
        client: REST.
    """

    def __init__(self, address: BigQueryAddress) -> None:
        """Make the REST client; asks nothing."""
        self.address = address
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

    @property
    def dataset(self) -> str:
        """`project.dataset`."""
        return f"{self.address.project}.{self.address.dataset}"

    def find_dataset(self, retry: Retry = PATIENT, timeout: float = CALL_SECONDS) -> bool:
        """Whether the dataset is there; notes where."""
        try:
            found = self.client.get_dataset(self.dataset, retry=retry, timeout=timeout)
        except google_errors.NotFound:
            return False
        self.location = str(found.location or self.address.location)
        return True

    def ensure_dataset(self) -> None:
        """Create the dataset if it is not there."""
        if self.location:
            return
        wanted = bigquery.Dataset(self.dataset)
        wanted.location = self.address.location
        with explained():
            self.client.create_dataset(wanted, exists_ok=True, retry=PATIENT, timeout=CALL_SECONDS)
            self.find_dataset()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of one query, in one round trip; if the answer is lost, it is asked again."""
        never: Any = None  # the client's own types do not know that it takes it
        with explained():
            found: Iterator[Any] = iter(
                self.client.query_and_wait(
                    sql,
                    location=self.location,
                    retry=PATIENT,
                    job_retry=never,
                    api_timeout=CALL_SECONDS,
                    wait_timeout=10 * CALL_SECONDS,
                )
            )
            return [tuple(row.values()) for row in found]

    def change(self, sql: str) -> None:
        """Run statements that change something, once, whichever answers are lost.

        Raises:
            Conflicting: another transaction changed the same table; nothing of a transaction stays.
        """
        self.run(sql, f"taxi_etl_{secrets.token_hex(16)}", 10 * CALL_SECONDS)

    def run(self, sql: str, job_id: str, seconds: float) -> None:
        """Run a script as the job of that id; asked again, with the same id, it waits for the same job.

        Raises:
            Conflicting: another transaction changed the same table; nothing of the script stays.
        """
        with explained():
            try:
                job: Any = self.client.query(
                    sql,
                    job_id=job_id,
                    location=self.location,
                    retry=PATIENT,
                    job_retry=None,
                    timeout=CALL_SECONDS,
                )
            except google_errors.Conflict:  # sent before, and the answer was lost
                job = self.client.get_job(job_id, location=self.location, retry=PATIENT, timeout=CALL_SECONDS)
            job.result(retry=PATIENT, job_retry=None, timeout=seconds)

    @property
    def writer(self) -> BigQueryWriteClient:
        """The client of the Storage Write API; one channel for all streams of this session.

        Raises:
            DestinationRefused: there is no way to it.
        """
        if self._writer is None:
            address = self.address.grpc_address
            if address:
                channel = grpc.insecure_channel(address, NO_LIMIT)
                self._writer = BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))
            else:
                self._writer = BigQueryWriteClient(credentials=self.address.identity.credentials)
            _check_contact(self._writer, address or "bigquerystorage.googleapis.com")
        return self._writer


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
    """Sign in, look for the dataset, and disconnect at the end of the block.

    Raises:
        DestinationRefused: no way to BigQuery, or no right to look.
    """
    address.identity.sign_in()
    session = BigQuerySession(address)
    with contextlib.closing(session):
        try:
            with explained():
                session.find_dataset(bigquery.DEFAULT_RETRY.with_timeout(CONTACT_SECONDS), CONTACT_SECONDS)
        except NoConnection as error:
            raise DestinationRefused(
                f"no connection to BigQuery for {address} ({error.reason}); check the network, "
                "TAXI_GCP_PROJECT, and BIGQUERY_EMULATOR_HOST if an emulator is meant"
            ) from error
        yield session
