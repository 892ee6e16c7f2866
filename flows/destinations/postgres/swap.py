"""The swap: a month is copied into a loading table, checked, and put in the old month's place."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from flows.destinations.base import Load, reconcile
from flows.destinations.postgres import ledger
from flows.destinations.postgres.connection import LockNotAvailable, PostgresSession
from flows.destinations.postgres.copier import copier
from flows.destinations.postgres.ddl import (
    add_columns,
    ensure_schema,
    missing_columns,
    prepare_parent,
)
from flows.destinations.postgres.identifiers import quoted
from flows.destinations.postgres.loading_table import (
    copy_indexes,
    create_loading_table,
    drop_defaults,
    dropped_on_error,
)
from flows.destinations.postgres.locks import LockBudget, lock_holders
from flows.destinations.postgres.tables import (
    LONGEST_NAME_BYTES,
    MonthNames,
    describe,
    is_attached,
    lock_key,
)
from flows.errors import DestinationBusy, SchemaDrift
from flows.runtime import CONTENTION, ProgressCallback, RetryPolicy, retry_transient

if TYPE_CHECKING:
    from flows.staging import StagedMonth

logger = logging.getLogger(__name__)

CREATION_LOCK = lock_key("creates tables")


def replace_month(
    session: PostgresSession,
    names: MonthNames,
    staged: StagedMonth,
    load: Load,
    report: ProgressCallback | None,
    *,
    index: tuple[str, str] | None,
    attempt_seconds: float,
    budget: LockBudget,
) -> None:
    """Load a month beside the table that people query, and swap it in.

    Args:
        session: the connection, which holds the lock of the loading table.
        names: of the month's tables.
        staged: the month.
        load: its row in the ledger.
        report: called with (rows read, rows in all).
        index: column and method (`brin` or `btree`) of an index that the table has to have.
        attempt_seconds: how long each attempt to swap waits while new readers queue behind it.
        budget: how long to wait for locks in all.

    Raises:
        LockNotAvailable: others held a lock for longer than the budget allows.
        DestinationBusy: the connection broke, or the table was changed meanwhile.
        DestinationRefused: a right is missing, or the server does not accept the rows.
        SchemaDrift: a table exists in another shape, or the file has other columns than were staged.
        ReconciliationError: more or fewer rows arrived than were staged.
        LocalStorageError: the file cannot be read.
    """
    with contextlib.ExitStack() as cleanup:
        # NOTE: on an error the copier ends before the table is dropped, or the DROP would wait for it.
        with copier() as process:
            _prepare_tables(session, names, staged, index, budget)
            target, temporary_defaults = create_loading_table(session, names, staged, budget)
            cleanup.enter_context(dropped_on_error(session, names))
            copied_rows = process.copy(session, target, staged, report)
        with budget.transaction(session):
            if copied_rows == 0:  # or the server is set not to count
                [[copied_rows]] = session.rows(f"SELECT count(*) FROM {session.qualified(names.loading)}")
            reconcile("postgres", staged.rows, copied_rows)
            drop_defaults(session, names.loading, temporary_defaults)
        with session.transaction():
            index_count = copy_indexes(session, names.parent, names.loading)

        def swap() -> None:
            with budget.transaction(session, attempt_seconds):
                _swap(session, names, staged, load, index_count)

        policy = RetryPolicy(None, 0.05, 0.5, budget.left_seconds, CONTENTION)
        retry_transient(swap, policy, retry_on=LockNotAvailable, before_pause=_announcing(session, names))


def _announcing(session: PostgresSession, names: MonthNames) -> Callable[[BaseException, float], None]:
    """Log once whom the swap waits for."""
    announced = False

    def announce(_: BaseException, __: float) -> None:
        nonlocal announced
        if not announced and (holders := lock_holders(session, names)):
            logger.info("%s waits for %s", names.month, " and ".join(holders))
            announced = True

    return announce


def _prepare_tables(
    session: PostgresSession,
    names: MonthNames,
    staged: StagedMonth,
    index: tuple[str, str] | None,
    budget: LockBudget,
) -> None:
    """Create or check schema, parent and ledger."""
    want = staged.month.dataset.postgres_columns(staged.new_columns)
    with budget.transaction(session):
        # Without a lock, runs that create the same table at the same time would fail.
        session.rows("SELECT pg_advisory_xact_lock($1)", CREATION_LOCK)
        ensure_schema(session)
        prepare_parent(session, names, want, index)
        ledger.ensure(session)


def _swap(
    session: PostgresSession, names: MonthNames, staged: StagedMonth, load: Load, index_count: int
) -> None:
    """Put the loading table, its ledger row and its rejects in the old ones' place, within milliseconds."""
    parent, month, loading = map(session.qualified, (names.parent, names.month, names.loading))
    # One swap at a time. Readers are locked out only from the DROP on, and never by a new month.
    session.execute(f"LOCK TABLE ONLY {parent} IN SHARE UPDATE EXCLUSIVE MODE")
    ledger.write(session, load, staged)
    _align_columns(session, names)
    if is_attached(session, names):
        # An autovacuum of the old month gives way to this lock, with which readers still pass.
        session.execute(f"LOCK TABLE ONLY {month} IN SHARE UPDATE EXCLUSIVE MODE")
        session.execute(f"DROP TABLE {month}")
    session.execute(f"ALTER TABLE {loading} RENAME TO {quoted(names.month)}")
    session.execute(f"COMMENT ON TABLE {month} IS NULL")
    session.execute(f"ALTER TABLE {parent} ATTACH PARTITION {month} {names.bound}")
    if index_count:
        _rename_indexes(session, names)


def _rename_indexes(session: PostgresSession, names: MonthNames) -> None:
    """Name the indexes that are named after the loading table after the month and the parent's.

    A name that is too long or taken stays as it is.
    """
    for index, parents in session.rows(
        """
        SELECT c.relname::text, p.relname::text FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_inherits h ON h.inhrelid = c.oid
        JOIN pg_class p ON p.oid = h.inhparent
        WHERE i.indrelid = to_regclass($1) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid)
        """,
        session.qualified(names.month),
    ):
        name = f"{names.month}_{parents.removeprefix(names.parent + '_')}"
        if len(name.encode()) <= LONGEST_NAME_BYTES and not session.rows(
            "SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relname = $2",
            session.schema,
            name,
        ):
            session.execute(f"ALTER INDEX {session.qualified(index)} RENAME TO {quoted(name)}")


def _align_columns(session: PostgresSession, names: MonthNames) -> None:
    """Add the month's new columns to the parent, and those of other months to the month."""
    parent, month = describe(session, names.parent), describe(session, names.loading)
    if not parent or not month:
        raise SchemaDrift(f"{names.parent} has just been dropped or renamed; run the same command again")
    add_columns(session, names.parent, missing_columns(session, names.parent, parent, month.columns))
    missing = {column: kind for column, kind in parent.columns.items() if column not in month.columns}
    if by_table := sorted(missing.keys() & parent.filled.keys()):
        raise DestinationBusy(
            f"{names.parent} got the column {', '.join(by_table)} while {names.month} was being loaded; "
            "run the same command again"
        )
    add_columns(session, names.loading, missing)
