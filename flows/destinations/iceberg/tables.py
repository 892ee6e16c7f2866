"""The tables: their columns, how they are created and extended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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

PROPERTIES = {
    # Of the metadata files that each commit leaves behind, the newest hundred.
    TableProperties.METADATA_DELETE_AFTER_COMMIT_ENABLED: "true",
}


def find_table(catalog: Catalog, dataset: Dataset) -> Table | None:
    """Load the table of a dataset; None if it does not exist.

    Args:
        catalog: open.
        dataset: whose table.
    """
    try:
        return catalog.load_table((NAMESPACE, dataset.table))
    except (NoSuchTableError, NoSuchNamespaceError):
        return None


def ensure_table(catalog: Catalog, dataset: Dataset) -> Table:
    """Load the table of a dataset; created if it does not exist.

    Args:
        catalog: open.
        dataset: whose table.
    """
    if table := find_table(catalog, dataset):
        return table
    schema = Schema(*_fields(dataset))
    month = schema.find_field(FILE_MONTH).field_id
    partitions = PartitionSpec(PartitionField(month, 1000, IdentityTransform(), FILE_MONTH))
    # The staged files carry names and no ids.
    names = {TableProperties.DEFAULT_NAME_MAPPING: schema.name_mapping.model_dump_json()}
    catalog.create_namespace_if_not_exists(NAMESPACE)
    return catalog.create_table_if_not_exists(
        (NAMESPACE, dataset.table), schema, partition_spec=partitions, properties=PROPERTIES | names
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
    want = {field.name: field for field in _fields(dataset, new_columns)}
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


def _fields(dataset: Dataset, new_columns: Sequence[str] = ()) -> list[NestedField]:
    """The columns with their comments, numbered from 1; all are nullable, as they are in the staged file."""
    comments = {column["name"]: column["description"] for column in dataset.bigquery_schema(new_columns)}
    return [
        NestedField(number, name, TYPES[kind], required=False, doc=comments[name])
        for number, (name, kind) in enumerate(dataset.types(new_columns).items(), 1)
    ]
