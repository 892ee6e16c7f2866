"""The views, the dimension tables and the comments of columns in DuckDB."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from operator import attrgetter

import duckdb

from flows.destinations.duckdb.tables import quoted
from flows.destinations.views import (
    Dialect,
    Relation,
    Relations,
    column_comments,
    mark_in,
    plan_views,
    relation_names,
    statements,
    warn_about_failure,
    warn_about_names,
)

DIALECT = Dialect("duckdb", attrgetter("duckdb"), quoted, quoted, fold=str.lower)


def publish_views(connection: duckdb.DuckDBPyConnection, place: str, *, with_views: bool) -> None:
    """Make or renew the views and the comments of columns, if there is anything to be done.

    A failure is logged, not raised.

    Args:
        connection: outside of a transaction; no other one of this process changes the file meanwhile.
        place: the file, for messages.
        with_views: False: only the comments of columns.
    """
    try:
        connection.begin()
        if todo := _statements(connection, place, with_views=with_views):
            connection.execute(";\n".join(todo))
        connection.commit()
    except duckdb.Error as error:
        with contextlib.suppress(duckdb.Error):
            connection.rollback()
        warn_about_failure(str(error).partition("\n")[0], place)


def _statements(connection: duckdb.DuckDBPyConnection, place: str, *, with_views: bool) -> list[str]:
    relations = _relations(connection)
    todo = list(column_comments(relations, DIALECT))
    if with_views and (plan := plan_views(relations, DIALECT)):
        warn_about_names(plan, place)
        if plan.views or plan.dimensions:
            todo += statements(plan, relations, DIALECT)
    return todo


def _relations(connection: duckdb.DuckDBPyConnection) -> Relations:
    here = "database_name = current_database() AND schema_name = current_schema()"
    rows = connection.execute(
        f"""
        SELECT lower(table_name), column_name, data_type, columns.comment, relations.comment
        FROM duckdb_columns() AS columns JOIN (
            SELECT table_oid, comment FROM duckdb_tables() WHERE {here}
            UNION ALL SELECT view_oid, comment FROM duckdb_views() WHERE {here}
        ) AS relations USING (table_oid)
        WHERE {here} AND list_contains(?, lower(table_name)) ORDER BY column_index
        """,
        [list(relation_names())],
    ).fetchall()
    columns, uncommented, comments = (
        defaultdict[str, dict[str, str]](dict),
        defaultdict[str, list[str]](list),
        dict[str, str | None](),
    )
    for table, column, kind, comment, comments[table] in rows:
        columns[table][column] = kind
        if comment is None:
            uncommented[table].append(column)
    return {
        table: Relation(columns[table], mark_in(comment), tuple(uncommented[table]))
        for table, comment in comments.items()
    }
