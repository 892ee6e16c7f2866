"""The tables in Postgres: their names, and what the server says about them.

`yellow_taxi_trips`, partitioned by `file_month`, has one partition per month: `yellow_taxi_trips_2021_01`. A
month is copied into `yellow_taxi_trips_2021_01_loading` before it is swapped in; see `swap`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.destinations.base import LEDGER
from flows.destinations.postgres.identifiers import quoted
from flows.errors import UsageError

if TYPE_CHECKING:
    from flows.destinations.postgres.connection import PostgresSession
    from transforms.trip_month import TripMonth

LOADING = "_loading"
LONGEST_NAME_BYTES = 63  # Postgres silently truncates longer ones


def lock_key(name: str, schema: str = "public") -> int:
    """Derive the key of an advisory lock.

    Args:
        name: of what is locked.
        schema: where that is.

    Returns:
        A signed number of 64 bits.
    """
    # Without `public`, so that earlier versions of this program have the same keys.
    place = "" if schema == "public" else f"{quoted(schema)}."
    return int.from_bytes(hashlib.sha256(f"taxi-etl {place}{name}".encode()).digest()[:8], signed=True)


@dataclass(frozen=True, slots=True)
class MonthNames:
    """The names of a month's tables.

    Attributes:
        parent: the partitioned table that people query.
        month: the month's partition.
        first_day: the value of `file_month`.
    """

    parent: str
    month: str
    first_day: dt.date

    @classmethod
    def of(cls, month: TripMonth, parent: str) -> MonthNames:
        """Derive the names of a month's tables.

        Args:
            month: the month.
            parent: the table that people query.

        Returns:
            The names.

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
        """The table into which the month is copied."""
        return self.month + LOADING

    @property
    def bound(self) -> str:
        """The partition's bound, spelled as Postgres shows it."""
        return f"FOR VALUES IN ('{self.first_day}')"


@dataclass(frozen=True, slots=True)
class PostgresTable:
    """A table or view as the server describes it.

    Attributes:
        partition_key: such as `LIST (file_month)`; empty if it is not partitioned.
        columns: type by name, in the table's order, as `format_type` spells it.
        required: columns that accept no null and that the table does not fill in.
        filled: those it can fill in: `default`, `generated` or `identity` by name.
    """

    partition_key: str
    columns: dict[str, str]
    required: frozenset[str] = frozenset()
    filled: Mapping[str, str] = field(default_factory=dict[str, str])


def describe(session: PostgresSession, name: str) -> PostgresTable | None:
    """Look up a table or view.

    Args:
        session: the connection.
        name: in the session's schema.

    Returns:
        Its description, None if it does not exist.
    """
    rows = session.rows(
        """
        SELECT coalesce(pg_get_partkeydef(c.oid), ''), a.attname::text,
               format_type(a.atttypid, a.atttypmod), a.attnotnull,
               CASE WHEN a.attidentity <> '' THEN 'identity' WHEN a.attgenerated <> '' THEN 'generated'
                    WHEN a.atthasdef THEN 'default' END
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE n.nspname = $1 AND c.relname = $2
        ORDER BY a.attnum
        """,
        session.schema,
        name,
    )
    if not rows:
        return None
    columns = {column: kind for _, column, kind, *_ in rows if column is not None}
    filled = {column: by for _, column, _, _, by in rows if by}
    required = frozenset(column for _, column, _, is_not_null, by in rows if is_not_null and not by)
    return PostgresTable(rows[0][0], columns, required, filled)


def partition_bounds(session: PostgresSession, parent: str) -> dict[str, str]:
    """Look up a table's partitions.

    Args:
        session: the connection.
        parent: the table's name.

    Returns:
        Bound by name, such as `FOR VALUES IN ('2021-01-01')`; empty if it has none or does not exist.
    """
    return dict(
        session.rows(
            """
            SELECT c.relname::text, pg_get_expr(c.relpartbound, c.oid)
            FROM pg_inherits i
            JOIN pg_class c ON c.oid = i.inhrelid
            JOIN pg_class p ON p.oid = i.inhparent
            WHERE p.relnamespace = to_regnamespace(quote_ident($1)) AND p.relname = $2 AND c.relispartition
            """,
            session.schema,
            parent,
        )
    )


def is_attached(session: PostgresSession, names: MonthNames) -> bool:
    """Whether the month's table is the parent's partition for exactly that month.

    Args:
        session: the connection.
        names: of the month's tables.
    """
    return partition_bounds(session, names.parent).get(names.month) == names.bound
