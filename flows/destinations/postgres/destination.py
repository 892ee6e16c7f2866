"""Destination `postgres`: a month is loaded beside the table, and swapped in within one transaction.

docs/reference/postgres.md explains it with a picture.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from flows.destinations.base import ALL_MONTHS, Holding, Load, Receipt, require_relations
from flows.destinations.postgres import ledger
from flows.destinations.postgres.address import LEGAL_URLS, PostgresAddress
from flows.destinations.postgres.connection import PostgresSession, connected
from flows.destinations.postgres.embedded_server import require_wheel, use_server
from flows.destinations.postgres.loading_table import drop_orphaned_tables
from flows.destinations.postgres.locks import LockBudget, lock_timeouts
from flows.destinations.postgres.swap import replace_month
from flows.destinations.postgres.tables import MonthNames, describe, lock_key
from flows.destinations.postgres.views import publish_views
from flows.errors import UsageError
from flows.runtime import Layout
from transforms import sql

if TYPE_CHECKING:
    from flows.runtime import ProgressCallback
    from flows.settings import Settings
    from flows.staging import StagedMonth
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth


logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Postgres:
    """A database in which each month is a partition of its dataset's table.

    Attributes:
        address: called for every connection; it may start a server.
        exists: whether there is a server; without one nothing is loaded, and to ask does not make one.
        table: another name for the table that people query.
        schema: where the tables are; created if there is none.
        indexes: `none`, `brin` or `btree`, on the pick-up time.
        lock_timeout_seconds: how long to wait for other runs and for readers, in all.
        swap_timeout_seconds: how long one attempt to swap waits while new readers queue behind it.
        views: make the views and dimension tables.
        name: the destination's, as in `--to`.
    """

    address: Callable[[], PostgresAddress]
    exists: Callable[[], bool] = lambda: True
    table: str | None = None
    schema: str = "public"
    indexes: str = "none"
    lock_timeout_seconds: float = 600.0
    swap_timeout_seconds: float = 2.0
    views: bool = True
    name: str = field(default="postgres", init=False)

    @classmethod
    def only_here(cls, settings: Settings) -> tuple[str, str] | None:
        """See `flows.destinations.bound_to_this_machine`."""
        url = settings.postgres_url
        if not url or url.get_secret_value().strip() != "embedded":
            return None
        return (
            "TAXI_POSTGRES_URL=embedded is a server for one machine",
            "name a server: TAXI_POSTGRES_URL=postgresql://user:password@host:5432/db",
        )

    @classmethod
    def from_settings(cls, data_dir: Path, settings: Settings, *, table: str | None = None) -> Self:
        """Use the server that the settings name; nothing is opened or started yet.

        Args:
            data_dir: the embedded server's data is below it.
            settings: `postgres_url` may have been filled in from a block.
            table: another name for the table that people query.

        Returns:
            The destination.

        Raises:
            UsageError: no server is named, or its URL cannot be parsed.
        """
        url = settings.postgres_url.get_secret_value().strip() if settings.postgres_url else ""
        if not url:
            raise UsageError(
                "no Postgres is named. Tried: the environment variable TAXI_POSTGRES_URL, the same in .env, "
                f"the Prefect block postgres-connector. Legal are {LEGAL_URLS}: a private server "
                "under the data directory"
            )
        if url == "embedded":
            require_wheel()
        directory = Layout(data_dir.absolute()).postgres
        address = None if url == "embedded" else PostgresAddress.of_url(url)
        if address and "search_path" in address.parameters.get("options", ""):
            logger.warning(
                "search_path in TAXI_POSTGRES_URL says nothing about where the tables are: they are in the "
                "schema %s; another one is set with TAXI_POSTGRES_SCHEMA",
                settings.postgres_schema,
            )
        return cls(
            address=lambda: address or use_server(directory),
            exists=lambda: address is not None or directory.exists(),
            table=table,
            schema=settings.postgres_schema,
            indexes=settings.postgres_indexes,
            lock_timeout_seconds=settings.lock_timeout_seconds,
            swap_timeout_seconds=settings.postgres_lock_timeout_seconds,
            views=settings.views,
        )

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """Replace a month atomically, unless it is unchanged; see `Destination.publish`.

        Args:
            staged: the month.
            force: replace it even if it is unchanged.
            report: called with (rows done, rows in all).

        Returns:
            What was done, and how long it took.

        Raises:
            LockTimeout: others held a lock for as long as the settings allow to wait; names them.
            DestinationBusy: the server cannot be used right now.
            DestinationRefused: wrong password, no such host or database, or a right is missing.
            SchemaDrift: a table exists in another shape; it is not touched.
            ReconciliationError: more or fewer rows arrived than were staged; the old month stays.
            LocalStorageError: the file cannot be read.
        """
        started = time.perf_counter()
        names = self._names(staged.month)
        load = replace(Load.of(staged), dataset=self._ledger_key(staged.month.dataset))
        budget = LockBudget(self.lock_timeout_seconds)
        with self._connected(names) as session:
            with budget.transaction(session):
                session.rows("SELECT pg_advisory_lock($1)", lock_key(names.loading, self.schema))
            with budget.transaction(session):
                drop_orphaned_tables(session)
                before = None if force else ledger.read(session, names, load.dataset)
            if before and before.is_same_data(load):
                self._publish_views(session)
                seconds = time.perf_counter() - started
                return Receipt(self.name, before.row_count, "unchanged", seconds)
            pickup = staged.month.dataset.pickup
            replace_month(
                session,
                names,
                staged,
                load,
                report,
                index=None if self.indexes == "none" else (pickup, self.indexes),
                attempt_seconds=self.swap_timeout_seconds,
                budget=budget,
            )
            self._publish_views(session)
        if report:
            report(staged.rows, staged.rows)
        return Receipt(self.name, staged.rows, "published", time.perf_counter() - started)

    def loaded(self, month: TripMonth) -> Load | None:
        """Look up a month's ledger row, if the month's rows are really there.

        Args:
            month: which one.

        Returns:
            The row, None if there is none or the table has another number of rows.

        Raises:
            DestinationBusy, DestinationRefused: the server cannot be asked.
        """
        names = self._names(month)
        with self._connected(names) as session, session.transaction():
            load = ledger.read(session, names, self._ledger_key(month.dataset))
        return replace(load, dataset=month.color) if load else None

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """List every month that the ledger or the table of a dataset has; see `Destination.holdings`.

        Args:
            dataset: whose months.
            between: first and last `file_month`, both included.

        Returns:
            The months in calendar order.

        Raises:
            DestinationBusy, DestinationRefused: the server cannot be asked.
        """
        if not self.exists():
            return []
        with (
            connected(self.address(), self.schema, self.lock_timeout_seconds) as session,
            session.transaction(),
        ):
            rows = ledger.holdings(session, self._table(dataset), self._ledger_key(dataset), between)
        return [replace(row, load=row.load and replace(row.load, dataset=dataset.name)) for row in rows]

    def ask(self, queries: Sequence[str], relations: Sequence[str]) -> list[list[tuple[Any, ...]]]:
        """See `flows.destinations.base.Warehouse.ask`.

        Args:
            queries: in DuckDB's SQL.
            relations: the tables and views that they read.

        Returns:
            The rows of each query, all of one snapshot.

        Raises:
            UsageError: a relation is missing, or there is no server yet.
            DestinationBusy, DestinationRefused: the server cannot be asked.
        """
        if not self.exists():
            raise UsageError(
                "there is no embedded Postgres yet; load a month first, or name another --data-dir"
            )
        with (
            connected(self.address(), self.schema, self.lock_timeout_seconds) as session,
            session.transaction(),
        ):
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            missing = [name for name in relations if not describe(session, name)]
            require_relations(f"the schema {self.schema} of {session.address}", missing)
            return [session.rows(sql.render(query, "postgres", (self.schema,))) for query in queries]

    def _publish_views(self, session: PostgresSession) -> None:
        publish_views(
            session,
            with_views=self.views,
            lock_timeout_seconds=self.lock_timeout_seconds,
            attempt_seconds=self.swap_timeout_seconds,
        )

    def _table(self, dataset: Dataset) -> str:
        return dataset.table if self.table is None else self.table

    def _names(self, month: TripMonth) -> MonthNames:
        return MonthNames.of(month, self._table(month.dataset))

    def _ledger_key(self, dataset: Dataset) -> str:
        """The dataset's name in the ledger, which has separate rows for a table of another name."""
        table = self._table(dataset)
        return dataset.name if table == dataset.table else f"{dataset.name}:{table}"

    @contextlib.contextmanager
    def _connected(self, names: MonthNames) -> Generator[PostgresSession]:
        """Connect; a lock that is not free in time is raised as a LockTimeout that names who holds it."""
        with (
            connected(self.address(), self.schema, self.lock_timeout_seconds) as session,
            lock_timeouts(session, names, self.lock_timeout_seconds),
        ):
            yield session
