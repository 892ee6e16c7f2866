"""From the bucket into BigQuery by a load job: on the server's side, free of charge, a partition at a time.

A load job replaces `table$YYYYMM` atomically, but it cannot write the ledger in the same step. So that the
ledger never says of rows what is not true of them, whenever a run is killed:

1. The month's row of the ledger is replaced by a *pending* one, `row_count` -1, which no count can equal:
   from here on the month counts as not loaded. Its `loaded_at` tells this load from all others.
2. The load job runs under an id made from that row. Whoever comes again after a crash finds the pending row,
   asks for the same id, and is told that there is such a job already: the month is not loaded twice.
3. The rows are counted, and the pending row becomes a real one, unless somebody else has begun meanwhile.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as google_errors
from google.cloud import bigquery
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from flows.destinations.base import LEDGER, Load, Receipt
from flows.destinations.bigquery import ledger as ledger
from flows.destinations.bigquery.connection import CALL_SECONDS, PATIENT, connected
from flows.destinations.bigquery.destination import BigQuery
from flows.destinations.bigquery.errors import Conflicting, explained
from flows.destinations.bigquery.tables import CLUSTERED_BY, ensure_target, literal, quoted, schema_fields
from flows.errors import DestinationBusy, LockTimeout, ReconciliationError
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.destinations.bigquery.connection import BigQuerySession
    from flows.destinations.bigquery.ledger import Tables
    from flows.destinations.gcs import MonthInBucket
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

PENDING = -1
"""The `row_count` of a ledger row whose load job is not known to have ended."""

LOAD_SECONDS = 1800.0
"""Longest wait for one load job; a month takes seconds, but jobs may have to queue."""

MOST_JOBS = 50
"""Failed jobs of one load that are passed over, because the id of a failed job is used up."""


class LoadJobs(BigQuery):
    """The dataset of the destination `bigquery`, filled by load jobs."""

    def load(self, found: MonthInBucket, *, is_current: Callable[[], bool], force: bool = False) -> Receipt:
        """Replace the month by the object's rows, unless they are there already.

        Args:
            found: the object.
            is_current: whether it is still that version of the object.
            force: load it even if it is there already.

        Raises:
            DestinationBusy: the job failed in a way that may pass, or the object was replaced meanwhile.
            DestinationRefused: no network, no right to do it, no quota left.
            ReconciliationError: the job counts other rows than the bucket; the month counts as not loaded.
            SchemaDrift: the table exists in another shape; it is not touched.
        """
        started = time.perf_counter()
        with connected(self._address) as session:
            session.ensure_dataset()
            tables = ledger.look(session, found.month.dataset)
            before = None if force else ledger.read(session, found.month, tables)
            if before and before.is_same_data(found.load):
                seconds = time.perf_counter() - started
                return Receipt(self.name, before.row_count, "unchanged", seconds)
            tables = ledger.Tables(
                ensure_target(session, found.month.dataset, found.new_columns, tables.target),
                ledger.ensure(session, tables.ledger),
            )
            pending = self._announce(session, found)
            rows = _run(session, found, pending)
            if rows != found.load.row_count:
                raise ReconciliationError(
                    f"{found.uri} has {found.load.row_count:,} rows, the load job counts {rows:,}; the month "
                    "counts as not loaded. Upload it again with --force, and load it again"
                )
            if not is_current():
                self._note(session, _writing_pending(session, _pending_row(found)))
                raise DestinationBusy(
                    f"{found.uri} was replaced while it was loaded; the month counts as not loaded, run it "
                    "again"
                )
            self._settle(session, found, pending, tables)
        return Receipt(self.name, rows, "published", time.perf_counter() - started)

    def _announce(self, session: BigQuerySession, found: MonthInBucket) -> Load:
        """The pending row of this load: that of a run that was killed, or a new one."""
        row = _ledger_row(session, found.month)
        wanted = _pending_row(found)
        if row and row.row_count == PENDING and row.is_same_data(wanted):
            logger.info("%s: going on with a load that was begun at %s", found.month.label, row.loaded_at)
            return row
        self._note(session, _writing_pending(session, wanted))
        return wanted

    def _settle(self, session: BigQuerySession, found: MonthInBucket, pending: Load, tables: Tables) -> None:
        """Turn the pending row into a real one.

        Raises:
            DestinationBusy: it is not there any more: somebody else loads this month.
        """
        self._note(
            session,
            f"UPDATE {_ledger(session)} SET row_count = {found.load.row_count}, source = "
            f"{literal(found.load.source)}, loaded_at = {literal(dt.datetime.now(dt.UTC))} "
            f"WHERE {_key(found.month)} AND row_count = {PENDING} "
            f"AND loaded_at = {literal(pending.loaded_at)}",
        )
        load = ledger.read(session, found.month, tables)
        if load is None or not load.is_same_data(found.load):
            raise DestinationBusy(
                f"{found.month.label} was changed by somebody else while it was loaded; run it again"
            )

    def _note(self, session: BigQuerySession, statements: str) -> None:
        """Change the ledger, as soon as others that change it are through.

        Raises:
            LockTimeout: they never were.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(Conflicting),
            wait=wait_random_exponential(multiplier=0.2, max=10),
            stop=stop_after_delay(self._lock_timeout_seconds),
            reraise=True,
        )
        try:
            attempts(session.change, statements)
        except Conflicting as error:
            raise LockTimeout(
                f"other runs have been changing {LEDGER} for {self._lock_timeout_seconds:g} s; let them "
                "finish, or give it more time with TAXI_LOCK_TIMEOUT_SECONDS"
            ) from error


def job_config(found: MonthInBucket) -> bigquery.LoadJobConfig:
    """Everything said, nothing left to guess: format, schema, partition, what becomes of the old rows."""
    options = bigquery.ParquetOptions()
    options.enum_as_string = True  # text stays text, whatever the file calls it
    options.enable_list_inference = False
    config: Any = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        schema=schema_fields(found.month.dataset.bigquery_schema(found.new_columns)),
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
        time_partitioning=bigquery.TimePartitioning("MONTH", FILE_MONTH),
        clustering_fields=list(CLUSTERED_BY),
    )
    config.parquet_options = options
    return config


def job_id(month: TripMonth, pending: Load, number: int) -> str:
    """The same for the same load, and another one for every job of it that failed for good."""
    load = (
        pending.source_sha256,
        pending.schema_version,
        pending.row_transforms,
        pending.loaded_at.isoformat(),
    )
    digest = hashlib.sha256("|".join(load).encode()).hexdigest()[:16]
    return f"taxi_etl_load_{month.dataset.table}_{month.year:04}{month.month:02}_{digest}_{number}"


def _run(session: BigQuerySession, found: MonthInBucket, pending: Load) -> int:
    """Run the load job, or find the one that has run; the rows it counts.

    Raises:
        DestinationBusy: it failed in a way that may pass, or too many have failed.
        DestinationRefused: it failed.
    """
    for number in range(1, MOST_JOBS + 1):
        name = job_id(found.month, pending, number)
        with explained():
            job, is_old = _insert(session, found, name)
            if is_old and job.state == "DONE" and job.error_result:
                continue  # its id is used up
            job.result(retry=PATIENT, timeout=LOAD_SECONDS)
        rows = int(job.output_rows or 0)
        if is_old and _count(session, found.month) != rows:
            continue  # what it loaded is gone
        return rows
    raise DestinationBusy(
        f"{MOST_JOBS} load jobs of {found.month.label} have failed; see what they say in the job history, "
        "and begin anew with --force"
    )


def _insert(session: BigQuerySession, found: MonthInBucket, name: str) -> tuple[Any, bool]:
    """Insert a job, and whether there was one of that id already."""
    month = found.month
    target = f"{session.dataset}.{month.dataset.table}${month.year:04}{month.month:02}"
    try:
        job = session.client.load_table_from_uri(
            found.uri,
            target,
            job_id=name,
            location=session.location,
            job_config=job_config(found),
            retry=PATIENT,
            timeout=CALL_SECONDS,
        )
    except google_errors.Conflict:
        return session.client.get_job(
            name, location=session.location, retry=PATIENT, timeout=CALL_SECONDS
        ), True
    return job, False


def _count(session: BigQuerySession, month: TripMonth) -> int:
    table = quoted(f"{session.dataset}.{month.dataset.table}")
    [[rows]] = session.rows(f"SELECT count(*) FROM {table} WHERE {FILE_MONTH} = {literal(month.first_day)}")
    return int(rows)


def _pending_row(found: MonthInBucket) -> Load:
    return replace(found.load, row_count=PENDING, loaded_at=dt.datetime.now(dt.UTC))


def _writing_pending(session: BigQuerySession, row: Load) -> str:
    return ";\n".join(["BEGIN TRANSACTION", *ledger.writing(session, row), "COMMIT TRANSACTION", ""])


def _ledger_row(session: BigQuerySession, month: TripMonth) -> Load | None:
    """The month's row, whatever it says."""
    found = session.rows(f"SELECT {ledger.NAMES} FROM {_ledger(session)} WHERE {_key(month)}")
    if len(found) != 1:
        return None
    *values, loaded_at = found[0]
    return Load(*values, loaded_at=loaded_at.astimezone(dt.UTC))


def _ledger(session: BigQuerySession) -> str:
    return quoted(f"{session.dataset}.{LEDGER}")


def _key(month: TripMonth) -> str:
    return f"dataset = {literal(month.color)} AND {FILE_MONTH} = {literal(month.first_day)}"
