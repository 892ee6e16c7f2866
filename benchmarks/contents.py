"""What a table holds, in numbers that databases and Parquet files can both say: equal data, equal numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from transforms.datasets import YELLOW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

CSV_COLUMNS = 18  # what the releases have; the fees behind them came later
COLUMNS = [column.name for column in YELLOW.columns[:CSV_COLUMNS]]
TIMES = {YELLOW.pickup, YELLOW.dropoff}
TEXTS = {"store_and_fwd_flag"}

Contents = dict[str, tuple[object, ...]]


def in_database(
    value: Callable[[str], list[tuple[object, ...]]], table: str, names: Mapping[str, str] | None = None
) -> Contents:
    """Count, least, most and sum of every column, as SQL that Postgres and DuckDB both understand.

    Args:
        value: runs a query.
        table: or whatever may stand behind FROM.
        names: what a column is called there, if not by its own name.
    """
    found = value(
        f"SELECT {', '.join(_measures((names or {}).get(name, name), name) for name in COLUMNS)} FROM {table}"
    )
    [row] = found
    measures = iter(row)
    return {name: tuple(next(measures) for _ in range(4)) for name in COLUMNS}


def in_parquet(path: Path, rows: int | None = None) -> Contents:
    """The same of a file's first `rows` rows."""
    limit = f" LIMIT {rows}" if rows else ""
    with duckdb.connect() as connection:
        return in_database(
            lambda query: connection.sql(query).fetchall(), f"(SELECT * FROM '{path}'{limit}) AS rows"
        )


def _measures(name: str, column: str) -> str:
    quoted = f'"{name}"'
    if column in TIMES:
        # As text: a timestamp is a type of its own in every driver.
        least, most = (f"CAST({which}({quoted}) AS VARCHAR(19))" for which in ("min", "max"))
        total = f"CAST(sum(extract(epoch FROM {quoted})) AS BIGINT)"
    elif column in TEXTS:
        least = most = "0"
        total = f"sum(length({quoted}))"
    else:
        least, most = (f"CAST({which}({quoted}) AS DOUBLE PRECISION)" for which in ("min", "max"))
        total = f"CAST(sum(CAST({quoted} AS DECIMAL(18, 2))) AS DOUBLE PRECISION)"
    return f"count({quoted}), {least}, {most}, {total}"
