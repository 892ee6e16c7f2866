"""The tables in Postgres: their names, their shape, and what is refused.

`yellow_taxi_trips`, partitioned by `file_month`, holds one table a month: `yellow_taxi_trips_2021_01`. A
month is loaded as `yellow_taxi_trips_2021_01_loading`, which nobody reads; the lock on it is held by the
run that loads it, so one without a holder was left by a killed run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.destinations.base import LEDGER
from flows.errors import SchemaDrift, UsageError
from transforms.dataset import FILE_MONTH, ColumnType

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterable, Mapping

    import pyarrow as pa

    from flows.destinations.postgres.connection import PostgresSession
    from transforms.trip_month import TripMonth

SCHEMA = "public"
LOADING = "_loading"
PARTITION_KEY = f"LIST ({FILE_MONTH})"
LONGEST_NAME_BYTES = 63  # Postgres cuts longer ones off without a word

ARROW_TO_POSTGRES = {kind.arrow: kind.postgres for kind in ColumnType}


def quoted(name: str) -> str:
    """A name as a Postgres identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def qualified(table: str) -> str:
    """A table of ours with its schema, quoted."""
    return f"{SCHEMA}.{quoted(table)}"


def lock_key(name: str) -> int:
    """The advisory lock that stands for a name: 64 bits, signed."""
    return int.from_bytes(hashlib.sha256(f"taxi-etl {name}".encode()).digest()[:8], signed=True)


@dataclass(frozen=True, slots=True)
class MonthNames:
    """What the tables of a month are called.

    Attributes:
        parent: the table that people query.
        month: the month's partition.
        first_day: what it holds.
    """

    parent: str
    month: str
    first_day: dt.date

    @classmethod
    def of(cls, month: TripMonth, parent: str) -> MonthNames:
        """The names of a month of a table.

        Raises:
            UsageError: Postgres cannot have a table of that name.
        """
        names = cls(parent, f"{parent}_{month.year:04}_{month.month:02}", month.first_day)
        longest = LONGEST_NAME_BYTES - len(names.loading.removeprefix(parent))
        if not parent or "\0" in parent or len(parent.encode()) > longest or parent == LEDGER:
            raise UsageError(
                f"no table can be called {parent!r}: 1 to {longest} bytes, no \\x00, and not {LEDGER}"
            )
        return names

    @property
    def loading(self) -> str:
        """The table into which the month is loaded."""
        return self.month + LOADING

    @property
    def bound(self) -> str:
        """What the partition holds, as Postgres writes it."""
        return f"FOR VALUES IN ('{self.first_day}')"


@dataclass(frozen=True, slots=True)
class PostgresTable:
    """A table as Postgres has it.

    Attributes:
        is_partition: it belongs to another table.
        partition_key: such as `LIST (file_month)`; empty if it has no partitions.
        columns: type by name, in the table's order, as `format_type` spells it.
        required: columns that take no null and have no default.
    """

    is_partition: bool
    partition_key: str
    columns: dict[str, str]
    required: frozenset[str]


def describe(session: PostgresSession, name: str) -> PostgresTable | None:
    """The table (or view) of that name, None if there is none."""
    found = session.rows(
        """
        SELECT c.relispartition, coalesce(pg_get_partkeydef(c.oid), ''), a.attname::text,
               format_type(a.atttypid, a.atttypmod), a.attnotnull AND NOT a.atthasdef
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE n.nspname = $1 AND c.relname = $2
        ORDER BY a.attnum
        """,
        SCHEMA,
        name,
    )
    if not found:
        return None
    is_partition, partition_key = found[0][:2]
    columns = {row[2]: row[3] for row in found if row[2] is not None}
    return PostgresTable(is_partition, partition_key, columns, frozenset(row[2] for row in found if row[4]))


def is_attached(session: PostgresSession, names: MonthNames) -> bool:
    """Whether the month has its partition."""
    return _partitions(session, names.parent).get(names.month) == names.bound


def check_room(session: PostgresSession, names: MonthNames) -> None:
    """Raise `SchemaDrift` if the month's name, or its place in the parent, is taken by another table."""
    partitions = _partitions(session, names.parent)
    if partitions.get(names.month) == names.bound:
        return
    taken = [f"{name} is {bound}" for name, bound in partitions.items() if f"'{names.first_day}'" in bound]
    if describe(session, names.month) and not taken:
        taken = [f"{names.month} exists and is not {names.bound}"]
    if taken:
        raise SchemaDrift(
            f"{names.parent} has no room for {names.month}: {'; '.join(taken)}. Either keep it under another "
            f"name (ALTER TABLE ... RENAME TO ...; detach it first if it is a partition) or drop it, and run "
            "the same command again"
        )


def _partitions(session: PostgresSession, parent: str) -> dict[str, str]:
    """Name and bound of each partition."""
    return dict(
        session.rows(
            """
            SELECT c.relname::text, pg_get_expr(c.relpartbound, c.oid)
            FROM pg_inherits i
            JOIN pg_class c ON c.oid = i.inhrelid
            JOIN pg_class p ON p.oid = i.inhparent
            WHERE p.relnamespace = to_regnamespace($1) AND p.relname = $2 AND c.relispartition
            """,
            SCHEMA,
            parent,
        )
    )


def lacking(name: str, table: PostgresTable, want: Mapping[str, str]) -> dict[str, str]:
    """The columns, all nullable, by which a table has to grow to take a month.

    Raises:
        SchemaDrift: it is not such a table; names every difference and the two ways on.
    """
    differ = [
        f"{column} is {table.columns[column]}, not {kind}"
        for column, kind in want.items()
        if table.columns.get(column, kind) != kind
    ]
    if table.partition_key != PARTITION_KEY:
        now = table.partition_key and f", but by {table.partition_key}"
        differ.insert(0, f"it is not partitioned by {PARTITION_KEY}{now}")
    if FILE_MONTH not in table.columns:
        differ.append(f"there is no column {FILE_MONTH}")
    differ += [
        f"{column} takes no null, and the file does not have it" for column in table.required - {*want}
    ]
    if differ:
        raise SchemaDrift(
            f"table {name} exists in another shape: {'; '.join(differ)}. Either keep it under another name "
            f"(ALTER TABLE {qualified(name)} RENAME TO {quoted(name + '_old')}) or drop it (DROP TABLE "
            f"{qualified(name)}), and run the same command again; see docs/postgres.md"
        )
    return {column: kind for column, kind in want.items() if column not in table.columns}


def check_names(columns: Iterable[str]) -> None:
    """Raise `SchemaDrift` if Postgres would cut the name of a column."""
    if cut := [column for column in columns if len(column.encode()) > LONGEST_NAME_BYTES]:
        raise SchemaDrift(
            f"Postgres has no names of more than {LONGEST_NAME_BYTES} bytes, but the file has the columns "
            f"{', '.join(cut)}; rename them in the file, or run it without --allow-new-columns"
        )


def check_target(
    session: PostgresSession, name: str, batches: pa.Schema, without: Collection[str] = ()
) -> None:
    """The guard before a COPY: names, order and types of the table are those of the Arrow batches.

    Args:
        session: where the table is.
        name: its name.
        batches: what will be copied.
        without: columns that the table fills in.

    Raises:
        SchemaDrift: they are not. The driver would write a wrong value without an error: int64 appended to
            a double precision column arrives as 5e-324.
    """
    table = describe(session, name)
    columns = {c: kind for c, kind in table.columns.items() if c not in without} if table else {}
    arriving = {field.name: ARROW_TO_POSTGRES.get(field.type, str(field.type)) for field in batches}
    differ = [
        f"{column} is {columns.get(column, 'not there')}, in the file {arriving.get(column, 'not there')}"
        for column in (columns | arriving)
        if columns.get(column) != arriving.get(column)
    ]
    if not differ and (list(columns) != list(arriving) or len(batches) != len(arriving)):
        differ = [f"the table's order is {', '.join(columns)}; the file's {', '.join(batches.names)}"]
    if differ:
        raise SchemaDrift(
            f"nothing is copied into {name}, because the staged file holds something else: "
            f"{'; '.join(differ)}. Stage the month again with --force"
        )
