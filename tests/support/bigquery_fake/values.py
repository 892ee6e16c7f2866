"""Types and values: BigQuery's names, DuckDB's, Arrow's exact types, and cells as JSON."""

from __future__ import annotations

import base64
import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
from support.bigquery_fake.errors import ApiError, unknown

# The names of GoogleSQL; the REST API answers with the older ones of LEGACY.
DUCKDB = {
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "STRING": "VARCHAR",
    "DATETIME": "TIMESTAMP",
    "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
    "DATE": "DATE",
    "BOOL": "BOOLEAN",
    "BYTES": "BLOB",
    "NUMERIC": "DECIMAL(38,9)",
}
LEGACY = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}
_STANDARD = {
    **{legacy: standard for standard, legacy in LEGACY.items()},
    **dict.fromkeys(("INT", "SMALLINT", "BIGINT", "TINYINT", "BYTEINT"), "INT64"),
    "DECIMAL": "NUMERIC",
}

ARROW = {
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    "STRING": pa.string(),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
    "DATE": pa.date32(),
    "BOOL": pa.bool_(),
    "BYTES": pa.binary(),
    "NUMERIC": pa.decimal128(38, 9),
}
"""The one Arrow type taken for each type, in an append and in a Parquet file. The server takes a few
more (int32 for INT64, say); none of those is anything this project means to send."""

CLUSTERABLE = {"INT64", "STRING", "DATETIME", "TIMESTAMP", "DATE", "BOOL", "NUMERIC"}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def standard_type(name: str) -> str:
    """GoogleSQL's name of a type, whichever of the names was given."""
    name = name.upper()
    found = _STANDARD.get(name, name)
    if found not in DUCKDB:
        raise unknown(f"the type {name}")
    return found


def type_of_arrow(kind: pa.DataType) -> str:
    """The type that a column of a query's result has."""
    if pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0):
        return "INT64"
    if pa.types.is_decimal(kind):
        return "NUMERIC"
    if pa.types.is_floating(kind):
        return "FLOAT64"
    if pa.types.is_null(kind):
        return "INT64"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP" if kind.tz else "DATETIME"
    for name, arrow in ARROW.items():
        if kind == arrow:
            return name
    raise unknown(f"results of Arrow type {kind}")


def cells(column: pa.ChunkedArray, kind: str, *, int64_timestamps: bool) -> list[Any]:
    """A column as the `v` of an answer: text, or None."""

    def text(value: Any) -> str:  # noqa: ANN401
        match kind:
            case "FLOAT64":
                return repr(float(value)).replace("inf", "Infinity").replace("nan", "NaN")
            case "BOOL":
                return "true" if value else "false"
            case "TIMESTAMP":
                micros = (value - EPOCH) // dt.timedelta(microseconds=1)
                return str(micros) if int64_timestamps else repr(micros / 1e6)
            case "DATETIME" | "DATE":
                return value.isoformat()
            case "BYTES":
                return base64.b64encode(value).decode()
            case _:
                return str(value)

    return [None if value is None else text(value) for value in column.to_pylist()]


def parameter(given: dict[str, Any]) -> tuple[str, Any]:
    """Name and value of a query parameter.

    Raises:
        ApiError: positional, an array or struct, or not a value of its type.
    """
    if not (name := given.get("name")):
        raise unknown("positional query parameters")
    kind = standard_type(given["parameterType"]["type"])
    value = given["parameterValue"].get("value")
    if value is None:
        return name, None
    try:
        return name, _PARSERS[kind](value)
    except (ValueError, KeyError) as error:
        raise ApiError("invalid", f"Invalid value for type {kind} of parameter {name}: {value!r}") from error


_PARSERS: dict[str, Any] = {
    "INT64": int,
    "FLOAT64": float,
    "STRING": str,
    "DATE": dt.date.fromisoformat,
    "DATETIME": lambda text: _naive(dt.datetime.fromisoformat(text)),
    "TIMESTAMP": lambda text: _utc(dt.datetime.fromisoformat(text)),
    "BOOL": lambda text: {"true": True, "false": False}[str(text).lower()],
    "NUMERIC": Decimal,
    "BYTES": base64.b64decode,
}


def _naive(value: dt.datetime) -> dt.datetime:
    if value.tzinfo:
        raise ValueError("a DATETIME has no time zone")
    return value


def _utc(value: dt.datetime) -> dt.datetime:
    return value.astimezone(dt.UTC) if value.tzinfo else value.replace(tzinfo=dt.UTC)
