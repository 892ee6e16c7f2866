"""One line of a CSV file that is not plain: its values checked one by one and written in regular form."""

from __future__ import annotations

import csv
import datetime as dt
import math
import re
from typing import TYPE_CHECKING

from transforms.dataset import ColumnType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transforms.dataset import Column

INTEGER_LIMIT = 2**63
# ASCII: to Python the digits of every script are digits, to databases they are not.
_INTEGER = re.compile(r"[+-]?\d+(?:\.0*)?", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4})-( ?\d{1,2})-( ?\d{1,2})[ T]( ?\d{1,2}):( ?\d{1,2})(?::( ?\d{1,2})(?:\.(\d{1,6}))?)?", re.ASCII
)
LEAP_SECOND = 60


class InvalidLine(ValueError):
    """A line that does not fit; the message is the reason."""


def regular_line(record: bytes, columns: Sequence[Column], surplus: int = 0) -> bytes:
    """One record as the fast reader wants it.

    Args:
        record: with its line end.
        columns: of the header.
        surplus: empty fields that every line of this file has behind them; they are left out.

    Raises:
        InvalidLine: with the column and the reason.
    """
    if b"\0" in record:
        raise InvalidLine("has a NUL byte, which no database takes in a text")
    try:
        text = record.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InvalidLine(f"is not UTF-8: byte 0x{record[error.start]:02x}") from None
    try:
        values = next(csv.reader([text], strict=True)) if '"' in text else text.split(",")
    except csv.Error as error:
        raise InvalidLine(f"bad quoting: {error}") from None
    if len(values) != len(columns) + surplus or any(map(str.strip, values[len(columns) :])):
        behind = f" and {surplus} empty ones are behind them" if surplus else ""
        raise InvalidLine(f"has {len(values)} fields where the header has {len(columns)}{behind}")
    values = values[: len(columns)]
    return ",".join(map(_regular_value, values, columns)).encode() + b"\n"


def _regular_value(value: str, column: Column) -> str:
    if column.type is ColumnType.TEXT:
        return _quoted(value)
    value = value.strip()
    if not value:
        if column.required:
            raise InvalidLine(f"{column.name}: is empty and must not be")
        return ""
    if column.type is ColumnType.INTEGER:
        return _integer(value, column)
    if column.type is ColumnType.FLOAT:
        return _float(value, column)
    return _timestamp(value, column)


def _quoted(value: str) -> str:
    if any(c in value for c in '",\r\n'):
        return '"' + value.replace('"', '""') + '"'
    return value


def _integer(value: str, column: Column) -> str:
    if (number := dict(column.codes).get(value.lower())) is not None:
        return str(number)
    if not _INTEGER.fullmatch(value):
        raise InvalidLine(f"{column.name}: {value[:40]!r} is not a whole number")
    digits = value.partition(".")[0]
    if len(digits) > 20 or not -INTEGER_LIMIT <= int(digits) < INTEGER_LIMIT:
        raise InvalidLine(f"{column.name}: {value[:40]!r} does not fit into 64 bits")
    return str(int(digits))


def _float(value: str, column: Column) -> str:
    if not _FLOAT.fullmatch(value):
        raise InvalidLine(f"{column.name}: {value[:40]!r} is not a number")
    if not math.isfinite(number := float(value)):
        raise InvalidLine(f"{column.name}: {value[:40]!r} is out of range")
    return repr(number)


def _timestamp(value: str, column: Column) -> str:
    parts = _MOMENT.fullmatch(value)
    if not parts:
        raise InvalidLine(f"{column.name}: {value[:40]!r} is not a time such as 2021-01-31 23:59:59")
    *units, fraction = parts.groups(default="0")
    year, month, day, hour, minute, second = map(int, units)
    leap = second == LEAP_SECOND  # read as the next second, as Polars and Postgres do
    try:
        moment = dt.datetime(year, month, day, hour, minute, second - leap, int(fraction.ljust(6, "0")))  # noqa: DTZ001 - New York time
        moment += dt.timedelta(seconds=leap)
    except (ValueError, OverflowError) as error:
        raise InvalidLine(f"{column.name}: {value[:40]!r} does not exist ({error})") from None
    return moment.isoformat(sep=" ")
