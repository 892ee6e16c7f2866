"""The ledger `taxi_loads` in DuckDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.destinations.base import LEDGER, Holding, Load
from flows.destinations.duckdb.tables import describe, ensure_table, quoted
from flows.destinations.ledger import Dialect, Relation, only_load

if TYPE_CHECKING:
    import datetime as dt

    from duckdb import DuckDBPyConnection

    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth

# Converted to UTC in the query, because DuckDB needs pytz to return a time with its zone.
DIALECT = Dialect(lambda kind: kind.duckdb, loaded_at="loaded_at AT TIME ZONE 'UTC'")


def write(connection: DuckDBPyConnection, load: Load) -> None:
    """Replace the row of a month; the ledger is created if there is none.

    Args:
        connection: in a transaction.
        load: the new row.

    Raises:
        SchemaDrift: the ledger exists in another shape.
    """
    ensure_table(connection, LEDGER, DIALECT.columns)
    for statement, values in DIALECT.replace_row(quoted(LEDGER), load):
        connection.execute(statement, values)


def read(connection: DuckDBPyConnection, month: TripMonth) -> Load | None:
    """The row of a month, if the table has the rows it records.

    Args:
        connection: open.
        month: which one.
    """
    return only_load(holdings(connection, month.dataset, (month.first_day, month.first_day)))


def holdings(
    connection: DuckDBPyConnection, dataset: Dataset, between: tuple[dt.date, dt.date]
) -> list[Holding]:
    """The months that the ledger or the table has; see `Destination.holdings`.

    Args:
        connection: open.
        dataset: whose months.
        between: first and last month, both included.
    """
    ledger, table = (Relation(quoted(name), describe(connection, name)) for name in (LEDGER, dataset.table))
    return DIALECT.holdings(
        ledger,
        table,
        dataset.name,
        between,
        lambda statement, *values: connection.execute(statement, values).fetchall(),
    )
