"""The views, the dimension tables and the comments of columns in Postgres."""

from __future__ import annotations

from collections import defaultdict
from operator import attrgetter
from typing import TYPE_CHECKING

from flows.destinations.postgres.identifiers import quoted
from flows.destinations.postgres.tables import lock_key
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
from flows.errors import TaxiError

if TYPE_CHECKING:
    from flows.destinations.postgres.connection import PostgresSession


def publish_views(
    session: PostgresSession, *, with_views: bool, lock_timeout_seconds: float, attempt_seconds: float
) -> None:
    """Make or renew the views and the comments of columns, if there is anything to be done.

    A failure is logged, not raised.

    Args:
        session: outside of a transaction.
        with_views: False: only the comments of columns.
        lock_timeout_seconds: how long another run that makes the same views is waited for.
        attempt_seconds: how long each statement waits for readers while new readers queue behind it.
    """
    try:
        with session.transaction():
            todo = _statements(session, with_views=with_views)
        if todo:
            with session.transaction():
                session.set_lock_timeout(lock_timeout_seconds)
                session.rows("SELECT pg_advisory_xact_lock($1)", lock_key("makes views", session.schema))
                # Another run may just have done the same.
                if todo := _statements(session, with_views=with_views):
                    session.set_lock_timeout(attempt_seconds)
                    session.execute(";\n".join(todo))
    except TaxiError as error:
        warn_about_failure(error.message, _place(session))


def _statements(session: PostgresSession, *, with_views: bool) -> list[str]:
    dialect = Dialect(
        "postgres", attrgetter("postgres"), session.qualified, quoted, (session.schema,), key=" PRIMARY KEY"
    )
    relations = _relations(session)
    todo = list(column_comments(relations, dialect))
    if with_views and (plan := plan_views(relations, dialect)):
        warn_about_names(plan, _place(session))
        if plan.views or plan.dimensions:
            todo += statements(plan, relations, dialect)
    return todo


def _place(session: PostgresSession) -> str:
    return f"the schema {session.schema}"


def _relations(session: PostgresSession) -> Relations:
    # A view is bound to a table and not to its name: of a table that was renamed, and made anew under the
    # old name, it would show the old one.
    rows = session.rows(
        """
        SELECT c.relname::text, c.oid::text, obj_description(c.oid, 'pg_class'), a.attname::text,
               format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE n.nspname = $1 AND c.relname = ANY ($2::text[]) AND c.relkind <> 'i'
        ORDER BY a.attnum
        """,
        session.schema,
        list(relation_names()),
    )
    columns, uncommented, tables = (
        defaultdict[str, dict[str, str]](dict),
        defaultdict[str, list[str]](list),
        dict[str, tuple[str, str | None]](),
    )
    for table, oid, table_comment, column, kind, column_comment in rows:
        tables[table] = oid, table_comment
        columns[table][column] = kind
        if column_comment is None:
            uncommented[table].append(column)
    return {
        table: Relation(columns[table], mark_in(comment), tuple(uncommented[table]), oid)
        for table, (oid, comment) in tables.items()
    }
