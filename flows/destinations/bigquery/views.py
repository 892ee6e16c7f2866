"""The views and dimension tables in BigQuery; columns of tables have their descriptions from the start."""

from __future__ import annotations

import threading
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from flows.destinations.bigquery.connection import REST_LIMITS, BigQuerySession
from flows.destinations.bigquery.errors import translate_errors
from flows.destinations.bigquery.tables import describe_tables, literal, qualified, quoted
from flows.destinations.views import (
    Dialect,
    Relation,
    Relations,
    ViewPlan,
    comment_of,
    plan_views,
    relation_names,
    warn_about_failure,
    warn_about_names,
)
from flows.errors import TaxiError
from transforms import sql
from transforms.datasets import DATASETS
from transforms.dimensions import Dimension

if TYPE_CHECKING:
    from transforms.views import View

LABEL = "taxi_etl"
"""The label that carries the mark, because the list of tables shows labels and no descriptions."""

_turn = threading.Lock()


def publish_views(session: BigQuerySession, lock_timeout_seconds: float) -> None:
    """Make or renew the views, if there is anything to be done.

    Every statement replaces one object in one step, dimension tables first, and each view by one that fits
    those before it. A failure is logged, not raised.

    Args:
        session: whose dataset exists.
        lock_timeout_seconds: how long other runs that do the same are waited for.
    """
    dialect = Dialect(
        "bigquery",
        attrgetter("bigquery"),
        partial(qualified, session),
        quoted,
        (session.address.project, session.address.dataset),
        fold=str.lower,
    )
    try:
        with _turn:
            plan = plan_views(_relations(session), dialect)
            if plan and (plan.dimensions or plan.views):
                session.run_with_retry(_script(plan, dialect), "the views", lock_timeout_seconds)
        if plan:
            warn_about_names(plan, session.dataset)
    except TaxiError as error:
        warn_about_failure(error.message, session.dataset)


def _relations(session: BigQuerySession) -> Relations:
    with translate_errors():
        listed = {
            item.table_id: item.labels.get(LABEL)
            for item in session.client.list_tables(session.dataset, page_size=1000, **REST_LIMITS)
            if item.table_id in relation_names()
        }
    trips = [dataset.table for dataset in DATASETS.values() if dataset.table in listed]
    tables = describe_tables(session, *trips)
    return {
        name: Relation(table.columns if (table := tables.get(name)) else {}, mark)
        for name, mark in listed.items()
    }


def _script(plan: ViewPlan, dialect: Dialect) -> str:
    statements = [
        f"CREATE OR REPLACE TABLE {_head(item, plan.mark, dialect)} AS\n{_rows(item, dialect)}"
        for item in plan.dimensions
    ]
    statements += [
        f"CREATE OR REPLACE VIEW {_head(view, plan.mark, dialect)} AS\n"
        + sql.render(view.query, dialect.name, dialect.schema)
        for view in plan.views
    ]
    return ";\n".join(statements)


def _head(item: Dimension | View, mark: str, dialect: Dialect) -> str:
    """The name, the columns and what is said about them."""
    columns = ", ".join(
        f"{quoted(column.name)} {dialect.type_name(column.type) if isinstance(item, Dimension) else ''} "
        f"OPTIONS (description = {literal(column.comment)})"
        for column in item.columns
    )
    label = f"[({literal(LABEL)}, {literal(mark)})]"
    options = f"OPTIONS (description = {literal(comment_of(item, mark))}, labels = {label})"
    return f"{dialect.qualified(item.name)} ({columns}) {options}"


def _rows(dimension: Dimension, dialect: Dialect) -> str:
    columns = ", ".join(f"{column.name} {dialect.type_name(column.type)}" for column in dimension.columns)
    rows = ", ".join(f"({', '.join(map(literal, row))})" for row in dimension.rows)
    return f"SELECT * FROM UNNEST(ARRAY<STRUCT<{columns}>>[{rows}])"
