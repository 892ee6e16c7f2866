"""The swap: a month is copied into a loading table, checked, and put in the old month's place.

The run that loads a month holds the advisory lock with the loading table's name. A loading table whose lock
is free was left by a run that was killed.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Generator, Mapping
from typing import TYPE_CHECKING

from flows.destinations.base import Load, reconcile
from flows.destinations.postgres import ledger
from flows.destinations.postgres.connection import LockNotAvailable, PostgresSession
from flows.destinations.postgres.copier import CopyTarget, copier
from flows.destinations.postgres.ddl import add_columns, column_definitions, missing_columns, prepare_parent
from flows.destinations.postgres.tables import (
    LOADING,
    SCHEMA,
    MonthNames,
    describe,
    is_attached,
    lock_key,
    qualified,
    quoted,
)
from flows.destinations.staged_batches import empty_columns, staged_schema
from flows.errors import SchemaDrift, TaxiError
from flows.runtime import CONTENTION, ProgressCallback, RetryPolicy, retry_transient
from transforms.dataset import FILE_MONTH, ColumnType

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.staging import StagedMonth

logger = logging.getLogger(__name__)

LOADING_COMMENT = "a month being loaded by taxi-etl; without a holder it is removed by the next run"
CREATION_LOCK = lock_key("creates tables")
ARROW_TO_POSTGRES = {kind.arrow: kind.postgres for kind in ColumnType}


def replace_month(
    session: PostgresSession,
    names: MonthNames,
    staged: StagedMonth,
    load: Load,
    report: ProgressCallback | None,
    *,
    index: tuple[str, str] | None,
    attempt_seconds: float,
    total_seconds: float,
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
        total_seconds: no new attempt to swap is begun after this time.

    Raises:
        DestinationBusy: readers left no gap for the swap, or the connection broke.
        DestinationRefused: a right is missing, or the server does not accept the rows.
        SchemaDrift: a table exists in another shape, or the file has other columns than were staged.
        ReconciliationError: more or fewer rows arrived than were staged.
        LocalStorageError: the file cannot be read.
    """
    with contextlib.ExitStack() as cleanup:
        # NOTE: on an error the copier ends before the table is dropped, or the DROP would wait for it.
        with copier() as process:
            columns = _prepare_tables(session, names, staged, index)
            target = _create_loading_table(session, names, staged, columns)
            cleanup.enter_context(_dropped_on_error(session, names))
            copied_rows = process.copy(session, target, staged, report)
        _finish_loading_table(session, names, staged, copied_rows)
        with session.transaction():
            session.set_lock_timeout(attempt_seconds)
        policy = RetryPolicy(None, 0.05, 0.5, total_seconds, CONTENTION)
        retry_transient(lambda: _swap(session, names, load), policy, retry_on=LockNotAvailable)


def _prepare_tables(
    session: PostgresSession, names: MonthNames, staged: StagedMonth, index: tuple[str, str] | None
) -> dict[str, str]:
    """Create or check parent and ledger; returns the month's columns, type by name, in the parent's order."""
    want = staged.month.dataset.postgres_columns(staged.new_columns)
    with session.transaction():
        # Without a lock, runs that create the same table at the same time would fail.
        session.rows("SELECT pg_advisory_xact_lock($1)", CREATION_LOCK)
        parent_columns = prepare_parent(session, names, want, index)
        ledger.ensure(session)
    return {column: want[column] for column in (*parent_columns, *want) if column in want}


def _create_loading_table(
    session: PostgresSession, names: MonthNames, staged: StagedMonth, columns: Mapping[str, str]
) -> CopyTarget:
    """Create the table, which itself fills in the columns with the same value in every row."""
    constant = {FILE_MONTH, *empty_columns(staged.path)}
    copied = staged_schema(staged.path, columns, constant)
    table, month = qualified(names.loading), f"DATE '{names.first_day}'"
    # The CHECK implies the partition's bound, so that ATTACH PARTITION need not scan the table.
    check = f'CONSTRAINT "{FILE_MONTH}_check" CHECK ({FILE_MONTH} = {month})'
    with session.transaction():
        session.execute(f"CREATE TABLE {table} ({column_definitions(columns)}, {check})")
        session.execute(f"COMMENT ON TABLE {table} IS '{LOADING_COMMENT}'")
        session.execute(f"ALTER TABLE {table} ALTER COLUMN {FILE_MONTH} SET DEFAULT {month}")
        check_target(session, names.loading, copied, without=constant)
        [[oid]] = session.rows("SELECT to_regclass($1)::oid::bigint", table)
    return CopyTarget(SCHEMA, names.loading, oid, copied.names)


def check_target(
    session: PostgresSession, name: str, batches: pa.Schema, without: Collection[str] = ()
) -> None:
    """Check before a COPY that a table's columns have the names, order and types of the Arrow batches.

    The driver would write wrong values without an error: int64 copied into a double precision column
    arrives as 5e-324.

    Args:
        session: the connection.
        name: the table's.
        batches: the schema of what will be copied.
        without: columns that the table fills in.

    Raises:
        SchemaDrift: they differ.
    """
    table = describe(session, name)
    columns = {c: kind for c, kind in table.columns.items() if c not in without} if table else {}
    arriving = {field.name: ARROW_TO_POSTGRES.get(field.type, str(field.type)) for field in batches}
    differences = [
        f"{column} is {columns.get(column, 'not there')}, in the file {arriving.get(column, 'not there')}"
        for column in (columns | arriving)
        if columns.get(column) != arriving.get(column)
    ]
    if not differences and list(columns) != batches.names:
        differences = [f"the table's order is {', '.join(columns)}; the file's {', '.join(batches.names)}"]
    if differences:
        raise SchemaDrift(
            f"nothing is copied into {name}, because the staged file holds something else: "
            f"{'; '.join(differences)}. Stage the month again with --force"
        )


@contextlib.contextmanager
def _dropped_on_error(session: PostgresSession, names: MonthNames) -> Generator[None]:
    """Drop the loading table if the block raises; without a connection that is left to the next run."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(TaxiError), session.transaction():
            session.execute(f"DROP TABLE IF EXISTS {qualified(names.loading)}")
        raise


def _finish_loading_table(
    session: PostgresSession, names: MonthNames, staged: StagedMonth, copied_rows: int
) -> None:
    """Check that all rows have arrived, and make the table like the parent's partitions."""
    table = qualified(names.loading)
    with session.transaction():
        if copied_rows == 0:  # or the server is set not to count
            [[copied_rows]] = session.rows(f"SELECT count(*) FROM {table}")
        reconcile("postgres", staged.rows, copied_rows)
        session.execute(f"ALTER TABLE {table} ALTER COLUMN {FILE_MONTH} DROP DEFAULT")
        _copy_indexes(session, names.parent, names.loading)


def _copy_indexes(session: PostgresSession, source: str, target: str) -> None:
    """Give the target the source's indexes, which ATTACH PARTITION would build while it locks the parent."""
    # Those of constraints are left to it.
    for is_unique, definition in session.rows(
        """
        SELECT i.indisunique, substr(pg_get_indexdef(i.indexrelid), 1 + length(format(
            'CREATE %sINDEX %I ON ONLY %I.%I ', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END,
            c.relname, n.nspname, t.relname)))
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_class t ON t.oid = i.indrelid
        JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE i.indrelid = to_regclass($1)
          AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
        """,
        qualified(source),
    ):
        session.execute(f"CREATE {'UNIQUE ' if is_unique else ''}INDEX ON {qualified(target)} {definition}")


def _swap(session: PostgresSession, names: MonthNames, load: Load) -> None:
    """Put the loading table and its ledger row in the old ones' place: one transaction of milliseconds."""
    parent, month, loading = map(qualified, (names.parent, names.month, names.loading))
    with session.transaction():
        # One swap at a time. Readers are locked out only from the DROP on, and never by a new month.
        session.execute(f"LOCK TABLE ONLY {parent} IN SHARE UPDATE EXCLUSIVE MODE")
        ledger.write(session, load)
        _align_columns(session, names)
        if is_attached(session, names):
            # An autovacuum of the old month gives way to this lock, with which readers still pass.
            session.execute(f"LOCK TABLE ONLY {month} IN SHARE UPDATE EXCLUSIVE MODE")
            session.execute(f"DROP TABLE {month}")
        session.execute(f"ALTER TABLE {loading} RENAME TO {quoted(names.month)}")
        session.execute(f"COMMENT ON TABLE {month} IS NULL")
        session.execute(f"ALTER TABLE {parent} ATTACH PARTITION {month} {names.bound}")


def _align_columns(session: PostgresSession, names: MonthNames) -> None:
    """Add the month's new columns to the parent, and those of other months to the month."""
    parent, month = describe(session, names.parent), describe(session, names.loading)
    if not parent or not month:
        raise SchemaDrift(f"{names.parent} has just been dropped or renamed; run the same command again")
    add_columns(session, names.parent, missing_columns(names.parent, parent, month.columns))
    missing = {column: kind for column, kind in parent.columns.items() if column not in month.columns}
    add_columns(session, names.loading, missing)


def drop_orphaned_tables(session: PostgresSession) -> None:
    """Drop the loading tables of killed runs: with our comment, our naming pattern, and a free advisory lock.

    Args:
        session: the connection, in a transaction.
    """
    commented = session.rows(
        """
        SELECT c.relname::text FROM pg_class c
        WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND NOT c.relispartition
          AND obj_description(c.oid, 'pg_class') = $2 AND pg_has_role(c.relowner, 'USAGE')
        """,
        SCHEMA,
        LOADING_COMMENT,
    )
    for (name,) in commented:
        if re.search(rf"_\d{{4}}_\d\d{LOADING}$", name) and session.rows(
            "SELECT 1 WHERE pg_try_advisory_xact_lock($1)", lock_key(name)
        ):
            session.execute(f"DROP TABLE IF EXISTS {qualified(name)}")
            logger.info("dropped %s, left by a run that was killed", name)
