"""GoogleSQL, as far as it is known here: parsed and rewritten for DuckDB by sqlglot, the rest refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from support.bigquery_fake.catalog import Field, Table
from support.bigquery_fake.errors import ApiError, unknown
from support.bigquery_fake.values import standard_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.bigquery_fake.catalog import Catalog

KINDS: dict[type[exp.Expression], str] = {
    exp.Transaction: "BEGIN_TRANSACTION",
    exp.Commit: "COMMIT_TRANSACTION",
    exp.Rollback: "ROLLBACK_TRANSACTION",
    exp.Select: "SELECT",
    exp.SetOperation: "SELECT",
    exp.Insert: "INSERT",
    exp.Update: "UPDATE",
    exp.Delete: "DELETE",
    exp.Merge: "MERGE",
    exp.TruncateTable: "TRUNCATE_TABLE",
    exp.Create: "CREATE_TABLE",
    exp.Drop: "DROP_TABLE",
    exp.Alter: "ALTER_TABLE",
    exp.Alias: "ASSERT",
    exp.Anonymous: "ASSERT",
}
MUTATING = {"UPDATE", "DELETE", "MERGE", "TRUNCATE_TABLE"}
UNTYPED = "STRING"
"""What the columns of a CREATE VIEW are taken for until its query is known."""
DML = MUTATING | {"INSERT"}
DDL = {"CREATE_TABLE", "DROP_TABLE", "ALTER_TABLE"}
TIME_UNIT = re.compile(
    r"(?:DATE|DATETIME|TIMESTAMP)_TRUNC\(\s*`?(\w+)`?\s*,\s*(HOUR|DAY|MONTH|YEAR)\s*\)|`?(\w+)`?|DATE\(\s*`?(\w+)`?\s*\)"
)


@dataclass
class Statement:
    """One statement.

    Attributes:
        kind: as the API names it: `SELECT`, `INSERT`, `BEGIN_TRANSACTION`.
        tree: as parsed.
        target: the table it writes.
    """

    kind: str
    tree: exp.Expression
    target: tuple[str, str] | None = None


def split(text: str) -> Iterator[Statement]:
    """The statements of a script.

    Raises:
        ApiError: a syntax error, or a statement this fake does not know.
    """
    try:
        tokens = sqlglot.tokenize(text, read="bigquery")
    except SqlglotError as error:
        raise ApiError("invalidQuery", f"Syntax error: {error}") from error
    start = 0
    for token in [*tokens, None]:
        if token is not None and token.token_type != sqlglot.TokenType.SEMICOLON:
            continue
        part = text[start : token.start if token else len(text)]
        start = token.end + 1 if token else len(text)
        if part.strip() and (made := _parse(part.strip())):
            yield made


def _parse(text: str) -> Statement | None:
    try:
        tree = sqlglot.parse_one(text, read="bigquery")
    except SqlglotError as error:
        if "Required keyword" in str(error) or "Expected" in str(error) or "Invalid expression" in str(error):
            raise ApiError("invalidQuery", f"Syntax error: {error}") from error
        raise
    if tree is None:
        return None
    if isinstance(tree, exp.Command) and text.upper() == "BEGIN":
        raise unknown("a block BEGIN ... END (a transaction is BEGIN TRANSACTION)")
    kind = next((kind for form, kind in KINDS.items() if isinstance(tree, form)), None)
    if kind is None or (kind == "ASSERT" and not text.upper().startswith("ASSERT")):
        raise unknown(f"the statement {text[:80]!r}")
    return Statement(kind, tree)


def resolve(statement: Statement, catalog: Catalog, default_dataset: str | None) -> None:
    """Point every table name at its DuckDB table, and find the one that is written.

    Raises:
        ApiError: no such table or dataset; a statement the server would not run.
    """
    tree = statement.tree
    if statement.kind in {"DELETE", "UPDATE"} and not tree.args.get("where"):
        raise ApiError("invalidQuery", f"{statement.kind} must have a WHERE clause")
    ctes = {cte.alias for cte in tree.find_all(exp.CTE)}
    written = _written(tree) if statement.kind in DML | DDL else None
    for table in list(tree.find_all(exp.Table)):
        if len(table.parts) == 1 and table.name in ctes:
            continue
        key = _key(table, catalog, default_dataset)
        if table is written:
            statement.target = key
        if statement.kind not in DDL or (isinstance(tree, exp.Create) and table is not written):
            found = catalog.table(*key)
            table.set("catalog", None)
            table.set("db", exp.to_identifier(found.dataset, quoted=True))
            table.set("this", exp.to_identifier(found.name, quoted=True))


def _written(tree: exp.Expression) -> exp.Expression | None:
    if isinstance(tree, exp.TruncateTable):
        return tree.expressions[0]
    if isinstance(tree, exp.Drop) and tree.args.get("tables"):
        return tree.args["tables"][0]
    this = tree.this
    return this.this if isinstance(this, exp.Schema) else this


def _key(table: exp.Table, catalog: Catalog, default_dataset: str | None) -> tuple[str, str]:
    parts = [part.name for part in table.parts]
    if any("INFORMATION_SCHEMA" in part.upper() for part in parts):
        raise unknown("INFORMATION_SCHEMA")
    if len(parts) == 1 and default_dataset:
        parts = [default_dataset, *parts]
    if len(parts) == 3:
        if parts[0] != catalog.project:
            raise ApiError(
                "accessDenied", f"Access Denied: Project {parts[0]}: no permission, or no such project"
            )
        parts = parts[1:]
    if len(parts) != 2:
        name = ".".join(parts)
        raise ApiError("invalid", f'Table "{name}" must be qualified with a dataset (e.g. dataset.table).')
    return parts[0], parts[1]


def to_duckdb(statement: Statement, parameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The statement for DuckDB, and those of the parameters that it uses.

    Raises:
        ApiError: a parameter it uses was not given.
    """
    used = {one.name for one in statement.tree.find_all(exp.Parameter)}
    if missing := used - parameters.keys():
        raise ApiError("invalidQuery", f"Query parameter '{min(missing)}' not found")
    text = statement.tree.sql("duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)
    return text, {name: parameters[name] for name in used}


def condition_of(statement: Statement) -> tuple[exp.Expression, str]:
    """What an ASSERT asserts, as a SELECT, and its message.

    sqlglot has no ASSERT: `ASSERT (q) = n AS 'text'` comes out as a call with an alias, to be taken apart
    as text.
    """
    text = statement.tree.sql("bigquery")
    found = re.fullmatch(r"ASSERT\s*(.*?)(?:\s+AS\s+(?:`|'|\")(.*)(?:`|'|\"))?", text, re.DOTALL)
    assert found
    return sqlglot.parse_one(f"SELECT {found[1]}", read="bigquery"), found[2] or "Assertion failed"


def declared_table(statement: Statement, evaluate: Any) -> Table:  # noqa: ANN401 - see below
    """The table that a CREATE TABLE makes.

    Args:
        statement: resolved.
        evaluate: gives the value of an expression, for options.

    Raises:
        ApiError: something in it is not known here.
    """
    tree = statement.tree
    if tree.args.get("kind") not in {"TABLE", "VIEW"} or not isinstance(tree.this, exp.Schema):
        raise unknown(f"the statement {tree.sql('bigquery')[:80]!r}")
    assert statement.target
    made = Table(*statement.target, tuple(map(declared_field, tree.this.expressions)))
    partitioning, clustering, options = None, (), {}
    properties = tree.args.get("properties")
    for one in properties.expressions if properties else []:
        if isinstance(one, exp.PartitionedByProperty):
            partitioning = _partitioning(one.this.sql("bigquery"))
        elif isinstance(one, exp.ClusterProperty):
            clustering = tuple(column.name for column in one.expressions)
        elif isinstance(one, exp.Property) and one.name.lower() == "expiration_timestamp":
            options["expires_ms"] = int(evaluate(one.args["value"]).timestamp() * 1000)
        elif isinstance(one, exp.Property) and one.name.lower() in {"description", "friendly_name"}:
            options["extra"] = {**options.get("extra", {}), one.name.lower(): one.args["value"].name}
        elif isinstance(one, exp.Property) and one.name.lower() == "labels":
            labels = dict([part.name for part in pair.expressions] for pair in one.args["value"].expressions)
            options["extra"] = {**options.get("extra", {}), "labels": labels}
        else:
            raise unknown(f"{one.sql('bigquery')} of a table")
    return Table(made.dataset, made.name, made.fields, partitioning, clustering, **options)


def _partitioning(text: str) -> dict[str, Any]:
    if not (found := TIME_UNIT.fullmatch(text)):
        raise unknown(f"PARTITION BY {text}")
    return {"type": found[2] or "DAY", "field": found[1] or found[3] or found[4]}


def declared_field(column: exp.Expression) -> Field:
    """A column of a CREATE TABLE, a CREATE VIEW or an ADD COLUMN."""
    if not isinstance(column, exp.ColumnDef):
        raise unknown(f"{column.sql('bigquery')} in a table")
    mode, description = "NULLABLE", None
    for constraint in column.constraints:
        what = constraint.kind
        if isinstance(what, exp.NotNullColumnConstraint) and not what.args.get("allow_null"):
            mode = "REQUIRED"
        elif "description" in constraint.sql("bigquery"):
            found = constraint.find(exp.Literal)
            description = found.name if found else None
        else:
            raise unknown(f"{constraint.sql('bigquery')} of a column")
    return Field.parse(
        {
            "name": column.name,
            "type": standard_type(column.kind.sql("bigquery")) if column.kind else UNTYPED,
            "mode": mode,
            "description": description,
        }
    )
