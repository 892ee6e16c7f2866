"""What a TLC dataset looks like: its columns, declared once, and every schema derived from them.

Names, types and dates come from the TLC's data dictionaries and the published files themselves
(https://www.nyc.gov/site/tlc/about/tlc-trip-record-data.page).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from transforms.column import Column, ColumnType

if TYPE_CHECKING:
    import pyarrow as pa

TIMESTAMP_FORMAT = "%Y-%m-%d %H:%M:%S"
"""How every TLC CSV writes a timestamp: New York local time, no offset."""

FILE_MONTH = "file_month"
"""The one column we add: the first day of the month of the *file*, the key of every replacement."""

FILE_MONTH_COLUMN = Column(FILE_MONTH, ColumnType.DATE, "First day of the month of the file")


ROW_NUMBER = "(row number)"
"""Our name for a first column without a name, the index that pandas writes; it is not loaded."""

UNNAMED = ("", "unnamed: 0")


class ColumnsDiffer(ValueError):
    """A file's header cannot be matched to the dataset; the message lists every difference."""


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """How a file's columns map onto a dataset's.

    Attributes:
        columns: the canonical name of each file column, in the file's order.
        missing: declared columns that the file does not have; they are filled with null.
        new: columns of the file that not every month has: historic ones, and undeclared ones, which are
            kept as text.
        merged: pairs of a declared column and another of the file's columns that holds values of it, see
            `Column.is_merged`.
    """

    columns: tuple[str, ...]
    missing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    merged: tuple[tuple[str, str], ...] = ()

    @property
    def has_row_number(self) -> bool:
        """Whether the file's first column has no name; it must hold row numbers."""
        return ROW_NUMBER in self.columns


@dataclass(frozen=True)
class Dataset:
    """One of the TLC's four trip datasets.

    Attributes:
        name: `yellow`, `green`, `fhv` or `fhvhv`.
        title: its name for people.
        first_month: first month (`YYYY-MM`) the TLC published.
        pickup, dropoff: names of the two timestamps.
        columns: in the order in which every destination shows them.
        historic: columns of old files only. A month has them only if its file does, after the others, so
            that recent months do not carry them empty.
        distinguishing_column: must be in a file whose pick-up column has an older name, because files of
            other datasets have a `pickup_datetime` too.
    """

    name: str
    title: str
    first_month: str
    pickup: str
    dropoff: str
    columns: tuple[Column, ...]
    historic: tuple[Column, ...] = ()
    distinguishing_column: str | None = None

    def __post_init__(self) -> None:
        """Refuse a declaration in which two columns share a spelling."""
        spellings = Counter(spelling for c in self._declared.values() for spelling in _spellings(c))
        if clashes := [spelling for spelling, times in spellings.items() if times > 1]:
            raise ValueError(f"{self.name}: two columns claim the spelling {clashes}")

    @property
    def table(self) -> str:
        """The name of the table, the same in every warehouse."""
        return f"{self.name}_taxi_trips"

    @cached_property
    def column(self) -> Mapping[str, Column]:
        """The declared columns by name, without the historic ones."""
        return {column.name: column for column in self.columns}

    @cached_property
    def _declared(self) -> Mapping[str, Column]:
        return {column.name: column for column in (*self.columns, *self.historic)}

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """The canonical name of every spelling."""
        return {spelling: c.name for c in self._declared.values() for spelling in _spellings(c)}

    @cached_property
    def schema_version(self) -> str:
        """Twelve hex digits that change whenever a name, spelling, type, code or null rule changes."""
        columns = (*self.columns, *self.historic)
        text = ";".join(f"{c.name}:{c.aliases}:{c.type.label}:{c.required}:{c.codes}" for c in columns)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _declaration(self, name: str) -> Column:
        if name == ROW_NUMBER:
            return Column(name, ColumnType.INTEGER, "Row number", required=True)
        if name == FILE_MONTH:
            return FILE_MONTH_COLUMN
        return self._declared.get(name) or Column(name, ColumnType.TEXT, "Not declared, kept as text")

    def undeclared(self, names: Iterable[str]) -> tuple[str, ...]:
        """Select the names that are neither declared nor historic.

        Args:
            names: canonical names.

        Returns:
            The undeclared ones, in order.
        """
        return tuple(name for name in names if name not in self._declared)

    def columns_of(self, match: HeaderMatch) -> tuple[Column, ...]:
        """Look up the declaration of each column of a file.

        Args:
            match: the file's header.

        Returns:
            The declarations in the file's order; undeclared and merged columns are text.
        """
        return tuple(map(self._declaration, match.columns))

    def types(self, new: Iterable[str] = ()) -> dict[str, ColumnType]:
        """List every column of a staged file.

        Args:
            new: the file's historic and undeclared columns, see `HeaderMatch.new`.

        Returns:
            Types by column name: the declared columns, then `new`, then `file_month`.
        """
        declared = {column.name: column.type for column in self.columns}
        return {
            **declared,
            **{name: self._declaration(name).type for name in new},
            FILE_MONTH: ColumnType.DATE,
        }

    def arrow_schema(self, new: Iterable[str] = ()) -> pa.Schema:
        """Derive the staged file's Arrow schema.

        Args:
            new: see `types`.

        Returns:
            The columns of `types`; `file_month` is the only one that is never null.
        """
        import pyarrow as pa

        return pa.schema(
            pa.field(name, kind.arrow, nullable=name != FILE_MONTH) for name, kind in self.types(new).items()
        )

    def duckdb_columns(self, new: Iterable[str] = ()) -> dict[str, str]:
        """Derive the columns of a staged file for DuckDB.

        Args:
            new: see `types`.

        Returns:
            DuckDB's type names by column name.
        """
        return {name: kind.duckdb for name, kind in self.types(new).items()}

    def postgres_columns(self, new: Iterable[str] = ()) -> dict[str, str]:
        """Derive the columns of a staged file for Postgres.

        Args:
            new: see `types`.

        Returns:
            Type names by column name, as Postgres' `format_type` spells them.
        """
        return {name: kind.postgres for name, kind in self.types(new).items()}

    def bigquery_columns(self, new: Iterable[str] = ()) -> dict[str, str]:
        """Derive the columns of a staged file for BigQuery.

        Args:
            new: see `types`.

        Returns:
            GoogleSQL's type names by column name.
        """
        return {name: kind.bigquery for name, kind in self.types(new).items()}

    def bigquery_schema(self, new: Iterable[str] = ()) -> list[dict[str, str]]:
        """Describe the columns as BigQuery's REST API does.

        Args:
            new: see `types`.

        Returns:
            One field per column, its unit in the description; only `file_month` is `REQUIRED`.
        """
        columns = [self._declaration(name) for name in self.types(new)]
        return [
            {
                "name": column.name,
                "type": column.type.bigquery,
                "mode": "REQUIRED" if column is FILE_MONTH_COLUMN else "NULLABLE",
                "description": column.comment,
            }
            for column in columns
        ]

    def comments(self, names: Iterable[str]) -> dict[str, str]:
        """Derive what a warehouse says about columns.

        Args:
            names: of columns of the table.

        Returns:
            Comments by column name; columns that people have added have none.
        """
        ours = {*self._declared, FILE_MONTH}
        return {name: self._declaration(name).comment for name in names if name in ours}

    def match_header(self, header: Sequence[str], *, allow_new: bool = False) -> HeaderMatch:
        """Map a file's column names to the declared ones, by spelling and never by position.

        Args:
            header: the names as the file has them; case, surrounding blanks and quotes do not count.
            allow_new: keep undeclared columns as text instead of refusing them.

        Returns:
            The canonical names, and what differs from the declaration.

        Raises:
            ColumnsDiffer: no name is known, a required column is missing, two file columns are the
                same, or there are undeclared ones and `allow_new` is off.
        """
        names = [name.strip().strip('"').strip() for name in header]
        known = [self._names.get(_fold(name)) for name in names]
        if not any(known):
            raise ColumnsDiffer(
                f"the first line has no {self.name} column name in it (it reads {_shorten(names)}); "
                f"expected a header such as {_shorten([c.name for c in self.columns])}"
            )
        columns, merged = self._merge(
            [canonical or name for canonical, name in zip(known, names, strict=True)], names
        )
        if _fold(names[0]) in UNNAMED:
            columns = (ROW_NUMBER, *columns[1:])
        duplicates = [name for name, times in Counter(map(_fold, columns)).items() if times > 1]
        if duplicates:
            raise ColumnsDiffer(f"the header names a column twice: {', '.join(duplicates)}")
        missing = tuple(c.name for c in self.columns if c.name not in columns)
        missing_required = [name for name in missing if self.column[name].required]
        if missing_required:
            raise ColumnsDiffer(f"required columns are missing: {', '.join(missing_required)}")
        mark = self.distinguishing_column
        if mark and mark not in columns and self.pickup.lower() not in map(_fold, names):
            raise ColumnsDiffer(f"this is no {self.name} file: it has neither {self.pickup} nor {mark}")
        others = {ROW_NUMBER, *(other for _, other in merged)}
        new = tuple(name for name in columns if name not in self.column and name not in others)
        self._check_undeclared(self.undeclared(new), allow_new=allow_new)
        return HeaderMatch(columns, missing, new, merged)

    def _merge(
        self, columns: list[str], names: list[str]
    ) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        """Let further spellings of a merged column keep the file's name; return them as pairs."""
        merged: list[tuple[str, str]] = []
        for column in self.columns:
            places = [place for place, name in enumerate(columns) if name == column.name]
            if not column.is_merged or len(places) < 2:
                continue
            kept = next((place for place in places if _fold(names[place]) == _fold(column.name)), places[0])
            for place in places:
                if place != kept:
                    columns[place] = names[place]
                    merged.append((column.name, names[place]))
        return tuple(columns), tuple(merged)

    def _check_undeclared(self, names: tuple[str, ...], *, allow_new: bool) -> None:
        if any(not name or _fold(name) == FILE_MONTH for name in names):
            raise ColumnsDiffer(
                f"the header has an empty name or one that is reserved ({FILE_MONTH}): {_shorten(names)}"
            )
        if names and not allow_new:
            raise ColumnsDiffer(
                f"the file has columns that {self.name} does not declare: {', '.join(names)}; "
                "--allow-new-columns carries them along as text, or declare them in "
                f"transforms/datasets/{self.name}.py"
            )

    def expected_missing(self, missing: Iterable[str], month: str) -> tuple[str, ...]:
        """Select the columns that a file of a month lacks by their `since` and `until`.

        Args:
            missing: names of declared columns.
            month: `YYYY-MM`.

        Returns:
            Those of `missing` that are expected to be, in order.
        """
        columns = [self.column[name] for name in missing]
        return tuple(c.name for c in columns if not (c.since or "") <= month <= (c.until or "9999-12"))


def _spellings(column: Column) -> set[str]:
    return {_fold(name) for name in (column.name, *column.aliases)}


def _fold(name: str) -> str:
    return name.strip().lower()


def _shorten(names: Sequence[str], limit: int = 80) -> str:
    text = ", ".join(names)
    return repr(text if len(text) <= limit else text[:limit] + "...")
