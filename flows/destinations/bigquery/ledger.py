"""The ledger `taxi_loads` in BigQuery: which month was loaded from what."""

from __future__ import annotations

import datetime as dt
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

from flows.destinations.base import LEDGER, Holding, Load, columns_to_add
from flows.destinations.bigquery.tables import create, describe, grow, literal, new_table, quoted
from flows.errors import DestinationBusy
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from flows.destinations.bigquery.connection import BigQuerySession
    from flows.destinations.bigquery.tables import BigQueryTable
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth

COLUMNS = {
    "dataset": "STRING",
    FILE_MONTH: "DATE",
    "source": "STRING",
    "source_sha256": "STRING",
    "schema_version": "STRING",
    "row_transforms": "STRING",
    "source_rows": "INT64",
    "rejected_rows": "INT64",
    "row_count": "INT64",
    "loaded_at": "TIMESTAMP",
}
DESCRIBED = {
    "dataset": "yellow, green, fhv or fhvhv",
    FILE_MONTH: "first day of the month of the file",
    "source": "URL of the file",
    "source_sha256": "of the file's bytes",
    "schema_version": "of the declaration it was staged by",
    "row_transforms": "what was done to the rows on request",
    "source_rows": "rows in the file",
    "rejected_rows": "rows refused",
    "row_count": "rows loaded",
    "loaded_at": "when",
}
NAMES = ", ".join(field.name for field in fields(Load))
ATTEMPTS = 5


def missing_columns(ledger: BigQueryTable) -> dict[str, str]:
    """The columns the ledger lacks.

    Raises:
        SchemaDrift: it exists in another shape.
    """
    return columns_to_add(LEDGER, ledger.columns, COLUMNS)


def ensure(session: BigQuerySession, known: BigQueryTable | None = None) -> BigQueryTable:
    """Create the ledger, or add the columns it lacks.

    Args:
        session: whose dataset is there.
        known: the ledger as it was a while ago; not asked for again if it lacks nothing.

    Raises:
        SchemaDrift: it exists in another shape.
    """
    for _ in range(ATTEMPTS):
        ledger, known = known or describe(session, LEDGER), None
        if ledger is None:
            schema = [_field(name, kind, "REQUIRED") for name, kind in COLUMNS.items()]
            create(session, new_table(session, LEDGER, schema, "which month was loaded from what"))
        elif missing := missing_columns(ledger):
            grow(session, LEDGER, [_field(name, kind, "NULLABLE") for name, kind in missing.items()])
        else:
            return ledger
    raise DestinationBusy(f"{LEDGER} keeps being changed by somebody else; try again later")


def writing(session: BigQuerySession, load: Load) -> list[str]:
    """The statements that put a row in the place of the one of the same dataset and month."""
    ledger = quoted(f"{session.dataset}.{LEDGER}")
    values = ", ".join(literal(value) for value in astuple(load))
    key = f"dataset = {literal(load.dataset)} AND {FILE_MONTH} = {literal(load.file_month)}"
    return [f"DELETE FROM {ledger} WHERE {key}", f"INSERT INTO {ledger} ({NAMES}) VALUES ({values})"]


@dataclass(frozen=True, slots=True)
class Tables:
    """The two tables a month touches, as they were when they were looked at; None: not there."""

    target: BigQueryTable | None
    ledger: BigQueryTable | None


def look(session: BigQuerySession, dataset: Dataset) -> Tables:
    """Ask for both tables."""
    return Tables(describe(session, dataset.table), describe(session, LEDGER))


def read(session: BigQuerySession, month: TripMonth, tables: Tables | None = None) -> Load | None:
    """The row of a month, if the table has the rows it says.

    Args:
        session: whose dataset is there.
        month: which one.
        tables: if somebody has looked at them already.
    """
    tables = tables or look(session, month.dataset)
    found = holdings(session, month.dataset, (month.first_day, month.first_day), tables)
    return found[0].load if len(found) == 1 and found[0].reconciles else None


def holdings(
    session: BigQuerySession, dataset: Dataset, between: tuple[dt.date, dt.date], tables: Tables
) -> list[Holding]:
    """See `Destination.holdings`. One statement, which sees both tables as they were at one moment."""
    ledger, table = tables.ledger, tables.target
    within = f"{FILE_MONTH} BETWEEN {literal(between[0])} AND {literal(between[1])}"
    noted = (
        "SELECT "
        + ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in COLUMNS.items())
        + " LIMIT 0"
    )
    there = f"SELECT CAST(NULL AS DATE) AS {FILE_MONTH}, 0 AS counted LIMIT 0"
    if is_ledger := bool(ledger and COLUMNS.items() <= ledger.columns.items()):
        name = quoted(f"{session.dataset}.{LEDGER}")
        noted = f"SELECT {NAMES} FROM {name} WHERE dataset = {literal(dataset.name)} AND {within}"
    if is_table := bool(table and table.columns.get(FILE_MONTH) == "DATE"):
        name = quoted(f"{session.dataset}.{dataset.table}")
        there = f"SELECT {FILE_MONTH}, count(*) AS counted FROM {name} WHERE {within} GROUP BY {FILE_MONTH}"
    if not is_ledger and not is_table:
        return []
    found = session.rows(
        f"WITH noted AS ({noted}), there AS ({there}) "
        f"SELECT coalesce(noted.{FILE_MONTH}, there.{FILE_MONTH}), coalesce(there.counted, 0), "
        f"{', '.join(f'noted.{name}' for name in COLUMNS)} "
        f"FROM noted FULL JOIN there ON noted.{FILE_MONTH} = there.{FILE_MONTH} ORDER BY 1"
    )
    return [
        Holding(month, Load(*values, loaded_at=at.astimezone(dt.UTC)) if at else None, counted)
        for month, counted, *values, at in found
    ]


def _field(name: str, kind: str, mode: str) -> dict[str, str]:
    return {"name": name, "type": kind, "mode": mode, "description": DESCRIBED[name]}
