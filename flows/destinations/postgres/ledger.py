"""The ledger `taxi_loads` in Postgres: which month was loaded from what."""

from __future__ import annotations

import datetime as dt
from dataclasses import astuple, fields
from typing import TYPE_CHECKING

from flows.destinations.base import LEDGER, Holding, Load, columns_to_add
from flows.destinations.postgres.ddl import add_columns
from flows.destinations.postgres.tables import describe, is_attached, qualified, quoted
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from flows.destinations.postgres.connection import PostgresSession
    from flows.destinations.postgres.tables import MonthNames

COLUMNS = {
    "dataset": "text",
    FILE_MONTH: "date",
    "source": "text",
    "source_sha256": "text",
    "schema_version": "text",
    "row_transforms": "text",
    "source_rows": "bigint",
    "rejected_rows": "bigint",
    "row_count": "bigint",
    "loaded_at": "timestamp with time zone",
}
NAMES = ", ".join(field.name for field in fields(Load))


def ensure(session: PostgresSession) -> None:
    """Create the ledger, or add the columns it lacks.

    Raises:
        SchemaDrift: it exists in another shape.
    """
    if (ledger := describe(session, LEDGER)) is None:
        defined = ", ".join(f"{quoted(column)} {kind} NOT NULL" for column, kind in COLUMNS.items())
        session.execute(f"CREATE TABLE {qualified(LEDGER)} ({defined}, PRIMARY KEY (dataset, {FILE_MONTH}))")
        return
    add_columns(session, LEDGER, columns_to_add(LEDGER, ledger.columns, COLUMNS))


def write(session: PostgresSession, load: Load) -> None:
    """Put a row in the place of the one of the same dataset and month."""
    session.execute(
        f"DELETE FROM {qualified(LEDGER)} WHERE dataset = $1 AND {FILE_MONTH} = $2",
        load.dataset,
        load.file_month,
    )
    values = astuple(load)
    marks = ", ".join(f"${at}" for at in range(1, len(values) + 1))
    session.execute(f"INSERT INTO {qualified(LEDGER)} ({NAMES}) VALUES ({marks})", *values)


def read(session: PostgresSession, names: MonthNames, dataset: str) -> Load | None:
    """The row of a month, if its table has the rows it says."""
    ledger = describe(session, LEDGER)
    if not ledger or not COLUMNS.items() <= ledger.columns.items() or not is_attached(session, names):
        return None
    found = session.rows(
        f"SELECT {NAMES} FROM {qualified(LEDGER)} WHERE dataset = $1 AND {FILE_MONTH} = $2",
        dataset,
        names.first_day,
    )
    if not found:
        return None
    *values, loaded_at = found[0]
    load = Load(*values, loaded_at=loaded_at.astimezone(dt.UTC))
    # Through the table that people query: whoever may read it may ask.
    [[rows]] = session.rows(
        f"SELECT count(*) FROM {qualified(names.parent)} WHERE {FILE_MONTH} = $1", names.first_day
    )
    return load if rows == load.row_count else None


def holdings(
    session: PostgresSession, parent: str, dataset: str, between: tuple[dt.date, dt.date]
) -> list[Holding]:
    """What ledger and table have of each month; one statement, which sees both at one moment."""
    noted, there = qualified(LEDGER), qualified(parent)
    ledger, table = describe(session, LEDGER), describe(session, parent)
    if not ledger or not COLUMNS.items() <= ledger.columns.items():
        nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in COLUMNS.items())
        noted = f"(SELECT {nothing} WHERE false) AS nothing"
    if not table or table.columns.get(FILE_MONTH) != "date":
        there = f"(SELECT NULL::date AS {FILE_MONTH} WHERE false) AS nothing"
    found = session.rows(
        f"""
        SELECT coalesce(noted.{FILE_MONTH}, there.{FILE_MONTH}), coalesce(there.counted, 0),
               {", ".join(f"noted.{field.name}" for field in fields(Load))}
        FROM (SELECT * FROM {noted} WHERE dataset = $1 AND {FILE_MONTH} BETWEEN $2 AND $3) AS noted
        FULL JOIN (SELECT {FILE_MONTH}, count(*) AS counted FROM {there}
                   WHERE {FILE_MONTH} BETWEEN $2 AND $3 GROUP BY {FILE_MONTH}) AS there
        ON noted.{FILE_MONTH} = there.{FILE_MONTH}
        ORDER BY 1
        """,
        dataset,
        *between,
    )
    return [
        Holding(month, Load(*values, loaded_at=at.astimezone(dt.UTC)) if at else None, counted)
        for month, counted, *values, at in found
    ]
