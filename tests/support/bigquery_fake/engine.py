"""Runs scripts, statement by statement, on DuckDB."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from sqlglot import exp
from support.bigquery_fake import statements as sql
from support.bigquery_fake.conflicts import Conflicts
from support.bigquery_fake.errors import ApiError, unknown
from support.bigquery_fake.values import type_of_arrow

if TYPE_CHECKING:
    from support.bigquery_fake.catalog import Catalog, Table
    from support.bigquery_fake.conflicts import Transaction

ROW_GROUP_ROWS = 122_880
COERCED = {("INT64", "FLOAT64"), ("INT64", "NUMERIC"), ("NUMERIC", "FLOAT64")}


@dataclass
class Result:
    """What a statement or a script came to."""

    kind: str
    rows: pa.Table | None = None
    affected: int | None = None
    children: int = 0


class Engine:
    """Runs scripts on a catalogue's database."""

    def __init__(self, catalog: Catalog, database: duckdb.DuckDBPyConnection) -> None:
        self.catalog = catalog
        self.conflicts = Conflicts(catalog.project)
        self._database = database

    def run(self, text: str, parameters: dict[str, Any], default_dataset: str | None = None) -> Result:
        """Run a script; what it left uncommitted is rolled back.

        Raises:
            ApiError: what was wrong; nothing of an open transaction remains.
        """
        with self._database.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            script = Script(self, cursor, parameters, default_dataset)
            try:
                return script.run(text)
            finally:
                script.roll_back()

    def replace_rows(self, table: Table, delete: str | None, rows: pa.Table) -> None:
        """Delete and insert in one step, outside any script; the columns go by name."""
        names = ", ".join('"' + name.replace('"', '""') + '"' for name in rows.column_names)
        transaction = self.conflicts.begin(explicit=False)
        # In pieces of its own size DuckDB takes the rows in with half the work, and in the same order.
        pieces = rows.combine_chunks().to_batches(max_chunksize=ROW_GROUP_ROWS)
        with self._database.cursor() as cursor:
            if delete is not None:
                self.conflicts.mutate(transaction, table.key)
            cursor.begin()
            try:
                if delete is not None:
                    cursor.execute(f"DELETE FROM {table.sql_name} WHERE {delete}")
                cursor.register("arriving", pa.Table.from_batches(pieces, rows.schema))
                cursor.execute(f"INSERT INTO {table.sql_name} ({names}) SELECT {names} FROM arriving")
            except BaseException:
                self.conflicts.end(transaction, cursor.rollback, committed=False)
                raise
            self.conflicts.end(transaction, cursor.commit, committed=True)
        self.catalog.touch(table)


class Script:
    """One script under way."""

    def __init__(
        self,
        engine: Engine,
        cursor: duckdb.DuckDBPyConnection,
        parameters: dict[str, Any],
        default_dataset: str | None,
    ) -> None:
        self._engine, self._catalog = engine, engine.catalog
        self._cursor, self._parameters, self._default = cursor, parameters, default_dataset
        self._open: Transaction | None = None

    def run(self, text: str) -> Result:
        results = [self._statement(one) for one in list(sql.split(text))]
        if not results:
            raise ApiError("invalidQuery", "Syntax error: Unexpected end of script")
        if len(results) == 1:
            return results[0]
        selected = [result for result in results if result.kind == "SELECT"]
        return Result("SCRIPT", rows=selected[-1].rows if selected else None, children=len(results))

    def roll_back(self) -> None:
        if self._open:
            ended, self._open = self._open, None
            self._engine.conflicts.end(ended, self._cursor.rollback, committed=False)

    def _statement(self, statement: sql.Statement) -> Result:
        match statement.kind:
            case "BEGIN_TRANSACTION":
                if self._open:
                    raise ApiError("invalidQuery", "A transaction is already in progress.")
                self._open = self._engine.conflicts.begin(explicit=True)
                self._cursor.begin()
            case "COMMIT_TRANSACTION" | "ROLLBACK_TRANSACTION" as kind:
                self._end_transaction(commit=kind == "COMMIT_TRANSACTION")
            case "ASSERT":
                self._assert(statement)
            case kind if kind in sql.DDL:
                self._define(statement)
            case _:
                return self._query(statement)
        return Result(statement.kind)

    def _end_transaction(self, *, commit: bool) -> None:
        if not self._open:
            raise ApiError("invalidQuery", "There is no transaction in progress.")
        if not commit:
            self.roll_back()
            return
        ended, self._open = self._open, None
        self._engine.conflicts.end(ended, self._cursor.commit, committed=True)
        for key in ended.mutated:
            self._touch(key)

    def _assert(self, statement: sql.Statement) -> None:
        condition, message = sql.condition_of(statement)
        result = self._query(sql.Statement("SELECT", condition))
        assert result.rows is not None
        if result.rows.column(0).to_pylist() != [True]:
            raise ApiError("invalidQuery", f"Query error: {message}")

    def _query(self, statement: sql.Statement) -> Result:
        sql.resolve(statement, self._catalog, self._default)
        text, parameters = sql.to_duckdb(statement, self._parameters)
        try:
            if statement.kind == "SELECT":
                return Result("SELECT", self._select(text, parameters))
            return self._change(statement, text, parameters)
        except duckdb.ConstraintException as error:
            raise ApiError("invalidQuery", f"Required field cannot be null: {error}") from error
        except duckdb.TransactionException as error:
            raise ApiError(
                "invalidQuery", f"Could not serialize access to a table due to concurrent update: {error}"
            ) from error
        except duckdb.Error as error:
            raise ApiError("invalidQuery", f"Query error: {error}") from error

    def _select(self, text: str, parameters: dict[str, Any]) -> pa.Table:
        return self._cursor.sql(text, params=parameters or None).to_arrow_table()

    def _change(self, statement: sql.Statement, text: str, parameters: dict[str, Any]) -> Result:
        assert statement.target
        self._check_insert(statement, parameters)
        single = None if self._open else self._engine.conflicts.begin(explicit=False)
        who = self._open or single
        assert who
        affected = 0
        try:
            if statement.kind in sql.MUTATING:
                self._engine.conflicts.mutate(who, statement.target)
            if counted := self._cursor.execute(text, parameters).fetchone():
                affected = counted[0]
        finally:
            if single:  # DuckDB has committed it, or nothing has happened
                self._engine.conflicts.end(single, lambda: None, committed=True)
        if single:
            self._touch(statement.target)
        return Result(statement.kind, affected=affected)

    def _touch(self, key: tuple[str, str]) -> None:
        if table := self._catalog.find(*key):
            self._catalog.touch(table)

    def _check_insert(self, statement: sql.Statement, parameters: dict[str, Any]) -> None:
        """INSERT ... SELECT takes the very types of the columns; DuckDB would cast text to numbers."""
        tree = statement.tree
        if statement.kind != "INSERT" or not isinstance(tree.expression, exp.Query):
            return
        assert statement.target
        table = self._catalog.table(*statement.target)
        names = [one.name for one in tree.this.expressions] if isinstance(tree.this, exp.Schema) else []
        names = names or [one.name for one in table.fields]
        query, used = sql.to_duckdb(sql.Statement("SELECT", tree.expression), parameters)
        schema = self._select(f"SELECT * FROM ({query}) LIMIT 0", used).schema
        if len(schema) != len(names):
            raise ApiError(
                "invalidQuery",
                f"Inserted row has wrong column count; Has {len(schema)}, expected {len(names)}",
            )
        for at, (found, name) in enumerate(zip(schema, names, strict=True), start=1):
            kind, column = type_of_arrow(found.type), table.field(name)
            if column is None:
                raise ApiError("invalidQuery", f"Column {name} is not present in table {table.name}")
            if kind != column.type and (kind, column.type) not in COERCED:
                raise ApiError(
                    "invalidQuery",
                    f"Query column {at} has type {kind} which cannot be inserted into column {name}, "
                    f"which has type {column.type}",
                )

    def _define(self, statement: sql.Statement) -> None:
        if self._open:
            raise ApiError(
                "invalidQuery",
                "DDL statements that affect permanent entities are not supported in transactions",
            )
        tree = statement.tree
        sql.resolve(statement, self._catalog, self._default)
        assert statement.target
        found = self._catalog.find(*statement.target)
        if isinstance(tree, exp.Create) and tree.expression:
            self._create_as(statement)
            return
        if isinstance(tree, exp.Create):
            if tree.args.get("replace") or tree.args.get("kind") != "TABLE":
                raise unknown("CREATE OR REPLACE")
            if not (found and tree.args.get("exists")):
                self._catalog.create(sql.declared_table(statement, self._value))
            return
        if isinstance(tree, exp.Drop):
            if tree.args.get("kind") not in {"TABLE", "VIEW"}:
                raise unknown(f"DROP {tree.args.get('kind')}")
            if found and found.is_view != (tree.args["kind"] == "VIEW"):
                raise ApiError("invalidQuery", f"Cannot drop {found.name} as a {tree.args['kind']}.")
            if found or not tree.args.get("exists"):
                self._catalog.drop(self._catalog.table(*statement.target))
            return
        self._alter(self._catalog.table(*statement.target), tree)

    def _create_as(self, statement: sql.Statement) -> None:
        """A view, or a table with the rows of a query; nobody here means to make one that must not exist."""
        tree = statement.tree
        if not tree.args.get("replace"):
            raise unknown("CREATE ... AS without OR REPLACE")
        declared = sql.declared_table(statement, self._value)
        text, used = sql.to_duckdb(sql.Statement("SELECT", tree.expression), self._parameters)
        try:
            schema = self._select(f"SELECT * FROM ({text}) LIMIT 0", used).schema
        except duckdb.Error as error:
            raise ApiError("invalidQuery", f"Query error: {error}") from error
        types = [type_of_arrow(found.type) for found in schema]
        is_view = tree.args["kind"] == "VIEW"
        if schema.names != [field.name for field in declared.fields]:
            raise unknown("a column list that differs from the names in the query")
        if not is_view and types != [field.type for field in declared.fields]:
            raise ApiError("invalidQuery", f"The query has the types {types}, the table others")
        fields = tuple(replace(one, type=kind) for one, kind in zip(declared.fields, types, strict=True))
        self._catalog.replace(replace(declared, fields=fields, is_view=is_view), text)

    def _alter(self, table: Table, tree: exp.Expression) -> None:
        added = list(table.fields)
        for action in tree.args["actions"]:
            column = action if isinstance(action, exp.ColumnDef) else action.this
            if not isinstance(column, exp.ColumnDef) or "ADD" not in tree.sql("bigquery").upper():
                raise unknown(f"ALTER TABLE ... {action.sql('bigquery')}")
            made = sql.declared_field(column)
            if not table.field(made.name):
                added.append(made)
            elif not column.args.get("exists"):
                raise ApiError("invalidQuery", f"Column already exists: {made.name}")
        self._catalog.change(table, fields=tuple(added))

    def _value(self, expression: exp.Expression) -> Any:  # noqa: ANN401
        select = sql.Statement("SELECT", exp.select(expression.copy()))
        text, used = sql.to_duckdb(select, self._parameters)
        found = self._cursor.execute(text, used).fetchone()
        assert found
        return found[0]
