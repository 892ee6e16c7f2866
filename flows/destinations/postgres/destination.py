"""Destination `postgres`: a month is loaded beside the table, and swapped in in one transaction.

How it works, with a picture: docs/postgres.md.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from flows.destinations.base import ALL_MONTHS, Holding, Load, Receipt, reconcile
from flows.destinations.postgres import ddl as ddl
from flows.destinations.postgres import embedded as postgres_embedded
from flows.destinations.postgres import ledger as ledger
from flows.destinations.postgres.connection import WAYS_TO_SAY_IT, Locked, PostgresAddress, connected
from flows.destinations.postgres.copier import CopyTarget, copier
from flows.destinations.postgres.tables import (
    SCHEMA,
    MonthNames,
    check_room,
    check_target,
    is_attached,
    lock_key,
    qualified,
    quoted,
)
from flows.destinations.staged_batches import empty_columns, staged_schema
from flows.errors import DestinationBusy, TaxiError, UsageError
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Generator
    from pathlib import Path

    from flows.destinations.postgres.connection import PostgresSession
    from flows.runtime import ProgressCallback
    from flows.settings import Settings
    from flows.staging import StagedMonth
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth

PAUSE_SECONDS = (0.05, 0.5)
ENSURING = lock_key("creates tables")


@dataclass(frozen=True, slots=True)
class Options:
    """What may be set.

    Attributes:
        table: another name for the table that people query.
        indexes: `none`, `brin` or `btree`, on the pick-up time.
        lock_timeout_seconds: how long to wait for other runs and for readers, in all.
        swap_timeout_seconds: how long one attempt to swap waits while new readers queue behind it.
    """

    table: str | None = None
    indexes: str = "none"
    lock_timeout_seconds: float = 600.0
    swap_timeout_seconds: float = 2.0


class Postgres:
    """A database in which each month is a partition of its dataset's table."""

    name = "postgres"

    def __init__(self, address: Callable[[], PostgresAddress], options: Options | None = None) -> None:
        """Remember where; `address` is asked at every connection, and may start a server."""
        self._address = address
        self._options = options or Options()

    @classmethod
    def from_settings(cls, data_dir: Path, settings: Settings, *, table: str | None = None) -> Self:
        """The server that the settings name; nothing is opened or started yet.

        Whoever has the URL from elsewhere (a block) fills `settings.postgres_url` with it.

        Raises:
            UsageError: no server is named, or not in a way that can be read.
        """
        url = settings.postgres_url.get_secret_value().strip() if settings.postgres_url else ""
        if not url:
            raise UsageError(
                "no Postgres is named. Tried: the environment variable TAXI_POSTGRES_URL, the same in .env, "
                f"the Prefect block postgres-connector. Legal are {WAYS_TO_SAY_IT}: a private server "
                "under the data directory"
            )
        options = Options(
            table=table,
            indexes=settings.postgres_indexes,
            lock_timeout_seconds=settings.lock_timeout_seconds,
            swap_timeout_seconds=settings.postgres_lock_timeout_seconds,
        )
        if url == "embedded":
            postgres_embedded.require_wheel()
            directory = data_dir.absolute() / "postgres"
            return cls(lambda: postgres_embedded.running(directory), options)
        address = PostgresAddress.of_url(url)
        return cls(lambda: address, options)

    def publish(
        self, staged: StagedMonth, *, force: bool = False, report: ProgressCallback | None = None
    ) -> Receipt:
        """See `Destination.publish`.

        Raises:
            DestinationRefused: wrong password, no such host or database, no right to do it.
        """
        started = time.perf_counter()
        names = self._names(staged.month)
        load = replace(Load.of(staged), dataset=self._key(staged.month.dataset))
        with connected(self._address()) as session:
            self._hold(session, names)
            with session.transaction():
                ddl.drop_orphaned_tables(session)
                before = None if force else ledger.read(session, names, load.dataset)
            if before and before.is_same_data(load):
                seconds = time.perf_counter() - started
                return Receipt(self.name, before.row_count, "unchanged", seconds)
            self._replace(session, names, staged, load, report)
        if report:
            report(staged.rows, staged.rows)
        return Receipt(self.name, staged.rows, "published", time.perf_counter() - started)

    def _replace(
        self,
        session: PostgresSession,
        names: MonthNames,
        staged: StagedMonth,
        load: Load,
        report: ProgressCallback | None,
    ) -> None:
        with contextlib.ExitStack() as undoing:
            # Whatever happens: first the process ends, then its table is dropped, which would wait for it.
            with copier() as copying:
                columns = self._prepare(session, names, staged)
                target = _make_loading(session, names, staged, columns)
                undoing.enter_context(_cleared_away(session, names))
                rows = copying.copy(session, target, staged, report)
            _finish(session, names, staged, rows)
            self._swap_in(session, names, load)

    def loaded(self, month: TripMonth) -> Load | None:
        """See `Destination.loaded`."""
        names = self._names(month)
        with connected(self._address()) as session, session.transaction():
            found = ledger.read(session, names, self._key(month.dataset))
        return replace(found, dataset=month.color) if found else None

    def holdings(self, dataset: Dataset, between: tuple[dt.date, dt.date] = ALL_MONTHS) -> list[Holding]:
        """See `Destination.holdings`."""
        with connected(self._address()) as session, session.transaction():
            found = ledger.holdings(session, self._table(dataset), self._key(dataset), between)
        return [replace(one, load=one.load and replace(one.load, dataset=dataset.name)) for one in found]

    def _table(self, dataset: Dataset) -> str:
        return dataset.table if self._options.table is None else self._options.table

    def _names(self, month: TripMonth) -> MonthNames:
        return MonthNames.of(month, self._table(month.dataset))

    def _key(self, dataset: Dataset) -> str:
        """The dataset's name in the ledger; a table of another name has rows of its own there."""
        table = self._table(dataset)
        return dataset.name if table == dataset.table else f"{dataset.name}:{table}"

    def _hold(self, session: PostgresSession, names: MonthNames) -> None:
        """Hold the month against other runs; the server frees it when the connection ends."""
        try:
            with session.transaction():
                _set_lock_timeout(session, self._options.lock_timeout_seconds)
                session.rows("SELECT pg_advisory_lock($1)", lock_key(names.loading))
        except Locked as error:
            raise DestinationBusy(
                f"another run has been loading {names.month} for {self._options.lock_timeout_seconds:g} s; "
                "let it finish, or give it more time with TAXI_LOCK_TIMEOUT_SECONDS"
            ) from error

    def _prepare(self, session: PostgresSession, names: MonthNames, staged: StagedMonth) -> dict[str, str]:
        """Make every table ready but the month's own; returns its columns in the table's order."""
        want = staged.month.dataset.postgres_columns(staged.new_columns)
        with session.transaction():
            # One after the other: two that create the same table at once would get in each other's way.
            session.rows("SELECT pg_advisory_xact_lock($1)", ENSURING)
            parent = ddl.ensure_parent(session, names.parent, want)
            check_room(session, names)
            ledger.ensure(session)
            if self._options.indexes != "none":
                pickup = staged.month.dataset.pickup
                ddl.ensure_index(session, names.parent, pickup, self._options.indexes)
        return {column: want[column] for column in (*parent, *want) if column in want}

    def _swap_in(self, session: PostgresSession, names: MonthNames, load: Load) -> None:
        """Swap, between the readers: an attempt that waits too long lets them through and comes again."""
        with session.transaction():
            _set_lock_timeout(session, self._options.swap_timeout_seconds)
        attempts = Retrying(
            retry=retry_if_exception_type(Locked),
            wait=wait_random(*PAUSE_SECONDS),
            stop=stop_after_delay(self._options.lock_timeout_seconds),
            reraise=True,
        )
        attempts(_swap, session, names, load)


def _set_lock_timeout(session: PostgresSession, seconds: float) -> None:
    # 0 would mean for ever.
    session.execute(f"SET lock_timeout = {max(1, int(seconds * 1000))}")


@contextlib.contextmanager
def _cleared_away(session: PostgresSession, names: MonthNames) -> Generator[None]:
    """Remove the month's own table if something goes wrong; the next run does, if the connection is gone."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(TaxiError), session.transaction():
            session.execute(f"DROP TABLE IF EXISTS {qualified(names.loading)}")
        raise


def _make_loading(
    session: PostgresSession, names: MonthNames, staged: StagedMonth, columns: dict[str, str]
) -> CopyTarget:
    """Create the table into which the month is copied, where nobody looks.

    Raises:
        SchemaDrift: the table's columns are not the file's.
    """
    # What is the same in every row need not travel: the table fills it in.
    same = {FILE_MONTH, *empty_columns(staged.path)}
    arriving = staged_schema(staged.path, columns, same)
    with session.transaction():
        ddl.create_loading(session, names, columns)
        check_target(session, names.loading, arriving, without=same)
        [[oid]] = session.rows("SELECT to_regclass($1)::oid::bigint", qualified(names.loading))
    return CopyTarget(SCHEMA, names.loading, oid, arriving.names)


def _finish(session: PostgresSession, names: MonthNames, staged: StagedMonth, rows: int) -> None:
    """See that the table has the rows that were staged, and give it the parent's indexes.

    Raises:
        ReconciliationError: the table has other rows than were staged.
    """
    with session.transaction():
        if rows == 0:  # or the server does not count
            [[rows]] = session.rows(f"SELECT count(*) FROM {qualified(names.loading)}")
        reconcile("postgres", staged.rows, rows)
        ddl.finish_loading(session, names)


def _swap(session: PostgresSession, names: MonthNames, load: Load) -> None:
    """Put the loaded table and its ledger row in the old one's place: one transaction, some milliseconds.

    Raises:
        Locked: readers, or another swap, did not make room; nothing has changed.
    """
    parent, month, loading = map(qualified, (names.parent, names.month, names.loading))
    with session.transaction():
        # One swap at a time. Readers are shut out only from the DROP on, and not at all if there is none.
        session.execute(f"LOCK TABLE ONLY {parent} IN SHARE UPDATE EXCLUSIVE MODE")
        ledger.write(session, load)
        ddl.grow_together(session, names)
        if is_attached(session, names):
            # Whoever vacuums the old month gives way now, while readers still pass.
            session.execute(f"LOCK TABLE ONLY {month} IN SHARE UPDATE EXCLUSIVE MODE")
            session.execute(f"DROP TABLE {month}")
        session.execute(f"ALTER TABLE {loading} RENAME TO {quoted(names.month)}")
        session.execute(f"COMMENT ON TABLE {month} IS NULL")
        session.execute(f"ALTER TABLE {parent} ATTACH PARTITION {month} {names.bound}")
