"""The tables in BigQuery: their names, their shape, and what is refused.

`yellow_taxi_trips` is partitioned by month of `file_month` and clustered by the pick-up's zone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from google.api_core import exceptions as google_errors
from google.cloud import bigquery

from flows.destinations.base import columns_to_add
from flows.destinations.bigquery.connection import CALL_SECONDS, PATIENT
from flows.destinations.bigquery.errors import explained
from flows.errors import DestinationBusy, SchemaDrift
from transforms.dataset import FILE_MONTH, ColumnType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from flows.destinations.bigquery.connection import BigQuerySession
    from transforms.dataset import Dataset

_T = TypeVar("_T")

CLUSTERED_BY = ("PULocationID",)

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
    """A name, or names joined by dots, as an identifier; none that BigQuery can have needs an escape."""
    return f"`{name}`"


def literal(value: str | int | dt.datetime | dt.date) -> str:
    """A value as GoogleSQL writes it, whatever is in it."""
    if isinstance(value, dt.datetime):
        return f"TIMESTAMP '{value.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f}+00:00'"
    if isinstance(value, dt.date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\u{ord(found[0]):04x}", escaped) + "'"


@dataclass(frozen=True, slots=True)
class BigQueryTable:
    """A table as BigQuery has it.

    Attributes:
        name: without project and dataset.
        columns: type by name, in the table's order, as GoogleSQL spells it.
        required: columns that take no null.
        partitioned_by: such as `MONTH(file_month)`; empty if it has no partitions.
        clustered_by: names of columns.
    """

    name: str
    columns: dict[str, str]
    required: frozenset[str]
    partitioned_by: str
    clustered_by: tuple[str, ...]


def describe(session: BigQuerySession, name: str) -> BigQueryTable | None:
    """The table of that name, None if there is none."""
    with explained():
        try:
            found: Any = session.client.get_table(
                f"{session.dataset}.{name}", retry=PATIENT, timeout=CALL_SECONDS
            )
        except google_errors.NotFound:
            return None
    partitioning: Any = found.time_partitioning
    kinds = {
        str(field.name): STANDARD_NAMES.get(str(field.field_type), str(field.field_type))
        for field in found.schema
    }
    return BigQueryTable(
        name=name,
        columns={
            field.name: f"ARRAY<{kinds[field.name]}>" if field.mode == "REPEATED" else kinds[field.name]
            for field in found.schema
        },
        required=frozenset(field.name for field in found.schema if field.mode == "REQUIRED"),
        partitioned_by=f"{partitioning.type_}({partitioning.field})" if partitioning else "",
        clustered_by=tuple(found.clustering_fields or ()),
    )


def schema_fields(schema: Iterable[Mapping[str, str]]) -> list[bigquery.SchemaField]:
    """The client's words for `Dataset.bigquery_schema`."""
    return [bigquery.SchemaField.from_api_repr(dict(column)) for column in schema]


def check_names(columns: Iterable[str]) -> None:
    """Raise `SchemaDrift` if BigQuery cannot have a column of such a name."""
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


def missing_columns(table: BigQueryTable, dataset: Dataset, new: Sequence[str]) -> dict[str, str]:
    """The columns, all nullable, by which a table has to grow to take a month.

    Raises:
        SchemaDrift: it is not such a table; names every difference and the way on.
    """
    want = dataset.bigquery_columns(new)
    differ: list[str] = []
    if table.partitioned_by != f"MONTH({FILE_MONTH})":
        differ.append(f"it is not partitioned by MONTH({FILE_MONTH}){_but_by(table.partitioned_by)}")
    if table.clustered_by != CLUSTERED_BY:
        now = _but_by(", ".join(table.clustered_by))
        differ.append(f"it is not clustered by {', '.join(CLUSTERED_BY)}{now}")
    have = _spelled_as(want, table.columns)
    needed = {name for name in _spelled_as(want, dict.fromkeys(table.required)) if name not in want}
    differ += [f"{name} takes no null, and the file does not have it" for name in sorted(needed)]
    return columns_to_add(table.name, have, want, differ)


def ensure_target(
    session: BigQuerySession, dataset: Dataset, new: Sequence[str] = (), known: BigQueryTable | None = None
) -> BigQueryTable:
    """Create the table that people query, or add the nullable columns it lacks.

    Args:
        session: whose dataset is there.
        dataset: yellow, green, ...
        new: columns of the file that are not declared.
        known: the table as it was a while ago; not asked for again if it lacks nothing.

    Raises:
        SchemaDrift: there is one of another shape, or BigQuery cannot have a column of such a name.
    """
    schema = dataset.bigquery_schema(new)
    check_names(column["name"] for column in schema)
    for _ in range(ATTEMPTS):
        table, known = known or describe(session, dataset.table), None
        if table is None:
            wanted = new_table(session, dataset.table, schema, dataset.title)
            wanted.time_partitioning = bigquery.TimePartitioning("MONTH", FILE_MONTH)
            wanted.clustering_fields = list(CLUSTERED_BY)
            create(session, wanted)
        elif missing := missing_columns(table, dataset, new):
            grow(session, table.name, [column for column in schema if column["name"] in missing])
        else:
            return table
    raise DestinationBusy(f"{dataset.table} keeps being changed by somebody else; try again later")


def new_table(
    session: BigQuerySession, name: str, schema: Iterable[Mapping[str, str]], description: str
) -> bigquery.Table:
    """A table as the client has it before it is created."""
    made = bigquery.Table(f"{session.dataset}.{name}", schema=schema_fields(schema))
    made.description = description
    return made


def create(session: BigQuerySession, table: bigquery.Table) -> None:
    """Create a table, unless somebody else has just done so."""
    with explained(), contextlib.suppress(google_errors.Conflict):
        session.client.create_table(table, retry=PATIENT, timeout=CALL_SECONDS)


def grow(session: BigQuerySession, name: str, columns: Iterable[Mapping[str, str]]) -> None:
    """Add nullable columns, those that somebody else has not just added; the table's rows are not touched."""
    added = ", ".join(
        f"ADD COLUMN IF NOT EXISTS {quoted(column['name'])} {column['type']} "
        f"OPTIONS (description = {literal(column['description'])})"
        for column in columns
    )
    session.change(f"ALTER TABLE {quoted(f'{session.dataset}.{name}')} {added}")


def check_arriving(name: str, table: Mapping[str, str], batches: pa.Schema) -> None:
    """The guard before the first request: names and types of the Arrow batches are those of the table.

    Raises:
        SchemaDrift: they are not. A server that casts what it gets would do so without a word.
    """
    arriving = {field.name: ARROW_TO_BIGQUERY.get(field.type, str(field.type)) for field in batches}
    differ = [
        f"{column} is {table.get(column, 'not there')}, in the file {arriving.get(column, 'not there')}"
        for column in ({**table} | arriving)
        if table.get(column) != arriving.get(column)
    ]
    if differ or len(batches) != len(arriving):
        raise SchemaDrift(
            f"nothing is written to {name}, because the staged file holds something else: "
            f"{'; '.join(differ) or 'a column twice'}. Stage the month again with --force"
        )


def _spelled_as(want: Mapping[str, object], have: Mapping[str, _T]) -> dict[str, _T]:
    """The same columns, spelled as wanted: BigQuery's names are the same in upper and lower case."""
    spelling = {name.casefold(): name for name in want}
    return {spelling.get(name.casefold(), name): kind for name, kind in have.items()}


def _but_by(now: str) -> str:
    return f", but by {now}" if now else ""
