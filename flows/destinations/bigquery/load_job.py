"""From the bucket into BigQuery by a load job: on Google's side, free of charge, a partition at a time.

A load job replaces `table$YYYYMM` atomically, but it cannot write the ledger in the same step. So that the
ledger never describes other rows than those in the table, whenever a run is killed:

1. The month's row of the ledger is replaced by a *pending* one, `row_count` -1, which equals no count: from
   here on the month is not loaded. Its `loaded_at` identifies this load.
2. The load job runs under an id derived from that row. A run after a crash reads the pending row, uses the
   same id, and gets the job that exists already: the month is not loaded twice.
3. The rows are counted. One transaction then replaces the rejects and turns the pending row into a final one,
   unless another run has begun meanwhile.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as google_errors
from google.cloud import bigquery

from flows.destinations.base import LEDGER, REJECTS, Load, Receipt, reconcile_rejects
from flows.destinations.bigquery.connection import REST_LIMITS, BigQuerySession, connected, transaction
from flows.destinations.bigquery.destination import BigQuery
from flows.destinations.bigquery.errors import translate_errors
from flows.destinations.bigquery.ledger import (
    REJECTS_FILE_SCHEMA,
    ledger_of,
    ledger_table,
    read_load,
    rejects_table,
    replace_rejects,
)
from flows.destinations.bigquery.staging_table import staging_table
from flows.destinations.bigquery.tables import (
    CLUSTERED_BY,
    check_names,
    describe_tables,
    ensure_tables,
    literal,
    qualified,
    trips_table,
)
from flows.destinations.ledger import NAMES, to_load
from flows.errors import DestinationBusy, ReconciliationError
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from flows.destinations.gcs import MonthInBucket
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

PENDING = -1  # the `row_count` of a ledger row whose load job is not known to have ended
LOAD_SECONDS = 1800.0  # longest wait for one load job; it takes seconds, but may have to queue
MOST_JOBS = 50  # jobs tried for one load: the id of a failed job cannot be used again


class LoadJobs(BigQuery):
    """The BigQuery dataset of the destination `bigquery`, filled by load jobs."""

    def load(self, source: MonthInBucket, *, is_current: Callable[[], bool], force: bool = False) -> Receipt:
        """Replace the month by the object's rows, unless the same data is already loaded.

        Args:
            source: the object.
            is_current: tells whether the bucket still has this version of the object.
            force: load it even if the same data is already loaded.

        Returns:
            The rows that the job counted, and whether anything was done.

        Raises:
            DestinationBusy: the job may succeed later, or the object was replaced meanwhile.
            DestinationRefused: no network, missing rights, or an exhausted quota.
            ReconciliationError: the job counts other rows than the bucket; the month counts as not loaded.
            SchemaDrift: the table exists in another shape; it is not touched.
        """
        started, month = time.perf_counter(), source.month
        with connected(self._address) as session:
            session.ensure_dataset()
            tables = describe_tables(session, month.dataset.table, LEDGER, REJECTS)
            before = None if force else read_load(session, month, tables)
            if before and before.is_same_data(source.load):
                self._publish_views(session)
                return Receipt(self.name, before.row_count, "unchanged", time.perf_counter() - started)
            check_names(month.dataset.bigquery_columns(source.new_columns))
            definitions = [
                trips_table(session, month.dataset, source.new_columns),
                ledger_table(session),
                rejects_table(session),
            ]
            tables = ensure_tables(session, definitions, tables)
            pending = self._begin(session, source)
            rows = _run_job(session, source, pending)
            if rows != source.load.row_count:
                raise ReconciliationError(
                    f"{source.uri} has {source.load.row_count:,} rows, the load job counts {rows:,}; the "
                    "month counts as not loaded. Upload it again with --force, and load it again"
                )
            if not is_current():
                self._write_pending(session, source)
                raise DestinationBusy(
                    f"{source.uri} was replaced while it was loaded; the month counts as not loaded, run it "
                    "again"
                )
            self._finish(session, source, pending)
            load = read_load(session, month, tables)
            self._publish_views(session)
        if load is None or not load.is_same_data(source.load):
            raise DestinationBusy(
                f"{month.label} was changed by somebody else while it was loaded; run it again"
            )
        return Receipt(self.name, rows, "published", time.perf_counter() - started)

    def _begin(self, session: BigQuerySession, source: MonthInBucket) -> Load:
        """The pending row of this load: that of a killed run, or a new one."""
        row = _ledger_row(session, source.month)
        if row and row.is_same_data(replace(source.load, row_count=PENDING)):
            logger.info("%s: going on with a load that was begun at %s", source.month.label, row.loaded_at)
            return row
        return self._write_pending(session, source)

    def _write_pending(self, session: BigQuerySession, source: MonthInBucket) -> Load:
        row = replace(source.load, row_count=PENDING, loaded_at=dt.datetime.now(dt.UTC))
        statements = [statement for statement, _ in ledger_of(session).replace_row(row)]
        self._change_ledger(session, transaction(*statements))
        return row

    def _finish(self, session: BigQuerySession, source: MonthInBucket, pending: Load) -> None:
        """Replace the rejects and make the pending row final, unless another run has replaced it."""
        ledger = qualified(session, LEDGER)
        is_ours = (
            f"{ledger_of(session).is_month(pending.dataset, pending.file_month)} "
            f"AND row_count = {PENDING} AND loaded_at = {literal(pending.loaded_at)}"
        )
        final = (
            f"UPDATE {ledger} SET row_count = {source.load.row_count}, "
            f"source = {literal(source.load.source)}, loaded_at = {literal(dt.datetime.now(dt.UTC))} "
            f"WHERE {is_ours}"
        )
        still_ours = f"EXISTS (SELECT 1 FROM {ledger} WHERE {is_ours})"
        with _staged_rejects(session, source) as staging:
            delete, *insert = replace_rejects(session, source.load, staging)
            statements = [f"{delete} AND {still_ours}", *(f"{one} WHERE {still_ours}" for one in insert)]
            self._change_ledger(session, transaction(*statements, final))

    def _change_ledger(self, session: BigQuerySession, sql: str) -> None:
        session.run_with_retry(sql, LEDGER, self._lock_timeout_seconds)


@contextlib.contextmanager
def _staged_rejects(session: BigQuerySession, source: MonthInBucket) -> Generator[str | None]:
    """Load the rejects of the month into a staging table; most months have none."""
    uri = source.rejects_uri
    if uri is None:
        yield None
        return
    with staging_table(session, source.month, REJECTS_FILE_SCHEMA) as staging, translate_errors():
        config = _job_config(REJECTS_FILE_SCHEMA)
        where: Any = {"location": session.location, **REST_LIMITS}
        target = f"{session.dataset}.{staging}"
        job = session.client.load_table_from_uri(uri, target, job_config=config, **where)
        job.result(retry=REST_LIMITS["retry"], timeout=LOAD_SECONDS)
        reconcile_rejects("bigquery", source.load.rejected_rows, int(job.output_rows or 0))
        yield staging


def _job_config(schema: Sequence[Mapping[str, str]], **layout: object) -> bigquery.LoadJobConfig:
    """Everything is given explicitly: format, schema, partitioning, what happens to the old rows."""
    options = bigquery.ParquetOptions()
    options.enum_as_string = True  # an ENUM would be loaded as BYTES
    options.enable_list_inference = False
    config: Any = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        schema=schema,
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
        **layout,
    )
    config.parquet_options = options
    return config


def _job_id(month: TripMonth, pending: Load, number: int) -> str:
    """The same in every run that resumes this load; each job that failed makes room for another one."""
    load = (pending.source_sha256, pending.schema_version, pending.row_transforms)
    identity = "|".join([*load, pending.loaded_at.isoformat()])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return f"taxi_etl_load_{month.dataset.table}_{month.year:04}{month.month:02}_{digest}_{number}"


def _ledger_row(session: BigQuerySession, month: TripMonth) -> Load | None:
    """The row of a month, whatever it records; None if there is none, or several."""
    is_month = ledger_of(session).is_month(month.color, month.first_day)
    rows = session.rows(f"SELECT {', '.join(NAMES)} FROM {qualified(session, LEDGER)} WHERE {is_month}")
    return to_load(rows[0]) if len(rows) == 1 else None


def _run_job(session: BigQuerySession, source: MonthInBucket, pending: Load) -> int:
    """Run the load job, or find the one that a killed run started; returns the rows it counts.

    Raises:
        DestinationBusy: it failed in a way that may pass, or too many have failed.
        DestinationRefused: it failed.
    """
    for number in range(1, MOST_JOBS + 1):
        with translate_errors():
            job, is_old = _insert(session, source, _job_id(source.month, pending, number))
            if is_old and job.state == "DONE" and job.error_result:
                continue
            job.result(retry=REST_LIMITS["retry"], timeout=LOAD_SECONDS)
        rows = int(job.output_rows or 0)
        if is_old and _count(session, source.month) != rows:
            continue  # the rows it loaded have been replaced or deleted since
        return rows
    raise DestinationBusy(
        f"{MOST_JOBS} load jobs of {source.month.label} have failed; see what they say in the job history, "
        "and begin anew with --force"
    )


def _insert(session: BigQuerySession, source: MonthInBucket, name: str) -> tuple[Any, bool]:
    """Insert a job, or get the one that has this id; returns whether it existed."""
    month = source.month
    target = f"{session.dataset}.{month.dataset.table}${month.year:04}{month.month:02}"
    where: Any = {"job_id": name, "location": session.location, **REST_LIMITS}
    config = _job_config(
        month.dataset.bigquery_schema(source.new_columns),
        time_partitioning=bigquery.TimePartitioning("MONTH", FILE_MONTH),
        clustering_fields=CLUSTERED_BY,
    )
    try:
        job = session.client.load_table_from_uri(source.uri, target, job_config=config, **where)
    except google_errors.Conflict:
        return session.client.get_job(**where), True
    return job, False


def _count(session: BigQuerySession, month: TripMonth) -> int:
    table = qualified(session, month.dataset.table)
    [[rows]] = session.rows(f"SELECT count(*) FROM {table} WHERE {FILE_MONTH} = {literal(month.first_day)}")
    return int(rows)
