"""The ledger `taxi_loads` in SQL: its columns and its statements, in the dialect of each warehouse."""

from __future__ import annotations

import datetime as dt
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from flows.destinations.base import Holding, Load
from transforms.dataset import FILE_MONTH, ColumnType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class SqlType(NamedTuple):
    """A type that no trip column has, by its name in each warehouse; see `ColumnType` for the others."""

    duckdb: str
    postgres: str
    bigquery: str


SQL_TYPES: Mapping[object, ColumnType | SqlType] = {
    str: ColumnType.TEXT,
    int: ColumnType.INTEGER,
    dt.date: ColumnType.DATE,
    dt.datetime: SqlType("TIMESTAMP WITH TIME ZONE", "timestamp with time zone", "TIMESTAMP"),
}
COLUMN_NAMES = ", ".join(field.name for field in fields(Load))


class Relation(NamedTuple):
    """A table as the warehouse has it.

    Attributes:
        name: qualified and quoted.
        columns: type by name; empty if there is no such table.
    """

    name: str
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a warehouse writes the ledger's statements.

    Attributes:
        type_name: the name of a type.
        value: the n-th value of a statement, counted from 1: its placeholder, or the value as a literal.
        loaded_at: how the column `loaded_at` is selected.
    """

    type_name: Callable[[ColumnType | SqlType], str]
    value: Callable[[int, Any], str] = lambda n, _: f"${n}"
    loaded_at: str = "loaded_at"

    @property
    def columns(self) -> dict[str, str]:
        """The ledger's columns: type by name, in order."""
        return {name: self.type_name(SQL_TYPES[hint]) for name, hint in get_type_hints(Load).items()}

    def is_month(self, dataset: str, month: dt.date) -> str:
        """The condition that selects the row of a month; its values are the statement's first and second.

        Args:
            dataset: the dataset's name in the ledger.
            month: its first day.
        """
        return f"dataset = {self.value(1, dataset)} AND {FILE_MONTH} = {self.value(2, month)}"

    def replace_row(self, ledger: str, load: Load) -> list[tuple[str, tuple[Any, ...]]]:
        """The statements that replace the row of a month.

        Args:
            ledger: the table, qualified and quoted.
            load: the new row.

        Returns:
            Each statement with the values of its placeholders.
        """
        values, key = astuple(load), (load.dataset, load.file_month)
        written = ", ".join(self.value(n, value) for n, value in enumerate(values, 1))
        return [
            (f"DELETE FROM {ledger} WHERE {self.is_month(*key)}", key),
            (f"INSERT INTO {ledger} ({COLUMN_NAMES}) VALUES ({written})", values),
        ]

    def holdings(
        self,
        ledger: Relation,
        table: Relation,
        dataset: str,
        between: tuple[dt.date, dt.date],
        query: Callable[..., Sequence[Sequence[Any]]],
    ) -> list[Holding]:
        """The months that the ledger or the table has; see `Destination.holdings`.

        A ledger or a table that is missing, or has another shape, counts as empty.

        Args:
            ledger: the ledger.
            table: the table with the dataset's trips.
            dataset: the dataset's name in the ledger.
            between: first and last month, both included.
            query: called with a statement and the values of its placeholders; returns the rows.
        """
        month_column = {FILE_MONTH: self.columns[FILE_MONTH]}
        has_ledger = self.columns.items() <= ledger.columns.items()
        has_table = month_column.items() <= table.columns.items()
        if not has_ledger and not has_table:
            return []
        statement = self._compare(
            ledger.name if has_ledger else self._no_rows(self.columns),
            table.name if has_table else self._no_rows(month_column),
            *(self.value(n, value) for n, value in enumerate((dataset, *between), 1)),
        )
        return [
            Holding(month, to_load(row) if row[-1] else None, counted)
            for month, counted, *row in query(statement, dataset, *between)
        ]

    def _compare(self, ledger: str, table: str, dataset: str, first: str, last: str) -> str:
        """NOTE: one statement, so that it sees ledger and table at the same moment."""
        *names, loaded_at = self.columns
        return f"""
            WITH recorded AS (
                SELECT {", ".join(names)}, {self.loaded_at} AS {loaded_at} FROM {ledger}
                WHERE dataset = {dataset} AND {FILE_MONTH} BETWEEN {first} AND {last}
            ), counted AS (
                SELECT {FILE_MONTH}, count(*) AS row_count FROM {table}
                WHERE {FILE_MONTH} BETWEEN {first} AND {last} GROUP BY {FILE_MONTH}
            )
            SELECT coalesce(recorded.{FILE_MONTH}, counted.{FILE_MONTH}), coalesce(counted.row_count, 0),
                   {", ".join(f"recorded.{name}" for name in self.columns)}
            FROM recorded FULL JOIN counted ON recorded.{FILE_MONTH} = counted.{FILE_MONTH}
            ORDER BY 1
            """

    def _no_rows(self, columns: Mapping[str, str]) -> str:
        nulls = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
        return f"(SELECT {nulls} LIMIT 0) AS no_rows"


def to_load(row: Sequence[Any]) -> Load:
    """The ledger row that a warehouse returned.

    Args:
        row: the columns of `Load`, in order; a time without a zone is in UTC.
    """
    *values, loaded_at = row
    in_utc = loaded_at.astimezone(dt.UTC) if loaded_at.tzinfo else loaded_at.replace(tzinfo=dt.UTC)
    return Load(*values, loaded_at=in_utc)


def only_load(holdings: Sequence[Holding]) -> Load | None:
    """The ledger row of the only month in a list, if its table has the rows it records; otherwise None."""
    return holdings[0].load if len(holdings) == 1 and holdings[0].reconciles else None
