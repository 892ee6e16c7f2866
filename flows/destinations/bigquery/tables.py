"""The tables in BigQuery: their shape, how they are created and extended, and what is refused.

`yellow_taxi_trips` is partitioned by month of `file_month` and clustered by the pick-up zone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from google.api_core import exceptions as google_errors
from google.cloud import bigquery

from flows.destinations.base import columns_to_add
from flows.destinations.bigquery.connection import REST_LIMITS, BigQuerySession
from flows.destinations.bigquery.errors import translate_errors
from flows.errors import DestinationBusy, SchemaDrift
from transforms.dataset import FILE_MONTH, ColumnType, Dataset

if TYPE_CHECKING:
    import pyarrow as pa

CLUSTERED_BY = ["PULocationID"]

LONGEST_NAME = 300
# https://cloud.google.com/bigquery/docs/schemas#flexible-column-names
ILLEGAL_IN_NAMES = re.compile(r"""[!"$()*,./;?@\[\\\]^`{}~\x00-\x1f\x7f]""")
RESERVED_PREFIXES = (
    "_table_",
    "_file_",
    "_partition",
    "_row_timestamp",
    "__root__",
    "_colidentifier",
    "_change_",
)

# REST and the console have older names for two of the types.
STANDARD_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64"}
ARROW_TO_BIGQUERY = {kind.arrow: kind.bigquery for kind in ColumnType}

ATTEMPTS = 5


def quoted(name: str) -> str:
    """A name, or names joined by dots, as an identifier; no name that BigQuery allows needs an escape.

    Args:
        name: as it is.
    """
    return f"`{name}`"


def qualified(session: BigQuerySession, table: str) -> str:
    """A table of the session's dataset as an identifier.

    Args:
        session: of the dataset.
        table: its name.
    """
    return quoted(f"{session.dataset}.{table}")


def literal(value: str | int | dt.datetime | dt.date | None) -> str:
    """A value as a GoogleSQL literal, with every character in it allowed.

    Args:
        value: text, a whole number, a date, a time with its zone, or None for NULL.
    """
    if value is None:
        return "NULL"
    if isinstance(value, dt.datetime):
        return f"TIMESTAMP '{value.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f}+00:00'"
    if isinstance(value, dt.date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\u{ord(match[0]):04x}", escaped) + "'"


@dataclass(frozen=True, slots=True)
class BigQueryTable:
    """The shape of a table.

    Attributes:
        columns: type by name, in the table's order, as GoogleSQL spells it.
        required: columns that take no null.
        partitioned_by: such as `MONTH(file_month)`; empty if it has no partitions.
        clustered_by: names of columns, joined by commas.
    """

    columns: dict[str, str]
    required: frozenset[str]
    partitioned_by: str
    clustered_by: str

    @classmethod
    def of(cls, table: bigquery.Table) -> BigQueryTable:
        """The shape of a table as the client represents it.

        Args:
            table: as the client represents it.
        """
        partitioning: Any = table.time_partitioning
        types = {field.name: STANDARD_NAMES.get(field.field_type, field.field_type) for field in table.schema}
        return cls(
            columns={
                field.name: f"ARRAY<{types[field.name]}>" if field.mode == "REPEATED" else types[field.name]
                for field in table.schema
            },
            required=frozenset(field.name for field in table.schema if field.mode == "REQUIRED"),
            partitioned_by=f"{partitioning.type_}({partitioning.field})" if partitioning else "",
            clustered_by=", ".join(table.clustering_fields or ()),
        )


Tables: TypeAlias = "Mapping[str, BigQueryTable | None]"
"""Tables by name, as they were when they were read; None: there is none."""


def describe_tables(session: BigQuerySession, *names: str) -> Tables:
    """Read the shape of tables.

    Args:
        session: in whose dataset.
        *names: without project and dataset.

    Returns:
        The tables by name; None: there is none.
    """
    return {name: _describe(session, name) for name in names}


def _describe(session: BigQuerySession, name: str) -> BigQueryTable | None:
    with translate_errors(), contextlib.suppress(google_errors.NotFound):
        return BigQueryTable.of(session.client.get_table(f"{session.dataset}.{name}", **REST_LIMITS))
    return None


def new_table(
    session: BigQuerySession, name: str, schema: Sequence[Mapping[str, str]], description: str
) -> bigquery.Table:
    """The definition of a table.

    Args:
        session: in whose dataset.
        name: without project and dataset.
        schema: the columns, as `Dataset.bigquery_schema` describes them.
        description: for people who look at the table.
    """
    table = bigquery.Table(f"{session.dataset}.{name}", schema=schema)
    table.description = description
    return table


def trips_table(session: BigQuerySession, dataset: Dataset, new_columns: Sequence[str]) -> bigquery.Table:
    """The definition of the table that people query.

    Args:
        session: in whose BigQuery dataset.
        dataset: yellow, green, ...
        new_columns: columns of the file that not every month has.
    """
    table = new_table(session, dataset.table, dataset.bigquery_schema(new_columns), dataset.title)
    table.time_partitioning = bigquery.TimePartitioning("MONTH", FILE_MONTH)
    table.clustering_fields = CLUSTERED_BY
    return table


def create_table(session: BigQuerySession, table: bigquery.Table) -> None:
    """Create a table, unless another run has just done so.

    Args:
        session: whose dataset exists.
        table: its definition.
    """
    with translate_errors(), contextlib.suppress(google_errors.Conflict):
        session.client.create_table(table, **REST_LIMITS)


def check_tables(definitions: Iterable[bigquery.Table], tables: Tables) -> None:
    """Check that tables have, or can be given, the shape of their definitions; nothing is changed.

    Args:
        definitions: the tables as they are to be.
        tables: the same tables as they are.

    Raises:
        SchemaDrift: one has another shape; names every difference.
    """
    for definition in definitions:
        if table := tables[definition.table_id]:
            _missing_columns(table, definition)


def ensure_tables(session: BigQuerySession, definitions: Iterable[bigquery.Table], known: Tables) -> Tables:
    """Create tables, or add the nullable columns that they lack.

    Args:
        session: whose dataset exists.
        definitions: the tables as they are to be; they may have more columns.
        known: the same tables as they were a while ago; read again only if something is lacking.

    Returns:
        The tables as they are now.

    Raises:
        SchemaDrift: one exists in another shape.
        DestinationBusy: other runs keep changing one.
    """
    return {
        table.table_id: _ensure_table(session, table, known[table.table_id])  # one after the other
        for table in definitions
    }


def _ensure_table(
    session: BigQuerySession, definition: bigquery.Table, table: BigQueryTable | None
) -> BigQueryTable:
    for _ in range(ATTEMPTS):
        if table is None:
            create_table(session, definition)
        elif missing := _missing_columns(table, definition):
            # Another run may be adding the same columns.
            added = ", ".join(
                f"ADD COLUMN IF NOT EXISTS {quoted(column.name)} {column.field_type} "
                f"OPTIONS (description = {literal(str(column.description))})"
                for column in missing
            )
            session.run(f"ALTER TABLE {qualified(session, definition.table_id)} {added}")
        else:
            return table
        table = _describe(session, definition.table_id)
    raise DestinationBusy(f"{definition.table_id} keeps being changed by somebody else; try again later")


def _missing_columns(table: BigQueryTable, definition: bigquery.Table) -> list[bigquery.SchemaField]:
    """The columns that a table lacks; raises `SchemaDrift` if it differs in any other way."""
    want = BigQueryTable.of(definition)
    differences = [
        f"it is not {layout} by {by}{f', but by {now}' if now else ''}"
        for layout, by, now in (
            ("partitioned", want.partitioned_by, table.partitioned_by),
            ("clustered", want.clustered_by, table.clustered_by),
        )
        if by and by != now
    ]
    spelling = {name.casefold(): name for name in want.columns}  # BigQuery ignores the case of names
    missing = columns_to_add(
        definition.table_id,
        {spelling.get(name.casefold(), name): kind for name, kind in table.columns.items()},
        want.columns,
        required=[spelling.get(name.casefold(), name) for name in table.required],
        differences=differences,
    )
    return [column for column in definition.schema if column.name in missing]


def check_names(columns: Iterable[str]) -> None:
    """Check that BigQuery can have columns of these names.

    Args:
        columns: the names.

    Raises:
        SchemaDrift: it cannot; names those that are refused.
    """
    refused = [
        repr(name)
        for name in columns
        if ILLEGAL_IN_NAMES.search(name)
        or not 0 < len(name) <= LONGEST_NAME
        or name.lower().startswith(RESERVED_PREFIXES)
    ]
    if refused:
        raise SchemaDrift(
            f"BigQuery has no columns called {', '.join(refused)}: legal are up to {LONGEST_NAME} letters, "
            "digits, blanks and _ - & % = + : ' < > # |, and no reserved prefix such as _TABLE_; rename them "
            "in the file, or run it without --allow-new-columns"
        )


def check_batches(name: str, columns: Mapping[str, str], schema: pa.Schema) -> None:
    """Check that Arrow batches have the names and types of a table, before the first one is sent.

    Args:
        name: the table's, for the message.
        columns: the table's columns and their types.
        schema: of the batches.

    Raises:
        SchemaDrift: they differ. BigQuery would cast the values without an error.
    """
    arriving = {field.name: ARROW_TO_BIGQUERY.get(field.type, str(field.type)) for field in schema}
    differences = [
        f"{column} is {columns.get(column, 'not there')}, in the file {arriving.get(column, 'not there')}"
        for column in ({**columns} | arriving)
        if columns.get(column) != arriving.get(column)
    ]
    if differences or len(schema) != len(arriving):
        raise SchemaDrift(
            f"nothing is written to {name}, because the staged file holds something else: "
            f"{'; '.join(differences) or 'a column twice'}. Stage the month again with --force"
        )
