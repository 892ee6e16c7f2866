"""Destination `bigquery`: a month is streamed into a staging table, and swapped in in one transaction.

How it works, what it costs, which roles it needs: docs/reference/google.md.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from flows.destinations.base import (
    ALL_MONTHS,
    LEDGER,
    REJECTS,
    Holding,
    Load,
    Receipt,
    reconcile,
    reconcile_rejects,
    require_relations,
)
from flows.destinations.bigquery.append_requests import AppendTarget
from flows.destinations.bigquery.connection import (
    BigQueryAddress,
    BigQuerySession,
    connected,
    emulator_endpoints,
    transaction,
)
from flows.destinations.bigquery.ledger import (
    REJECTS_FILE_SCHEMA,
    ledger_of,
    ledger_table,
    read_load,
    rejects_table,
    replace_rejects,
)
from flows.destinations.bigquery.staging_table import drop_orphaned_tables, staging_table
from flows.destinations.bigquery.tables import (
    Tables,
    check_batches,
    check_names,
    check_tables,
    describe_tables,
    ensure_tables,
    literal,
    qualified,
    quoted,
    trips_table,
)
from flows.destinations.bigquery.views import publish_views
from flows.destinations.bigquery.write_streams import write
from flows.destinations.ledger import REJECTS_FILE_COLUMNS
from flows.destinations.staged_batches import staged_batches, staged_schema
from flows.errors import DestinationBusy, UsageError
from flows.gcp import google_credentials
from transforms import sql
from transforms.dataset import FILE_MONTH, Dataset

if TYPE_CHECKING:
    from google.cloud import bigquery

    from flows.runtime import ProgressCallback
    from flows.settings import Settings
    from flows.staging import StagedMonth
    from transforms.trip_month import TripMonth

REJECTS_IN_BATCH = 256  # decoded at once, each with a text of up to 64 kB
BATCH_ROWS = 16_384  # about 2.5 MB of yellow trips; a batch that is too large for a request is split

# A connection to Google carries about 10 MB/s: one stream for each 32 MiB of Parquet, up to four.
STREAM_BYTES = 32 * 2**20
MOST_STREAMS = 4

# BigQuery aborts all but one of the transactions that change a table: those of this process take turns.
_turn = threading.Lock()


class BigQuery:
    """A BigQuery dataset in which every TLC dataset is one table with a partition for each month."""

    name = "bigquery"

    def __init__(
        self, address: BigQueryAddress, lock_timeout_seconds: float, *, with_views: bool = True
    ) -> None:
        """Keep the address; nothing is connected yet.

        Args:
            address: the BigQuery dataset's.
            lock_timeout_seconds: how long transactions of other runs are waited for.
            with_views: make the views and dimension tables.
        """
        self._address, self._with_views = address, with_views
        self._lock_timeout_seconds = lock_timeout_seconds

    @classmethod
    def from_settings(cls, data_dir: Path, settings: Settings) -> Self:  # noqa: ARG003 - the protocol's
        """The BigQuery dataset that the settings name; nothing is connected yet.

        Args:
            data_dir: not used.
            settings: names project, dataset, location, key file and emulator.

        Raises:
            UsageError: a setting is missing or not legal, or there are no credentials.
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
            with_views=settings.views,
        )

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """See `Destination.publish`.

        Raises:
            DestinationRefused: no network, missing rights, or an exhausted quota.
        """
        started, dataset = time.perf_counter(), staged.month.dataset
        check_names(dataset.bigquery_columns(staged.new_columns))
        with connected(self._address) as session:
            session.ensure_dataset()
            drop_orphaned_tables(session, dataset.table)
            tables = describe_tables(session, dataset.table, LEDGER, REJECTS)
            before = None if force else read_load(session, staged.month, tables)
            if before and before.is_same_data(Load.of(staged)):
                self._publish_views(session)
                return Receipt(self.name, before.row_count, "unchanged", time.perf_counter() - started)
            definitions = [
                trips_table(session, dataset, staged.new_columns),
                ledger_table(session),
                rejects_table(session),
            ]
            check_tables(definitions, tables)
            tables = self._replace(session, staged, definitions, tables, report)
            load = read_load(session, staged.month, tables)
            self._publish_views(session)
        if load is None:
            raise DestinationBusy(
                f"{staged.month.label} was changed by somebody else while it was published; run it again"
            )
        if report:
            report(staged.rows, staged.rows)
        return Receipt(self.name, load.row_count, "published", time.perf_counter() - started)

    def loaded(self, month: TripMonth) -> Load | None:
        """See `Destination.loaded`."""
        with connected(self._address) as session:
            return read_load(session, month) if session.location else None

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """See `Destination.holdings`."""
        with connected(self._address) as session:
            if not session.location:
                return []
            return ledger_of(session).holdings(dataset.table, dataset.name, between)

    def ask(self, queries: Sequence[str], relations: Sequence[str]) -> list[list[tuple[Any, ...]]]:
        """See `flows.destinations.base.Warehouse.ask`."""
        schema = (self._address.project, self._address.dataset)
        with connected(self._address) as session:
            tables = describe_tables(session, *relations) if session.location else dict.fromkeys(relations)
            require_relations(str(self._address), [name for name, table in tables.items() if not table])
            return [session.rows(sql.render(query, "bigquery", schema)) for query in queries]

    def _publish_views(self, session: BigQuerySession) -> None:
        if self._with_views:
            publish_views(session, self._lock_timeout_seconds)

    def _replace(
        self,
        session: BigQuerySession,
        staged: StagedMonth,
        definitions: list[bigquery.Table],
        tables: Tables,
        report: ProgressCallback | None,
    ) -> Tables:
        """Load the month into a staging table, count it, swap it in; returns the tables as they are now."""
        columns = staged.month.dataset.bigquery_columns(staged.new_columns)
        arriving = staged_schema(staged.path, columns).names
        progress = (lambda done: report(done, staged.rows)) if report else None
        streams = min(MOST_STREAMS, 1 + staged.path.stat().st_size // STREAM_BYTES)
        with (
            staged_batches(staged.path, arriving, BATCH_ROWS) as batches,
            staging_table(
                session, staged.month, staged.month.dataset.bigquery_schema(staged.new_columns)
            ) as staging,
            _staged_rejects(session, staged) as rejects,
        ):
            check_batches(staging, columns, batches.schema)
            target = AppendTarget.of(session, staging, _with_required_month(batches.schema))
            write(session, target, batches, streams, progress)
            [[rows]] = session.rows(f"SELECT count(*) FROM {qualified(session, staging)}")
            reconcile(self.name, staged.rows, rows)
            with _turn:
                tables = ensure_tables(session, definitions, tables)
                # The job's name comes from the staging table, so that a job is never sent twice.
                session.run_with_retry(
                    _swap_script(session, staging, rejects, staged),
                    staged.month.dataset.table,
                    self._lock_timeout_seconds,
                    f"taxi_etl_{staging}",
                )
        return tables


@contextlib.contextmanager
def _staged_rejects(session: BigQuerySession, staged: StagedMonth) -> Generator[str | None]:
    """Load the rejects into a staging table, and count them; most months have none."""
    path = staged.rejects_path
    if path is None:
        reconcile_rejects("bigquery", staged.rejected_rows, 0)
        yield None
        return
    with (
        staged_batches(path, REJECTS_FILE_COLUMNS, REJECTS_IN_BATCH) as batches,
        staging_table(session, staged.month, REJECTS_FILE_SCHEMA) as staging,
    ):
        write(session, AppendTarget.of(session, staging, batches.schema), batches, 1, None)
        [[rows]] = session.rows(f"SELECT count(*) FROM {qualified(session, staging)}")
        reconcile_rejects("bigquery", staged.rejected_rows, rows)
        yield staging


def _swap_script(session: BigQuerySession, staging: str, rejects: str | None, staged: StagedMonth) -> str:
    """The transaction that replaces the month, its ledger row and its rejects.

    NOTE: it has the same effect however often it runs.
    """
    dataset = staged.month.dataset
    table = qualified(session, dataset.table)
    names = ", ".join(map(quoted, dataset.bigquery_columns(staged.new_columns)))
    load = Load.of(staged)
    return transaction(
        f"DELETE FROM {table} WHERE {FILE_MONTH} = {literal(staged.month.first_day)}",
        f"INSERT INTO {table} ({names}) SELECT {names} FROM {qualified(session, staging)}",
        *(statement for statement, _ in ledger_of(session).replace_row(load)),
        *replace_rejects(session, load, rejects),
    )


def _with_required_month(schema: pa.Schema) -> pa.Schema:
    """The schema as the staging table has it: only the file month is never null."""
    return pa.schema([field.with_nullable(field.name != FILE_MONTH) for field in schema])
