"""Figures about a table's content that databases and DuckDB compute alike: equal data, equal figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from transforms.datasets import YELLOW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

CSV_COLUMNS = 18  # the columns of the releases; the fees after them were added later
COLUMNS = [column.name for column in YELLOW.columns[:CSV_COLUMNS]]
TIMES = {YELLOW.pickup, YELLOW.dropoff}
TEXTS = {"store_and_fwd_flag"}

Contents = dict[str, tuple[object, ...]]


def in_database(
    value: Callable[[str], list[tuple[object, ...]]], table: str, names: Mapping[str, str] | None = None
) -> Contents:
    """Count, minimum, maximum and sum of every column, in SQL that Postgres and DuckDB both understand.

    Args:
        value: runs a query.
        table: its name, or anything else that can follow FROM.
        names: names of columns that the table calls differently.
    """
    [row] = value(
        f"SELECT {', '.join(_measures((names or {}).get(name, name), name) for name in COLUMNS)} FROM {table}"
    )
    measures = iter(row)
    return {name: tuple(next(measures) for _ in range(4)) for name in COLUMNS}


def in_parquet(path: Path | list[str], rows: int | None = None) -> Contents:
    """The same for the first `rows` rows of a file, or of several."""
    limit = f" LIMIT {rows}" if rows else ""
    with duckdb.connect() as connection:
        return in_database(
            lambda query: connection.sql(query).fetchall(),
            f"(FROM read_parquet({path if isinstance(path, list) else str(path)!r}){limit}) AS rows",
        )


def _measures(name: str, column: str) -> str:
    quoted = f'"{name}"'
    if column in TIMES:
        # As text, because drivers return timestamps as different types.
        least, most = (f"CAST({which}({quoted}) AS VARCHAR(19))" for which in ("min", "max"))
        # Whole microseconds, because a sum of fractions depends on the order of the rows.
        total = f"CAST(sum(CAST(extract(epoch FROM {quoted}) * 1000000 AS BIGINT)) AS VARCHAR(40))"
    elif column in TEXTS:
        least = most = "0"
        total = f"sum(length({quoted}))"
    else:
        least, most = (f"CAST({which}({quoted}) AS DOUBLE PRECISION)" for which in ("min", "max"))
        total = f"CAST(sum(CAST({quoted} AS DECIMAL(18, 2))) AS DOUBLE PRECISION)"
    return f"count({quoted}), {least}, {most}, {total}"
