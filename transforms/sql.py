"""SQL for each warehouse, rendered by sqlglot from DuckDB's."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import Expr


@cache
def render(query: str, dialect: str, schema: tuple[str, ...] = ()) -> str:
    """Write a query in the dialect of a warehouse.

    Args:
        query: in DuckDB's SQL, without schemas.
        dialect: `duckdb`, `postgres` or `bigquery`.
        schema: where the tables are: nothing, a schema, or project and dataset.

    Returns:
        The query.

    Raises:
        sqlglot.errors.SqlglotError: it cannot be parsed, or the dialect has no such thing.
    """
    if dialect == "duckdb" and not schema:
        return query
    import sqlglot  # here, because it takes a while
    from sqlglot import exp

    tree = sqlglot.parse_one(query, read="duckdb")
    for table in tree.find_all(exp.Table):
        for part, name in zip(("db", "catalog"), reversed(schema), strict=False):
            table.set(part, exp.to_identifier(name, quoted=True))
    if dialect == "bigquery":
        tree = tree.transform(_for_bigquery)
    return tree.sql(dialect, pretty=True, unsupported_level=sqlglot.ErrorLevel.RAISE)


def _for_bigquery(node: Expr) -> Expr:
    """Name the functions of DATETIME, and let an interval have a number, as GoogleSQL documents them."""
    from sqlglot import exp

    if isinstance(node, exp.DateDiff):
        return exp.DatetimeDiff(**node.args)
    if isinstance(node, exp.Interval):
        return exp.Interval(this=exp.Literal.number(node.this.name), unit=node.args["unit"])
    return node
