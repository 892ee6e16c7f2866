"""What is done to the tables in Postgres: created, grown, indexed, cleared away."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from flows.destinations.postgres.tables import (
    LOADING,
    PARTITION_KEY,
    SCHEMA,
    check_names,
    describe,
    lacking,
    lock_key,
    qualified,
    quoted,
)
from flows.errors import SchemaDrift
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.destinations.postgres.connection import PostgresSession
    from flows.destinations.postgres.tables import MonthNames

logger = logging.getLogger(__name__)

LOADING_COMMENT = "a month being loaded by taxi-etl; without a holder it is removed by the next run"


def ensure_parent(session: PostgresSession, name: str, columns: Mapping[str, str]) -> list[str]:
    """Create the table that people query, if there is none; returns its columns.

    Raises:
        SchemaDrift: there is one of another shape, or a column cannot be called so.
    """
    check_names(columns)
    if parent := describe(session, name):
        lacking(name, parent, columns)
        return list(parent.columns)
    session.execute(f"CREATE TABLE {qualified(name)} ({_defined(columns)}) PARTITION BY {PARTITION_KEY}")
    return list(columns)


def grow_together(session: PostgresSession, names: MonthNames) -> None:
    """Give the parent the columns that the month brings, and the month those that others brought.

    Raises:
        SchemaDrift: the parent has another shape by now.
    """
    parent, month = describe(session, names.parent), describe(session, names.loading)
    if not parent or not month:
        raise SchemaDrift(f"{names.parent} has just been dropped or renamed; run the same command again")
    add_columns(session, names.parent, lacking(names.parent, parent, month.columns))
    missed = {column: kind for column, kind in parent.columns.items() if column not in month.columns}
    add_columns(session, names.loading, missed)


def create_loading(session: PostgresSession, names: MonthNames, columns: Mapping[str, str]) -> None:
    """Create the table into which a month is loaded; it fills in the month by itself.

    The CHECK says what the partition's bound will say, which spares ATTACH looking at every row.
    """
    check = f"CONSTRAINT {quoted(FILE_MONTH + '_check')} CHECK ({FILE_MONTH} = DATE '{names.first_day}')"
    session.execute(f"CREATE TABLE {qualified(names.loading)} ({_defined(columns)}, {check})")
    session.execute(f"COMMENT ON TABLE {qualified(names.loading)} IS '{LOADING_COMMENT}'")
    session.execute(_alter_month(names, f"SET DEFAULT DATE '{names.first_day}'"))


def finish_loading(session: PostgresSession, names: MonthNames) -> None:
    """Make the loaded table what its siblings are: the parent's indexes, no default."""
    session.execute(_alter_month(names, "DROP DEFAULT"))
    index_like(session, names.loading, names.parent)


def _alter_month(names: MonthNames, change: str) -> str:
    return f"ALTER TABLE {qualified(names.loading)} ALTER COLUMN {quoted(FILE_MONTH)} {change}"


def add_columns(session: PostgresSession, table: str, columns: Mapping[str, str]) -> None:
    """Add nullable columns; the table's rows are not touched."""
    for column, kind in columns.items():
        session.execute(f"ALTER TABLE {qualified(table)} ADD COLUMN {quoted(column)} {kind}")


def ensure_index(session: PostgresSession, table: str, column: str, method: str) -> None:
    """Give a table an index of that method on a column, unless it has one."""
    if not session.rows(
        """
        SELECT 1 FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_am m ON m.oid = c.relam
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = to_regclass($1) AND m.amname = $2 AND a.attname = $3 AND i.indpred IS NULL
        """,
        qualified(table),
        method,
        column,
    ):
        session.execute(f"CREATE INDEX ON {qualified(table)} USING {method} ({quoted(column)})")


def index_like(session: PostgresSession, table: str, like: str) -> None:
    """Give a table the indexes of another one.

    Without them ATTACH builds them, with the parent locked. Those of constraints are left to it.
    """
    for unique, definition in session.rows(
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
        qualified(like),
    ):
        session.execute(f"CREATE {'UNIQUE ' if unique else ''}INDEX ON {qualified(table)} {definition}")


def drop_orphaned_tables(session: PostgresSession) -> None:
    """Remove what killed runs left between beginning to load a month and swapping it in.

    Only tables that bear our comment and our name, and only if nobody holds the lock of that name.
    """
    found = session.rows(
        """
        SELECT c.relname::text FROM pg_class c
        WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND NOT c.relispartition
          AND obj_description(c.oid, 'pg_class') = $2 AND pg_has_role(c.relowner, 'USAGE')
        """,
        SCHEMA,
        LOADING_COMMENT,
    )
    strays = [name for (name,) in found if re.search(rf"_\d{{4}}_\d\d{LOADING}$", name)]
    free = [
        name
        for name in strays
        if session.rows("SELECT pg_try_advisory_xact_lock($1)", lock_key(name)) == [(True,)]
    ]
    for name in free:
        session.execute(f"DROP TABLE IF EXISTS {qualified(name)}")
        logger.info("removed %s, which a killed run left", name)


def _defined(columns: Mapping[str, str]) -> str:
    """Column definitions; only the file month must be there."""
    return ", ".join(
        f"{quoted(name)} {kind}{' NOT NULL' if name == FILE_MONTH else ''}" for name, kind in columns.items()
    )
