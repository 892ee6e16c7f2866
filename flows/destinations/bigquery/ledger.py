"""The ledger `taxi_loads` in BigQuery."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from flows.destinations.base import LEDGER, Holding, Load
from flows.destinations.bigquery.tables import describe_tables, literal, new_table, qualified
from flows.destinations.ledger import COLUMN_NAMES, Dialect, Relation, only_load, to_load

if TYPE_CHECKING:
    import datetime as dt

    from google.cloud import bigquery

    from flows.destinations.bigquery.connection import BigQuerySession
    from flows.destinations.bigquery.tables import Tables
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth

DIALECT = Dialect(lambda kind: kind.bigquery, value=lambda _, value: literal(value))


def ledger_table(session: BigQuerySession) -> bigquery.Table:
    """The definition of the ledger.

    Args:
        session: in whose BigQuery dataset.
    """
    types = DIALECT.columns
    schema = [
        {"name": field.name, "type": types[field.name], "mode": "REQUIRED", **field.metadata}
        for field in fields(Load)
    ]
    return new_table(session, LEDGER, schema, "which month was loaded from what")


def replace_row(session: BigQuerySession, load: Load) -> list[str]:
    """The statements that replace the row of a month.

    Args:
        session: whose ledger exists.
        load: the new row.
    """
    return [statement for statement, _ in DIALECT.replace_row(qualified(session, LEDGER), load)]


def read_row(session: BigQuerySession, month: TripMonth) -> Load | None:
    """The row of a month, whatever it records; None if there is none, or several.

    Args:
        session: whose ledger exists.
        month: which one.
    """
    is_month = DIALECT.is_month(month.color, month.first_day)
    rows = session.rows(f"SELECT {COLUMN_NAMES} FROM {qualified(session, LEDGER)} WHERE {is_month}")
    return to_load(rows[0]) if len(rows) == 1 else None


def read(session: BigQuerySession, month: TripMonth, tables: Tables | None = None) -> Load | None:
    """The row of a month, if the table has the rows it records.

    Args:
        session: whose BigQuery dataset exists.
        month: which one.
        tables: see `holdings`.
    """
    return only_load(holdings(session, month.dataset, (month.first_day, month.first_day), tables))


def holdings(
    session: BigQuerySession, dataset: Dataset, between: tuple[dt.date, dt.date], tables: Tables | None = None
) -> list[Holding]:
    """The months that the ledger or the table has; see `Destination.holdings`.

    Args:
        session: whose BigQuery dataset exists.
        dataset: whose months.
        between: first and last month, both included.
        tables: the ledger and the dataset's table, if they have been read already.
    """
    tables = tables or describe_tables(session, dataset.table, LEDGER)
    ledger, trips = (
        Relation(qualified(session, name), table.columns if (table := tables[name]) else {})
        for name in (LEDGER, dataset.table)
    )
    return DIALECT.holdings(
        ledger, trips, dataset.name, between, lambda statement, *_: session.rows(statement)
    )
