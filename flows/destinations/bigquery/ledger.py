"""The ledger `taxi_loads` and the table `taxi_rejects` in BigQuery."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING

from google.cloud import bigquery

from flows.destinations.base import LEDGER, REJECTS, Load
from flows.destinations.bigquery.tables import Tables, describe_tables, literal, new_table, qualified
from flows.destinations.ledger import NULLABLE, REJECT_COLUMNS, REJECTS_FILE_COLUMNS, Ledger
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from flows.destinations.bigquery.connection import BigQuerySession
    from transforms.trip_month import TripMonth


def ledger_of(session: BigQuerySession, tables: Tables | None = None) -> Ledger:
    """The ledger of a BigQuery dataset.

    Args:
        session: whose BigQuery dataset exists.
        tables: the ledger and the tables it is compared with, if they have been read already.
    """

    def columns(name: str) -> dict[str, str]:
        table = (tables or describe_tables(session, name))[name]
        return table.columns if table else {}

    return Ledger(
        query=lambda statement, *_: session.rows(statement),
        describe=columns,
        qualified=partial(qualified, session),
        type_name=lambda kind: kind.bigquery,
        value=lambda _, value: literal(value),
    )


def read_load(session: BigQuerySession, month: TripMonth, tables: Tables | None = None) -> Load | None:
    """The row of a month, if the table has the rows it records; otherwise None.

    Args:
        session: whose BigQuery dataset exists.
        month: which one.
        tables: the ledger and the month's table, if they have been read already.
    """
    return ledger_of(session, tables).read(month.dataset.table, month.color, month.first_day)


def ledger_table(session: BigQuerySession) -> bigquery.Table:
    """The definition of the ledger.

    Args:
        session: in whose BigQuery dataset.
    """
    types = ledger_of(session).columns
    schema = [
        {
            "name": field.name,
            "type": types[field.name],
            "mode": "NULLABLE" if field.name in NULLABLE else "REQUIRED",
            **field.metadata,
        }
        for field in fields(Load)
    ]
    return new_table(session, LEDGER, schema, "which month was loaded from what")


REJECTS_FILE_SCHEMA = [
    {"name": name, "type": kind.bigquery, "mode": "NULLABLE", "description": text}
    for name, (kind, text) in zip(REJECTS_FILE_COLUMNS, [*REJECT_COLUMNS.values()][-3:], strict=True)
]
"""The columns of a file of rejects."""


def rejects_table(session: BigQuerySession) -> bigquery.Table:
    """The definition of the table of rejects.

    Args:
        session: in whose BigQuery dataset.
    """
    schema = [
        {"name": name, "type": kind.bigquery, "mode": "REQUIRED", "description": text}
        for name, (kind, text) in REJECT_COLUMNS.items()
    ]
    table = new_table(session, REJECTS, schema, "which rows were not loaded, and why")
    table.time_partitioning = bigquery.TimePartitioning("MONTH", FILE_MONTH)
    return table


def replace_rejects(session: BigQuerySession, load: Load, staging: str | None) -> list[str]:
    """The statements that replace the rejects of a month.

    Args:
        session: whose BigQuery dataset exists.
        load: the month's row in the ledger.
        staging: the table with the new ones, in the columns of `REJECTS_FILE_SCHEMA`; None: there are none.
    """
    ledger = ledger_of(session)
    statements = [ledger.delete_rejects(load)]
    if staging:
        statements.append(ledger.insert_rejects(load, qualified(session, staging)))
    return [statement for statement, _ in statements]
