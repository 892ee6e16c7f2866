"""The files of a load job, read into the columns of its schema, as strictly as we know how.

CSV: https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-csv. Columns go by position, an empty
field is null unless it is a quoted text, a line that is not a row of the schema fails the whole job.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from support.bigquery_fake.errors import ApiError, unknown
from support.bigquery_fake.values import ARROW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.bigquery_fake.catalog import Field

CSV_KEYS = {"allowQuotedNewlines", "skipLeadingRows", "nullMarker"}
TRUE, FALSE = (
    [form for word in words for form in (word, word.upper(), word.capitalize())]
    for words in (("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0"))
)
NOT_IN_CSV = {"BYTES", "TIMESTAMP"}  # one is in base64, the other in many forms


def read_parquet(content: bytes, fields: Sequence[Field]) -> pa.Table:
    """A Parquet file; its columns go by name.

    Raises:
        ApiError: it is none, or its columns are not those of the schema.
    """
    try:
        with pq.ParquetFile(io.BytesIO(content)) as file:
            found = file.schema_arrow
            rows = file.read()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(f"not a Parquet file: {error}") from None
    names = [one.name for one in fields]
    if extra := [name for name in found.names if name not in names]:
        raise unknown(f"a Parquet file with columns that the job's schema lacks ({', '.join(extra)})")
    columns: list[pa.Array | pa.ChunkedArray] = []
    for one in fields:
        if one.name not in found.names:
            columns.append(pa.nulls(rows.num_rows, ARROW[one.type]))
        elif found.field(one.name).type != ARROW[one.type]:
            raise _unreadable(
                f"Parquet column '{one.name}' has type {found.field(one.name).type} which does not match "
                f"the target type {one.type}"
            )
        else:
            columns.append(rows.column(one.name))
    return _without_nulls(pa.table(dict(zip(names, columns, strict=True))), fields)


def read_csv(content: bytes, fields: Sequence[Field], options: dict[str, Any]) -> pa.Table:
    """A CSV file in UTF-8, with commas and double quotes; its columns go by position.

    Args:
        content: the file.
        fields: of the job.
        options: `configuration.load`, of which those of `CSV_KEYS` count.

    Raises:
        ApiError: a line that is not a row of the schema.
    """
    if strange := [one.name for one in fields if one.type in NOT_IN_CSV]:
        raise unknown(f"columns in CSV of the type of {strange[0]}")
    if not content:
        raise unknown("an empty CSV file")
    if content.startswith((b"\n", b"\r\n")) or b"\n\n" in content or b"\n\r\n" in content:
        raise unknown("empty lines in a CSV file, or in a text of it")
    newlines, skipped = bool(options.get("allowQuotedNewlines")), int(options.get("skipLeadingRows") or 0)
    try:
        rows = pa.csv.read_csv(
            pa.py_buffer(content),
            # Without threads the first bad column is named, as BigQuery does, and not whichever fails first.
            pa.csv.ReadOptions(
                column_names=[one.name for one in fields], skip_rows=skipped, use_threads=False
            ),
            pa.csv.ParseOptions(newlines_in_values=newlines),
            pa.csv.ConvertOptions(
                column_types={one.name: ARROW[one.type] for one in fields},
                null_values=[options.get("nullMarker") or ""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=TRUE,
                false_values=FALSE,
            ),
        )
    except pa.ArrowException as error:
        raise _unreadable(
            f"CSV processing encountered too many errors, giving up. Errors: 1; max bad: 0; {error}"
        ) from None
    if not newlines and rows.num_rows != _lines(content) - skipped:
        raise _unreadable('Missing close double quote (") character.')
    return _without_nulls(rows, fields)


def _lines(content: bytes) -> int:
    return content.count(b"\n") + (not content.endswith(b"\n"))


def _without_nulls(rows: pa.Table, fields: Sequence[Field]) -> pa.Table:
    for one in fields:
        if one.mode == "REQUIRED" and rows.column(one.name).null_count:
            raise _unreadable(f"Required field {one.name} cannot be null")
    return rows


def _unreadable(why: str) -> ApiError:
    return ApiError("invalid", f"Error while reading data, error message: {why}")
