"""The loading table: a month is copied into it, beside the table that people query.

The run that loads a month holds the advisory lock with the loading table's name. A loading table whose lock
is free was left by a run that was killed.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING

from flows.destinations.postgres.copier import CopyTarget
from flows.destinations.postgres.ddl import column_definitions
from flows.destinations.postgres.identifiers import quoted
from flows.destinations.postgres.tables import (
    LOADING,
    MonthNames,
    describe,
    lock_key,
)
from flows.destinations.staged_batches import empty_columns, staged_schema
from flows.errors import SchemaDrift, TaxiError
from transforms.dataset import FILE_MONTH, ColumnType

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.destinations.postgres.connection import PostgresSession
    from flows.destinations.postgres.locks import LockBudget
    from flows.staging import StagedMonth

logger = logging.getLogger(__name__)

LOADING_COMMENT = "a month being loaded by taxi-etl; without a holder it is removed by the next run"
ARROW_TO_POSTGRES = {kind.arrow: kind.postgres for kind in ColumnType}


def create_loading_table(
    session: PostgresSession,
    names: MonthNames,
    staged: StagedMonth,
    budget: LockBudget,
) -> tuple[CopyTarget, list[str]]:
    """Create the table like the parent; itself it fills in what has the same value in every row.

    What people have put on the parent holds for the month's rows too: CHECK and NOT NULL constraints, and
    columns of their own with a default, a generation expression or an identity.

    Args:
        session: the connection, which holds the lock of the loading table.
        names: of the month's tables.
        staged: the month.
        budget: how long to wait for locks.

    Returns:
        What to copy into, and the columns whose defaults only the COPY needs.

    Raises:
        SchemaDrift: the file has other columns than were staged.
        LocalStorageError: the file cannot be read.
    """
    want = staged.month.dataset.postgres_columns(staged.new_columns)
    empty = empty_columns(staged.path)
    table, month = session.qualified(names.loading), f"DATE '{names.first_day}'"
    parent = session.qualified(names.parent)
    # The CHECK implies the partition's bound, so that ATTACH PARTITION need not scan the table.
    check = f'CONSTRAINT "{FILE_MONTH}_check" CHECK ({FILE_MONTH} = {month})'
    like = f"LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED"
    with budget.transaction(session):
        session.execute(f"LOCK TABLE ONLY {parent} IN ACCESS SHARE MODE")  # or others may add columns
        described = describe(session, names.parent)
        parent_columns, filled = (described.columns, described.filled) if described else ({}, {})
        new_columns = {column: kind for column, kind in want.items() if column not in parent_columns}
        # A column that is empty in the file stays null, whatever default somebody gave it.
        constant = {FILE_MONTH, *(empty - {*filled})}
        copied = staged_schema(staged.path, [*parent_columns, *want], constant)
        columns = ", ".join([like, *column_definitions(new_columns), check])
        session.execute(f"CREATE TABLE {table} ({columns})")
        session.execute(f"COMMENT ON TABLE {table} IS '{LOADING_COMMENT}'")
        file_month = f"ALTER COLUMN {FILE_MONTH}"  # which ATTACH must know not to be null, or it scans
        session.execute(f"ALTER TABLE {table} {file_month} SET NOT NULL, {file_month} SET DEFAULT {month}")
        identities = [name for name, by in filled.items() if by == "identity" and name not in want]
        for column in identities:
            # ATTACH refuses an identity of the month's own: meanwhile it takes the numbers of the parent's.
            [[sequence]] = session.rows(
                "SELECT pg_get_serial_sequence($1, $2)::regclass::oid::bigint", parent, column
            )
            default = f"nextval('{sequence}'::regclass)"
            session.execute(f"ALTER TABLE {table} ALTER COLUMN {quoted(column)} SET DEFAULT {default}")
        check_target(session, names.loading, copied, without=constant | ({*parent_columns} - {*want}))
        [[oid]] = session.rows("SELECT to_regclass($1)::oid::bigint", table)
    return CopyTarget(session.schema, names.loading, oid, copied.names), [FILE_MONTH, *identities]


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
def dropped_on_error(session: PostgresSession, names: MonthNames) -> Generator[None]:
    """Drop the loading table if the block raises; without a connection that is left to the next run.

    Args:
        session: the connection.
        names: of the month's tables.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(TaxiError), session.transaction():
            session.execute(f"DROP TABLE IF EXISTS {session.qualified(names.loading)}")
        raise


def drop_defaults(session: PostgresSession, name: str, columns: Sequence[str]) -> None:
    """Drop defaults of a table.

    Args:
        session: the connection, in a transaction.
        name: the table's.
        columns: those that have them.
    """
    drops = ", ".join(f"ALTER COLUMN {quoted(column)} DROP DEFAULT" for column in columns)
    session.execute(f"ALTER TABLE {session.qualified(name)} {drops}")


def copy_indexes(session: PostgresSession, source: str, target: str) -> int:
    """Give the target the source's indexes, which ATTACH PARTITION would build while it locks the parent.

    Args:
        session: the connection, in a transaction.
        source: the parent's name.
        target: the loading table's.

    Returns:
        How many there are.
    """
    # Those of constraints are left to it.
    indexes = session.rows(
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
        session.qualified(source),
    )
    for is_unique, definition in indexes:
        unique = "UNIQUE " if is_unique else ""
        session.execute(f"CREATE {unique}INDEX ON {session.qualified(target)} {definition}")
    return len(indexes)


def drop_orphaned_tables(session: PostgresSession) -> None:
    """Drop the loading tables of killed runs: with our comment, our naming pattern, and a free advisory lock.

    Args:
        session: the connection, in a transaction.
    """
    commented = session.rows(
        """
        SELECT c.relname::text FROM pg_class c
        WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND c.relkind = 'r' AND NOT c.relispartition
          AND obj_description(c.oid, 'pg_class') = $2 AND pg_has_role(c.relowner, 'USAGE')
        """,
        session.schema,
        LOADING_COMMENT,
    )
    for (name,) in commented:
        if re.search(rf"_\d{{4}}_\d\d{LOADING}$", name) and session.rows(
            "SELECT 1 WHERE pg_try_advisory_xact_lock($1)", lock_key(name, session.schema)
        ):
            session.execute(f"DROP TABLE IF EXISTS {session.qualified(name)}")
            logger.info("dropped %s, left by a run that was killed", name)
