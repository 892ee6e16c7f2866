"""The ledger `taxi_loads` in BigQuery."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING

from flows.destinations.base import LEDGER, Load
from flows.destinations.bigquery.tables import Tables, describe_tables, literal, new_table, qualified
from flows.destinations.ledger import Ledger

if TYPE_CHECKING:
    from google.cloud import bigquery

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
        {"name": field.name, "type": types[field.name], "mode": "REQUIRED", **field.metadata}
        for field in fields(Load)
    ]
    return new_table(session, LEDGER, schema, "which month was loaded from what")
