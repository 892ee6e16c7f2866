"""The ledger `taxi_loads` in Postgres."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from flows.destinations.base import LEDGER, Holding, Load, columns_to_add
from flows.destinations.ledger import Ledger
from flows.destinations.postgres.ddl import add_columns
from flows.destinations.postgres.identifiers import quoted
from flows.destinations.postgres.tables import MonthNames, describe, is_attached
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from flows.destinations.postgres.connection import PostgresSession


def _ledger(session: PostgresSession) -> Ledger:
    def columns(name: str) -> dict[str, str]:
        table = describe(session, name)
        return table.columns if table else {}

    return Ledger(session.rows, columns, session.qualified, lambda kind: kind.postgres)


def ensure(session: PostgresSession) -> None:
    """Create the ledger, or add the columns it lacks.

    Args:
        session: in a transaction.

    Raises:
        SchemaDrift: it exists in another shape.
    """
    want = _ledger(session).columns
    if (ledger := describe(session, LEDGER)) is None:
        columns = ", ".join(f"{quoted(name)} {kind} NOT NULL" for name, kind in want.items())
        session.execute(
            f"CREATE TABLE {session.qualified(LEDGER)} ({columns}, PRIMARY KEY (dataset, {FILE_MONTH}))"
        )
        return
    add_columns(session, LEDGER, columns_to_add(LEDGER, ledger.columns, want))


def write(session: PostgresSession, load: Load) -> None:
    """Replace the row of a month.

    Args:
        session: in a transaction.
        load: the new row.
    """
    for statement, values in _ledger(session).replace_row(load):
        session.execute(statement, *values)


def read(session: PostgresSession, names: MonthNames, dataset: str) -> Load | None:
    """The row of a month, if the month's table has the rows it records; otherwise None.

    Args:
        session: connected.
        names: the month's tables.
        dataset: the dataset's name in the ledger.
    """
    if not is_attached(session, names):
        return None
    # Counted through the parent, because an account may have the right to read only that.
    return _ledger(session).read(names.parent, dataset, names.first_day)


def holdings(
    session: PostgresSession, parent: str, dataset: str, between: tuple[dt.date, dt.date]
) -> list[Holding]:
    """The months that the ledger or the table has; see `Destination.holdings`.

    Args:
        session: connected.
        parent: the table that people query.
        dataset: the dataset's name in the ledger.
        between: first and last month, both included.
    """
    return _ledger(session).holdings(parent, dataset, between)
