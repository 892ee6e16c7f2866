"""The tables `taxi_loads` and `taxi_rejects` in SQL: their columns and statements, in each dialect."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any, NamedTuple, get_type_hints

from flows.destinations.base import LEDGER, REJECTS, Holding, Load
from transforms.dataset import FILE_MONTH, ColumnType


class SqlType(NamedTuple):
    """A type that no trip column has, by its name in each warehouse; see `ColumnType` for the others."""

    duckdb: str
    postgres: str
    bigquery: str


SQL_TYPES: Mapping[object, ColumnType | SqlType] = {
    str: ColumnType.TEXT,
    str | None: ColumnType.TEXT,
    int: ColumnType.INTEGER,
    dt.date: ColumnType.DATE,
    dt.datetime: SqlType("TIMESTAMP WITH TIME ZONE", "timestamp with time zone", "TIMESTAMP"),
}
NAMES = [field.name for field in fields(Load)]
NULLABLE = [field.name for field in fields(Load) if field.default is None]
"""Columns that came later: a ledger without them is read as if they were null."""

REJECT_COLUMNS: Mapping[str, tuple[ColumnType, str]] = {
    "dataset": (ColumnType.TEXT, "yellow, green, fhv or fhvhv"),
    FILE_MONTH: (ColumnType.DATE, "first day of the month of the file"),
    "line_number": (ColumnType.INTEGER, "line of a CSV file, the header being 1; row of a Parquet file"),
    "text": (ColumnType.TEXT, "the row as the file has it"),
    "reason": (ColumnType.TEXT, "why it was not loaded"),
}
"""Type and description of each column of `taxi_rejects`; none is ever null."""

REJECTS_FILE_COLUMNS = ("line", "raw", "reason")
"""The last three of them in the file of rejects next to a staged file."""


@dataclass(frozen=True)
class Ledger:
    """The ledger and the rejects of one warehouse, over an open connection.

    Attributes:
        query: runs a statement, given with the values of its placeholders, and returns the rows.
        describe: returns the columns of a table, type by name; empty if there is no such table.
        qualified: writes the name of a table as it stands in a statement.
        type_name: names a type.
        value: writes the n-th value of a statement, counted from 1: a placeholder for it, or a literal.
        loaded_at: how the column `loaded_at` is selected.
    """

    query: Callable[..., Sequence[Sequence[Any]]]
    describe: Callable[[str], Mapping[str, str]]
    qualified: Callable[[str], str]
    type_name: Callable[[ColumnType | SqlType], str]
    value: Callable[[int, Any], str] = lambda n, _: f"${n}"
    loaded_at: str = "loaded_at"

    @property
    def columns(self) -> dict[str, str]:
        """The ledger's columns: type by name, in order."""
        return {name: self.type_name(SQL_TYPES[hint]) for name, hint in get_type_hints(Load).items()}

    @property
    def reject_columns(self) -> dict[str, str]:
        """The columns of `taxi_rejects`: type by name, in order."""
        return {name: self.type_name(kind) for name, (kind, _) in REJECT_COLUMNS.items()}

    def is_month(self, dataset: str, month: dt.date) -> str:
        """The condition that selects the row of a month; its values are the statement's first and second.

        Args:
            dataset: the dataset's name in the ledger.
            month: its first day.
        """
        return f"dataset = {self.value(1, dataset)} AND {FILE_MONTH} = {self.value(2, month)}"

    def replace_row(self, load: Load) -> list[tuple[str, tuple[Any, ...]]]:
        """The statements that replace the row of a month, each with the values of its placeholders.

        Args:
            load: the new row.
        """
        ledger, key, values = self.qualified(LEDGER), (load.dataset, load.file_month), astuple(load)
        written = ", ".join(self.value(n, value) for n, value in enumerate(values, 1))
        return [
            (f"DELETE FROM {ledger} WHERE {self.is_month(*key)}", key),
            (f"INSERT INTO {ledger} ({', '.join(NAMES)}) VALUES ({written})", values),
        ]

    def delete_rejects(self, load: Load) -> tuple[str, tuple[Any, ...]]:
        """The statement that deletes the rejects of a month, with the values of its placeholders.

        Args:
            load: the month's row in the ledger.
        """
        key = (load.dataset, load.file_month)
        return f"DELETE FROM {self.qualified(REJECTS)} WHERE {self.is_month(*key)}", key

    def insert_rejects(self, load: Load, source: str) -> tuple[str, tuple[Any, ...]]:
        """The statement that adds the rejects of a month, with the values of its placeholders.

        Args:
            load: the month's row in the ledger.
            source: what it selects from, with `REJECTS_FILE_COLUMNS`.
        """
        key = (load.dataset, load.file_month)
        values = ", ".join(self.value(n, value) for n, value in enumerate(key, 1))
        return (
            f"INSERT INTO {self.qualified(REJECTS)} ({', '.join(REJECT_COLUMNS)}) "
            f"SELECT {values}, {', '.join(REJECTS_FILE_COLUMNS)} FROM {source}"
        ), key

    def read(self, table: str, dataset: str, month: dt.date) -> Load | None:
        """The row of a month, if the table has the rows it records; otherwise None.

        Args:
            table: the table with the dataset's trips.
            dataset: the dataset's name in the ledger.
            month: its first day.
        """
        holdings = self.holdings(table, dataset, (month, month))
        return holdings[0].load if len(holdings) == 1 and holdings[0].reconciles else None

    def holdings(self, table: str, dataset: str, between: tuple[dt.date, dt.date]) -> list[Holding]:
        """The months that the ledger or the table has; see `Destination.holdings`.

        NOTE: one statement reads all tables, so that it sees them at the same moment. If one is missing, or
        has another shape, it counts as empty.

        Args:
            table: the table with the dataset's trips.
            dataset: the dataset's name in the ledger.
            between: first and last month, both included.
        """
        month_column = {FILE_MONTH: self.columns[FILE_MONTH]}
        in_ledger = self.describe(LEDGER)
        required = {name: kind for name, kind in self.columns.items() if name not in NULLABLE}
        has_ledger = required.items() <= in_ledger.items()
        has_table = month_column.items() <= self.describe(table).items()
        if not has_ledger and not has_table:
            return []
        has_rejects = has_ledger and self.reject_columns.items() <= self.describe(REJECTS).items()
        selected = {name: name for name in NAMES} | {"loaded_at": self.loaded_at}
        if has_ledger:
            missing = {name: self.columns[name] for name in NULLABLE if name not in in_ledger}
            selected |= {name: f"CAST(NULL AS {kind})" for name, kind in missing.items()}
        key, first, last = (self.value(n, value) for n, value in enumerate((dataset, *between), 1))
        rows = self.query(
            f"""
            WITH recorded AS (
                SELECT {", ".join(f"{value} AS {name}" for name, value in selected.items())}
                FROM {self.qualified(LEDGER) if has_ledger else _no_rows(self.columns)}
                WHERE dataset = {key} AND {FILE_MONTH} BETWEEN {first} AND {last}
            ), counted AS (
                SELECT {FILE_MONTH}, count(*) AS row_count
                FROM {self.qualified(table) if has_table else _no_rows(month_column)}
                WHERE {FILE_MONTH} BETWEEN {first} AND {last} GROUP BY {FILE_MONTH}
            ), refused AS (
                SELECT {FILE_MONTH}, count(*) AS row_count
                FROM {self.qualified(REJECTS) if has_rejects else _no_rows(self.reject_columns)}
                WHERE dataset = {key} AND {FILE_MONTH} BETWEEN {first} AND {last} GROUP BY {FILE_MONTH}
            )
            SELECT coalesce(recorded.{FILE_MONTH}, counted.{FILE_MONTH}), coalesce(counted.row_count, 0),
                   coalesce(refused.row_count, 0), {", ".join(f"recorded.{name}" for name in NAMES)}
            FROM recorded FULL JOIN counted ON recorded.{FILE_MONTH} = counted.{FILE_MONTH}
            LEFT JOIN refused ON recorded.{FILE_MONTH} = refused.{FILE_MONTH}
            ORDER BY 1
            """,
            dataset,
            *between,
        )
        return [
            Holding(month, to_load(row) if row[0] else None, count, rejects)
            for month, count, rejects, *row in rows
        ]


def to_load(row: Sequence[Any]) -> Load:
    """The ledger row that a query returned.

    Args:
        row: the columns of `Load`, in order; a time without a zone is in UTC.
    """
    load = Load(*row)
    at = load.loaded_at
    return replace(load, loaded_at=at.astimezone(dt.UTC) if at.tzinfo else at.replace(tzinfo=dt.UTC))


def _no_rows(columns: Mapping[str, str]) -> str:
    nulls = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
    return f"(SELECT {nulls} LIMIT 0) AS no_rows"
