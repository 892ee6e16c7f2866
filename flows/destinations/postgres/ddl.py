"""Statements that create, extend and index tables in Postgres, and the checks before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flows.destinations.base import columns_to_add
from flows.destinations.postgres.identifiers import quoted
from flows.destinations.postgres.tables import (
    LONGEST_NAME_BYTES,
    MonthNames,
    PostgresTable,
    describe,
    partition_bounds,
)
from flows.errors import SchemaDrift
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from flows.destinations.postgres.connection import PostgresSession

PARTITION_KEY = f"LIST ({FILE_MONTH})"


def ensure_schema(session: PostgresSession) -> None:
    """Create the session's schema if there is none.

    Args:
        session: the connection.

    Raises:
        DestinationRefused: the user has no right to.
    """
    # IF NOT EXISTS would ask for the right to create one even if it exists.
    if not session.rows("SELECT 1 FROM pg_namespace WHERE nspname = $1", session.schema):
        session.execute(f"CREATE SCHEMA {quoted(session.schema)}")


def prepare_parent(
    session: PostgresSession, names: MonthNames, columns: Mapping[str, str], index: tuple[str, str] | None
) -> None:
    """Create the partitioned table that people query, or check that it can take a month.

    Args:
        session: the connection.
        names: of the month's tables.
        columns: type by name, of the month.
        index: column and method (`brin` or `btree`) of an index that the table has to have.

    Raises:
        SchemaDrift: it has another shape, another table is in the month's place, or a column's name is
            too long.
    """
    if long := [column for column in columns if len(column.encode()) > LONGEST_NAME_BYTES]:
        raise SchemaDrift(
            f"Postgres has no names of more than {LONGEST_NAME_BYTES} bytes, but the file has the columns "
            f"{', '.join(long)}; rename them in the file, or run it without --allow-new-columns"
        )
    parent = describe(session, names.parent)
    if parent:
        if parent.partition_key == PARTITION_KEY:
            _check_own_columns(session, names.parent, parent, columns)
        missing_columns(session, names.parent, parent, columns)
    else:
        session.execute(
            f"CREATE TABLE {session.qualified(names.parent)} ({', '.join(column_definitions(columns))}) "
            f"PARTITION BY {PARTITION_KEY}"
        )
    _check_month_is_free(session, names)
    if index:
        _ensure_index(session, names.parent, *index)


def missing_columns(
    session: PostgresSession, name: str, table: PostgresTable, want: Mapping[str, str]
) -> dict[str, str]:
    """The columns, all nullable, that the parent lacks to take a month.

    Args:
        session: the connection.
        name: the parent's.
        table: the parent.
        want: type by name of the month's columns.

    Returns:
        Type by name of the missing ones.

    Raises:
        SchemaDrift: the parent has another shape; names every difference and the way out.
    """
    differences: list[str] = []
    if table.partition_key != PARTITION_KEY:
        actual = table.partition_key and f", but by {table.partition_key}"
        differences.append(f"it is not partitioned by {PARTITION_KEY}{actual}")
    return columns_to_add(
        name,
        table.columns,
        want,
        required=table.required,
        differences=differences,
        advice=f"Keep it under another name (ALTER TABLE {session.qualified(name)} RENAME TO "
        f"{quoted(name + '_old')}) and run the same command again; see docs/reference/postgres.md",
    )


def _check_own_columns(
    session: PostgresSession, name: str, table: PostgresTable, want: Mapping[str, str]
) -> None:
    """Refuse columns that somebody added to the parent in a way that no month can satisfy."""
    alter = f"ALTER TABLE {session.qualified(name)} ALTER COLUMN"
    for column in sorted(table.required - {*want, FILE_MONTH}):
        raise SchemaDrift(
            f"column {column} of {name} takes no null, and the file does not have it. Give it a value of its "
            f"own ({alter} {quoted(column)} SET DEFAULT ...) or let it be empty ({alter} {quoted(column)} "
            "DROP NOT NULL), and run the same command again"
        )
    for column in sorted(want):
        if table.filled.get(column) == "generated":
            raise SchemaDrift(
                f"column {column} of {name} is computed by the table (GENERATED), and the file has it too. "
                f"Let it be an ordinary column ({alter} {quoted(column)} DROP EXPRESSION), and run the same "
                "command again"
            )


def _check_month_is_free(session: PostgresSession, names: MonthNames) -> None:
    """Refuse another table that has the month's name, or its place in the parent."""
    bounds = partition_bounds(session, names.parent)
    if bounds.get(names.month) == names.bound:
        return
    conflicts = [f"{name} is {bound}" for name, bound in bounds.items() if f"'{names.first_day}'" in bound]
    if not conflicts and describe(session, names.month):
        conflicts = [f"{names.month} exists and is not {names.bound}"]
    if conflicts:
        raise SchemaDrift(
            f"{names.parent} has no room for {names.month}: {'; '.join(conflicts)}. Keep it under another "
            "name (ALTER TABLE ... RENAME TO ...; detach it first if it is a partition), and run the same "
            "command again"
        )


def column_definitions(columns: Mapping[str, str]) -> list[str]:
    """Spell out columns for CREATE TABLE; only the file month is NOT NULL.

    Args:
        columns: type by name.

    Returns:
        The definitions.
    """
    return [
        f"{quoted(name)} {kind}{' NOT NULL' if name == FILE_MONTH else ''}" for name, kind in columns.items()
    ]


def add_columns(session: PostgresSession, table: str, columns: Mapping[str, str]) -> None:
    """Add nullable columns, without rewriting the table.

    Args:
        session: the connection.
        table: its name.
        columns: type by name.
    """
    for column, kind in columns.items():
        session.execute(f"ALTER TABLE {session.qualified(table)} ADD COLUMN {quoted(column)} {kind}")


def _ensure_index(session: PostgresSession, table: str, column: str, method: str) -> None:
    """Create an index on a column, unless there is one of the same method."""
    if not session.rows(
        """
        SELECT 1 FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_am m ON m.oid = c.relam
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = to_regclass($1) AND m.amname = $2 AND a.attname = $3 AND i.indpred IS NULL
        """,
        session.qualified(table),
        method,
        column,
    ):
        session.execute(f"CREATE INDEX ON {session.qualified(table)} USING {method} ({quoted(column)})")
