"""Destination `bigquery`: a month is streamed as Arrow beside the table, and swapped in in one transaction.

How it works, what it costs, which roles it needs: docs/google.md.
"""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Self

import pyarrow as pa
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from flows.destinations.base import ALL_MONTHS, Holding, Load, Receipt, reconcile
from flows.destinations.bigquery import ledger as ledger
from flows.destinations.bigquery.append_requests import AppendTarget
from flows.destinations.bigquery.connection import BigQueryAddress, connected, emulator_endpoints
from flows.destinations.bigquery.errors import Conflicting
from flows.destinations.bigquery.staging_table import drop_orphaned_tables, staging_table
from flows.destinations.bigquery.tables import (
    check_arriving,
    check_names,
    ensure_target,
    literal,
    missing_columns,
    quoted,
)
from flows.destinations.bigquery.write_streams import write
from flows.destinations.staged_batches import staged_batches, staged_schema
from flows.errors import DestinationBusy, LockTimeout, UsageError
from flows.gcp import google_credentials
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from flows.destinations.bigquery.connection import BigQuerySession
    from flows.destinations.bigquery.ledger import Tables
    from flows.destinations.bigquery.staging_table import Staging
    from flows.runtime import ProgressCallback
    from flows.settings import Settings
    from flows.staging import StagedMonth
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth

BATCH_ROWS = 16_384
"""Some 2.5 MB of yellow trips; a batch that is too large for a request is cut."""

STREAM_BYTES = 32 * 2**20
MOST_STREAMS = 4
"""One stream for each 32 MiB of Parquet, up to four: a connection to Google carries some 10 MB/s."""

SWAP_SECONDS = 600.0
"""Longest wait for one transaction to end."""

# Transactions that change one table at once are aborted but for one: those of a process wait for each other.
_turn = threading.Lock()


class BigQuery:
    """A dataset in which every TLC dataset is one table, a partition a month."""

    name = "bigquery"

    def __init__(self, address: BigQueryAddress, lock_timeout_seconds: float) -> None:
        """Remember where; connects only when used."""
        self._address = address
        self._lock_timeout_seconds = lock_timeout_seconds

    @classmethod
    def from_settings(cls, data_dir: Path, settings: Settings) -> Self:  # noqa: ARG003 - the protocol's
        """The dataset that the settings name; nothing is asked of BigQuery yet.

        Raises:
            UsageError: a setting is missing or cannot be, or there are no credentials.
        """
        rest_url, grpc_address = emulator_endpoints(
            settings.bigquery_emulator_host, settings.bigquery_storage_emulator_host
        )
        if not re.fullmatch(r"\w{1,1024}", settings.bigquery_dataset, re.ASCII):
            raise UsageError(
                f"TAXI_BIGQUERY_DATASET={settings.bigquery_dataset!r}: legal are letters, digits and _, "
                "such as trips_data_all"
            )
        identity = google_credentials(settings, emulator=rest_url)
        if not identity.project:
            raise UsageError(
                "no Google Cloud project is named. Tried: the environment variable TAXI_GCP_PROJECT, the "
                f"same in .env, {identity.origin}"
            )
        return cls(
            BigQueryAddress(
                identity=identity,
                project=identity.project,
                dataset=settings.bigquery_dataset,
                location=settings.bigquery_location,
                rest_url=rest_url,
                grpc_address=grpc_address,
            ),
            settings.lock_timeout_seconds,
        )

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """See `Destination.publish`.

        Raises:
            DestinationRefused: no network, no right to do it, no quota left.
        """
        started = time.perf_counter()
        check_names(staged.month.dataset.bigquery_columns(staged.new_columns))
        with connected(self._address) as session:
            session.ensure_dataset()
            drop_orphaned_tables(session, staged.month.dataset.table)
            tables = ledger.look(session, staged.month.dataset)
            before = None if force else ledger.read(session, staged.month, tables)
            if before and before.is_same_data(Load.of(staged)):
                seconds = time.perf_counter() - started
                return Receipt(self.name, before.row_count, "unchanged", seconds)
            _check_shapes(tables, staged)
            tables = self._replace(session, staged, tables, report)
            rows = _rows_now(session, staged.month, tables)
        if report:
            report(staged.rows, staged.rows)
        return Receipt(self.name, rows, "published", time.perf_counter() - started)

    def loaded(self, month: TripMonth) -> Load | None:
        """See `Destination.loaded`."""
        with connected(self._address) as session:
            return ledger.read(session, month) if session.location else None

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """See `Destination.holdings`."""
        with connected(self._address) as session:
            if not session.location:
                return []
            return ledger.holdings(session, dataset, between, ledger.look(session, dataset))

    def _replace(
        self, session: BigQuerySession, staged: StagedMonth, tables: Tables, report: ProgressCallback | None
    ) -> Tables:
        """Load the month beside the table, count it, and swap it in.

        Args:
            session: whose dataset is there.
            staged: the month.
            tables: as they were before.
            report: called with (rows done, rows in all).

        Returns:
            The tables as they are now.

        Raises:
            ReconciliationError: the staging table has other rows than were staged.
            LockTimeout: other transactions left no room.
        """
        dataset, new = staged.month.dataset, staged.new_columns
        columns = dataset.bigquery_columns(new)
        arriving = staged_schema(staged.path, columns).names
        with (
            staged_batches(staged.path, arriving, BATCH_ROWS) as batches,
            staging_table(session, staged.month, dataset.bigquery_schema(new)) as staging,
        ):
            check_arriving(staging.name, columns, batches.schema)
            target = AppendTarget.of(session, staging.name, _never_null(batches.schema))
            write(session, target, batches, _streams(staged), _of(staged.rows, report))
            [[rows]] = session.rows(f"SELECT count(*) FROM {quoted(f'{session.dataset}.{staging.name}')}")
            reconcile(self.name, staged.rows, rows)
            with _turn:
                tables = ledger.Tables(
                    ensure_target(session, dataset, new, tables.target),
                    ledger.ensure(session, tables.ledger),
                )
                self._swap_in(session, staging, list(columns), staged)
        return tables

    def _swap_in(
        self, session: BigQuerySession, staging: Staging, columns: list[str], staged: StagedMonth
    ) -> None:
        """Run the transaction until no other one is in its way.

        It may run twice without harm, because it puts the same rows in place of the same month. So a new
        job is made only when the last one is known to have failed, and a job is never sent twice.
        """
        script = _script(session, staging, columns, staged)
        attempts = Retrying(
            retry=retry_if_exception_type(Conflicting),
            wait=wait_random_exponential(multiplier=0.2, max=10),
            stop=stop_after_delay(self._lock_timeout_seconds),
            reraise=True,
        )
        try:
            for attempt in attempts:
                with attempt:
                    number = attempt.retry_state.attempt_number
                    session.run(script, staging.job_id(number), SWAP_SECONDS)
        except Conflicting as error:
            raise LockTimeout(
                f"other runs have been changing {staged.month.dataset.table} for "
                f"{self._lock_timeout_seconds:g} s; let them finish, or give it more time with "
                "TAXI_LOCK_TIMEOUT_SECONDS"
            ) from error


def _check_shapes(tables: Tables, staged: StagedMonth) -> None:
    """Refuse tables of another shape before anything is written.

    Raises:
        SchemaDrift: names every difference.
    """
    if tables.target:
        missing_columns(tables.target, staged.month.dataset, staged.new_columns)
    if tables.ledger:
        ledger.missing_columns(tables.ledger)


def _script(session: BigQuerySession, staging: Staging, columns: list[str], staged: StagedMonth) -> str:
    """The month and its ledger row in place of the old ones, in one transaction, by column names."""
    table = quoted(f"{session.dataset}.{staged.month.dataset.table}")
    names = ", ".join(map(quoted, columns))
    statements = [
        "BEGIN TRANSACTION",
        f"DELETE FROM {table} WHERE {FILE_MONTH} = {literal(staged.month.first_day)}",
        f"INSERT INTO {table} ({names}) SELECT {names} FROM {quoted(f'{session.dataset}.{staging.name}')}",
        *ledger.writing(session, Load.of(staged)),
        "COMMIT TRANSACTION",
    ]
    return ";\n".join([*statements, ""])


def _rows_now(session: BigQuerySession, month: TripMonth, tables: Tables) -> int:
    """The rows of a month that has just been published, as the table counts them.

    Raises:
        DestinationBusy: they are not those the ledger says, because somebody else wrote at the same time.
    """
    load = ledger.read(session, month, tables)
    if load is None:
        raise DestinationBusy(
            f"{month.label} was changed by somebody else while it was published; run it again"
        )
    return load.row_count


def _streams(staged: StagedMonth) -> int:
    return min(MOST_STREAMS, 1 + staged.path.stat().st_size // STREAM_BYTES)


def _never_null(schema: pa.Schema) -> pa.Schema:
    """The schema with the file month marked as never null, as the table has it."""
    return pa.schema([field.with_nullable(field.name != FILE_MONTH) for field in schema])


def _of(rows: int, report: ProgressCallback | None) -> ProgressCallback | None:
    """The same report, told the total."""
    return (lambda done, _=None: report(done, rows)) if report else None
