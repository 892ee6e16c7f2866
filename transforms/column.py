"""One column of a dataset: its name, type, unit and history."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported late: the command line needs the declarations, but not the engines
    import polars as pl
    import pyarrow as pa

LONGEST_TEXT_BYTES = 2**14
"""A row with a longer text is a reject: the longest real ones have some 20 bytes."""


class ColumnType(enum.Enum):
    """The types a column can have, with their name in each engine; `label` is the one in messages."""

    INTEGER = ("integer", "BIGINT", "bigint", "INT64")
    FLOAT = ("float", "DOUBLE", "double precision", "FLOAT64")
    TEXT = ("text", "VARCHAR", "text", "STRING")
    TIMESTAMP = ("timestamp", "TIMESTAMP", "timestamp without time zone", "DATETIME")
    DATE = ("date", "DATE", "date", "DATE")

    def __init__(self, label: str, duckdb: str, postgres: str, bigquery: str) -> None:
        """Name the parts of a member's value."""
        self.label = label
        self.duckdb = duckdb
        self.postgres = postgres
        self.bigquery = bigquery

    @cached_property
    def polars(self) -> pl.DataType:
        """Polars' type."""
        import polars as pl

        numbers = {INTEGER: pl.Int64(), FLOAT: pl.Float64()}
        return {**numbers, TEXT: pl.String(), TIMESTAMP: pl.Datetime("us"), DATE: pl.Date()}[self]

    @cached_property
    def arrow(self) -> pa.DataType:
        """Arrow's type."""
        import pyarrow as pa

        numbers = {INTEGER: pa.int64(), FLOAT: pa.float64()}
        return {**numbers, TEXT: pa.string(), TIMESTAMP: pa.timestamp("us"), DATE: pa.date32()}[self]


INTEGER, FLOAT, TEXT, TIMESTAMP = ColumnType.INTEGER, ColumnType.FLOAT, ColumnType.TEXT, ColumnType.TIMESTAMP
DATE = ColumnType.DATE
"""Short names for declarations."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a dataset.

    Attributes:
        name: the TLC's own spelling, kept in every warehouse.
        type: its type everywhere.
        description: a phrase in sentence case, without the unit.
        unit: of a measure, such as `mile`, `USD` or `count`; None for codes, flags, ids and timestamps.
        since: first month (`YYYY-MM`) whose files have it; None: the dataset's first month.
        until: last month whose files have it; None: still published.
        aliases: spellings of other years, compared without regard to case.
        required: a file without it is refused, and a row without a value for it is rejected.
        is_merged: a file may have several spellings of it as columns of their own; a row's value is the one
            that is not empty. For text columns that are not required.
        codes: (text, number) pairs for integer columns that are words in older files; the texts are in
            lower case, and neither case nor surrounding blanks count.
    """

    name: str
    type: ColumnType
    description: str
    unit: str | None = None
    since: str | None = None
    until: str | None = None
    aliases: tuple[str, ...] = ()
    required: bool = False
    is_merged: bool = False
    codes: tuple[tuple[str, int], ...] = ()

    @property
    def comment(self) -> str:
        """What a warehouse says about the column: the description, with the unit if it has one."""
        return self.description + (f" ({self.unit})" if self.unit else "")
