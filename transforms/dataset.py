"""What a TLC dataset looks like: its columns, declared once, and every schema derived from them.

Source of names, types and dates: the TLC's data dictionaries and the published files themselves
(https://www.nyc.gov/site/tlc/about/tlc-trip-record-data.page).
"""

from __future__ import annotations

import enum
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TIMESTAMP_FORMAT = "%Y-%m-%d %H:%M:%S"
"""How every TLC CSV writes a point in time: New York local time, no offset."""

FILE_MONTH = "file_month"
"""The one column that is ours: first day of the month of the *file*, the key of every replacement."""


class ColumnType(enum.Enum):
    """The five types a trip column can have, with their name in each engine."""

    INTEGER = ("integer", pl.Int64(), pa.int64(), "BIGINT", "bigint", "INT64")
    FLOAT = ("float", pl.Float64(), pa.float64(), "DOUBLE", "double precision", "FLOAT64")
    TEXT = ("text", pl.String(), pa.string(), "VARCHAR", "text", "STRING")
    TIMESTAMP = (
        "timestamp",
        pl.Datetime("us"),
        pa.timestamp("us"),
        "TIMESTAMP",
        "timestamp without time zone",
        "DATETIME",
    )
    DATE = ("date", pl.Date(), pa.date32(), "DATE", "date", "DATE")

    def __init__(
        self, label: str, polars: pl.DataType, arrow: pa.DataType, duckdb: str, postgres: str, bigquery: str
    ) -> None:
        """Bind the names; `label` is what people read in messages."""
        self.label = label
        self.polars = polars
        self.arrow = arrow
        self.duckdb = duckdb
        self.postgres = postgres
        self.bigquery = bigquery


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a dataset.

    Attributes:
        name: the TLC's own spelling, kept in every warehouse.
        type: its type everywhere.
        description: one line, with the unit where there is one.
        since: first month (`YYYY-MM`) whose files have it; None: always there.
        until: last month whose files have it; None: still there.
        aliases: spellings of other years, compared without regard to case.
        required: a file without it is refused, and a row without a value for it is rejected.
        codes: the numbers of texts that older files have in a column of whole numbers, in lower case;
            neither case nor surrounding blanks count.
    """

    name: str
    type: ColumnType
    description: str
    since: str | None = None
    until: str | None = None
    aliases: tuple[str, ...] = ()
    required: bool = False
    codes: tuple[tuple[str, int], ...] = ()


class ColumnsDiffer(ValueError):
    """A file's header cannot be matched to the dataset; the message lists every difference."""


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """How a file's columns map onto a dataset's.

    Attributes:
        columns: canonical name of each file column, in the file's order.
        missing: declared columns that the file does not have; they are filled with null.
        new: columns of the file that not every month has: historic ones, and undeclared ones, which are
            carried along as text.
    """

    columns: tuple[str, ...]
    missing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """One of the TLC's four trip datasets.

    Attributes:
        name: `yellow`, `green`, `fhv` or `fhvhv`.
        title: what a person calls it.
        first_month: first month (`YYYY-MM`) the TLC published.
        pickup, dropoff: names of the two timestamps.
        columns: in the order in which every destination shows them.
        historic: columns of old files only. A month has them if its file does, behind the others; so that
            months of today do not carry them empty.
        proof: a column that a file must have whose pick-up goes by another name than today's: files of other
            datasets have a `pickup_datetime` as well.
    """

    name: str
    title: str
    first_month: str
    pickup: str
    dropoff: str
    columns: tuple[Column, ...]
    historic: tuple[Column, ...] = ()
    proof: str | None = None
    _by_spelling: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index every spelling, and refuse a declaration in which two columns share one."""
        spellings = [
            (_fold(spelling), column.name)
            for column in (*self.columns, *self.historic)
            for spelling in (column.name, *column.aliases)
        ]
        index = dict(spellings)
        clashes = [s for s, n in Counter(s for s, _ in set(spellings)).items() if n > 1]
        if clashes:
            raise ValueError(f"{self.name}: two columns claim the spelling {clashes}")
        object.__setattr__(self, "_by_spelling", index)

    @property
    def table(self) -> str:
        """The name of the table, the same in every warehouse."""
        return f"{self.name}_taxi_trips"

    @cached_property
    def column(self) -> Mapping[str, Column]:
        """The declared columns by name."""
        return {column.name: column for column in self.columns}

    @cached_property
    def _historic(self) -> Mapping[str, Column]:
        return {column.name: column for column in self.historic}

    def declaration(self, name: str) -> Column:
        """The declaration of a column of a file; an undeclared one is text."""
        declared = self.column.get(name) or self._historic.get(name)
        return declared or Column(name, ColumnType.TEXT, "carried along, not declared")

    def undeclared(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` that are declared nowhere."""
        return tuple(name for name in names if name not in self.column and name not in self._historic)

    @cached_property
    def schema_version(self) -> str:
        """Twelve hex digits that change whenever a name, spelling, type, code or null rule changes."""
        columns = (*self.columns, *self.historic)
        text = ";".join(f"{c.name}:{c.aliases}:{c.type.label}:{c.required}:{c.codes}" for c in columns)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def types(self, new: Iterable[str] = ()) -> dict[str, ColumnType]:
        """Every column of the staged file in order: declared, then `new`, then the month."""
        declared = {column.name: column.type for column in self.columns}
        carried = {name: self.declaration(name).type for name in new}
        return {**declared, **carried, FILE_MONTH: ColumnType.DATE}

    def arrow_schema(self, new: Iterable[str] = ()) -> pa.Schema:
        """The staged file's Arrow schema; the file month is the only column that is never null."""
        return pa.schema(
            pa.field(name, kind.arrow, nullable=name != FILE_MONTH) for name, kind in self.types(new).items()
        )

    def duckdb_columns(self, new: Iterable[str] = ()) -> dict[str, str]:
        """DuckDB's type name for each column of the staged file."""
        return {name: kind.duckdb for name, kind in self.types(new).items()}

    def postgres_columns(self, new: Iterable[str] = ()) -> dict[str, str]:
        """Postgres' type name for each column of the staged file, as `format_type` spells it."""
        return {name: kind.postgres for name, kind in self.types(new).items()}

    def bigquery_columns(self, new: Iterable[str] = ()) -> dict[str, str]:
        """BigQuery's type name for each column of the staged file, as GoogleSQL spells it."""
        return {name: kind.bigquery for name, kind in self.types(new).items()}

    def bigquery_schema(self, new: Iterable[str] = ()) -> list[dict[str, str]]:
        """The columns as BigQuery's REST API describes them; only the file month is never null."""
        described = {FILE_MONTH: "first day of the month of the file"}
        return [
            {
                "name": name,
                "type": kind,
                "mode": "REQUIRED" if name == FILE_MONTH else "NULLABLE",
                "description": described.get(name) or self.declaration(name).description,
            }
            for name, kind in self.bigquery_columns(new).items()
        ]

    def match_header(self, header: Sequence[str], *, allow_new: bool = False) -> HeaderMatch:
        """Map a file's column names to ours, by spelling and never by position.

        Args:
            header: the names as the file has them; case, surrounding blanks and quotes do not count.
            allow_new: carry undeclared columns along as text instead of refusing them.

        Raises:
            ColumnsDiffer: no name is known, a required column is missing, two file columns are the
                same, or there are undeclared ones and `allow_new` is off.
        """
        names = [name.strip().strip('"').strip() for name in header]
        known = [self._by_spelling.get(_fold(name)) for name in names]
        if not any(known):
            raise ColumnsDiffer(
                f"the first line has no {self.name} column name in it (it reads {_shorten(names)}); "
                f"expected a header such as {_shorten([c.name for c in self.columns])}"
            )
        columns = tuple(ours or name for ours, name in zip(known, names, strict=True))
        twice = [name for name, n in Counter(map(_fold, columns)).items() if n > 1]
        if twice:
            raise ColumnsDiffer(f"the header names a column twice: {', '.join(twice)}")
        missing = tuple(c.name for c in self.columns if c.name not in columns)
        absent = [name for name in missing if self.column[name].required]
        if absent:
            raise ColumnsDiffer(f"required columns are missing: {', '.join(absent)}")
        if self.proof and self.proof not in columns and self.pickup.lower() not in map(_fold, names):
            raise ColumnsDiffer(f"this is no {self.name} file: it has neither {self.pickup} nor {self.proof}")
        new = tuple(name for name in columns if name not in self.column)
        self._check_new(self.undeclared(new), allow_new=allow_new)
        return HeaderMatch(columns, missing, new)

    def columns_of(self, match: HeaderMatch) -> tuple[Column, ...]:
        """The declaration of each column of a file, in its order; undeclared ones are text."""
        return tuple(map(self.declaration, match.columns))

    def _check_new(self, new: tuple[str, ...], *, allow_new: bool) -> None:
        if any(not name or _fold(name) == FILE_MONTH for name in new):
            raise ColumnsDiffer(
                f"the header has an empty name or one that is reserved ({FILE_MONTH}): {_shorten(new)}"
            )
        if new and not allow_new:
            raise ColumnsDiffer(
                f"the file has columns that {self.name} does not declare: {', '.join(new)}; "
                "--allow-new-columns carries them along as text, or declare them in "
                f"transforms/datasets/{self.name}.py"
            )

    def expected_missing(self, missing: Iterable[str], month: str) -> tuple[str, ...]:
        """Those of `missing` whose since/until says that a file of `month` (`YYYY-MM`) lacks them."""

        def outside(column: Column) -> bool:
            too_early = column.since is not None and month < column.since
            return too_early or (column.until is not None and month > column.until)

        return tuple(name for name in missing if outside(self.column[name]))


def _fold(name: str) -> str:
    return name.strip().lower()


def _shorten(names: Sequence[str], limit: int = 80) -> str:
    text = ", ".join(names)
    return repr(text if len(text) <= limit else text[:limit] + "...")
