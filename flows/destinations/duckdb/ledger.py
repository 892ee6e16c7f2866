"""The ledger `taxi_loads` in DuckDB."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flows.destinations.duckdb.tables import describe, quoted
from flows.destinations.ledger import Ledger

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def ledger_of(connection: DuckDBPyConnection) -> Ledger:
    """The ledger of a warehouse.

    Args:
        connection: open.
    """
    return Ledger(
        query=lambda statement, *values: connection.execute(statement, values).fetchall(),
        describe=partial(describe, connection),
        qualified=quoted,
        type_name=lambda kind: kind.duckdb,
        # Converted to UTC in the query, because DuckDB needs pytz to return a time with its zone.
        loaded_at="loaded_at AT TIME ZONE 'UTC'",
    )
