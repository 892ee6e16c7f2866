"""The tables: their columns, how they are created and extended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    DateType,
    DoubleType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestampType,
)

from flows.destinations.base import columns_to_add
from flows.destinations.iceberg.connection import NAMESPACE
from transforms.column import ColumnType
from transforms.dataset import FILE_MONTH, Dataset

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Transaction

TYPES: dict[ColumnType, PrimitiveType] = {
    ColumnType.INTEGER: LongType(),
    ColumnType.FLOAT: DoubleType(),
    ColumnType.TEXT: StringType(),
    ColumnType.TIMESTAMP: TimestampType(),
    ColumnType.DATE: DateType(),
}

Columns: TypeAlias = Mapping[str, tuple[ColumnType, str]]
"""Type and comment by name, in the order of the table."""

PROPERTIES = {
    # Of the metadata files that each commit leaves behind, the newest hundred.
    TableProperties.METADATA_DELETE_AFTER_COMMIT_ENABLED: "true",
}


def find_table(catalog: Catalog, name: str) -> Table | None:
    """Load a table; None if it does not exist.

    Args:
        catalog: open.
        name: of the table.
    """
    try:
        return catalog.load_table((NAMESPACE, name))
    except (NoSuchTableError, NoSuchNamespaceError):
        return None


def ensure_table(catalog: Catalog, name: str, columns: Columns, partitioned_by: Sequence[str]) -> Table:
    """Load a table; created if it does not exist.

    Args:
        catalog: open.
        name: of the table.
        columns: of a new table.
        partitioned_by: those of them that partition it, each by its value.
    """
    if table := find_table(catalog, name):
        return table
    schema = Schema(*_fields(columns))
    partitions = PartitionSpec(
        *(
            PartitionField(schema.find_field(column).field_id, number, IdentityTransform(), column)
            for number, column in enumerate(partitioned_by, 1000)
        )
    )
    # The files that become part of it carry names and no ids.
    names = {TableProperties.DEFAULT_NAME_MAPPING: schema.name_mapping.model_dump_json()}
    catalog.create_namespace_if_not_exists(NAMESPACE)
    return catalog.create_table_if_not_exists(
        (NAMESPACE, name), schema, partition_spec=partitions, properties=PROPERTIES | names
    )


def add_columns(transaction: Transaction, dataset: Dataset, new_columns: Sequence[str]) -> None:
    """Add the nullable columns that a table lacks to take a month.

    Args:
        transaction: of the table; nothing is committed.
        dataset: whose table.
        new_columns: of the month, those that are not declared.

    Raises:
        SchemaDrift: the table exists in another shape.
    """
    metadata = transaction.table_metadata
    have = {field.name: str(field.field_type) for field in metadata.schema().fields}
    want = {field.name: field for field in _fields(trip_columns(dataset, new_columns))}
    spec = [(field.name, field.transform) for field in metadata.spec().fields]
    is_ours = spec == [(FILE_MONTH, IdentityTransform())]
    lacking = columns_to_add(
        f"{NAMESPACE}.{dataset.table}",
        have,
        {name: str(field.field_type) for name, field in want.items()},
        required=[field.name for field in metadata.schema().fields if field.required],
        differences=[] if is_ours else [f"it is partitioned by {spec or 'nothing'}, not by {FILE_MONTH}"],
    )
    if lacking:
        with transaction.update_schema() as update:
            for name in lacking:
                update.add_column((name,), want[name].field_type, want[name].doc)


def trip_columns(dataset: Dataset, new_columns: Sequence[str] = ()) -> Columns:
    """The columns of the table of a dataset.

    Args:
        dataset: whose table.
        new_columns: of a month, those that are not declared.
    """
    comments = {column["name"]: column["description"] for column in dataset.bigquery_schema(new_columns)}
    return {name: (kind, comments[name]) for name, kind in dataset.types(new_columns).items()}


def _fields(columns: Columns) -> list[NestedField]:
    """Numbered from 1, with their comments; all are nullable, as they are in the staged file."""
    return [
        NestedField(number, name, TYPES[kind], required=False, doc=comment)
        for number, (name, (kind, comment)) in enumerate(columns.items(), 1)
    ]
