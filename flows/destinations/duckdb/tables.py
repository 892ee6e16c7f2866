"""The tables in DuckDB: their columns, and how they are created and extended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flows.destinations.base import columns_to_add

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def quoted(name: str) -> str:
    """A name as a DuckDB identifier, with every character in it allowed.

    Args:
        name: as it is.
    """
    return '"' + name.replace('"', '""') + '"'


def describe(connection: DuckDBPyConnection, table: str) -> dict[str, str]:
    """The columns of a table or view.

    Args:
        connection: open.
        table: its name in lower case.

    Returns:
        Type by name, in the table's order; empty if there is no such table.
    """
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE NOT internal AND lower(table_name) = ? "
        "AND database_name = current_database() AND schema_name = current_schema() ORDER BY column_index",
        [table],
    ).fetchall()
    return dict(rows)


def ensure_table(connection: DuckDBPyConnection, table: str, columns: Mapping[str, str]) -> None:
    """Create a table, or add the nullable columns that it lacks.

    Args:
        connection: in a transaction.
        table: its name in lower case.
        columns: type by name.

    Raises:
        SchemaDrift: it exists in another shape.
    """
    have = describe(connection, table)
    if not have:
        definition = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
        connection.execute(f"CREATE TABLE {quoted(table)} ({definition})")
        return
    spelling = {_folded(name): name for name in have}
    want = {spelling.get(_folded(name), name): kind for name, kind in columns.items()}
    for name, kind in columns_to_add(table, have, want).items():
        connection.execute(f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(name)} {kind}")


def _folded(name: str) -> bytes:
    """What two spellings of a column share: DuckDB ignores the case of A to Z, and of nothing else."""
    return name.encode().lower()
