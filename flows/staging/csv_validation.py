"""Which CSV lines are valid, and the reason an invalid one is rejected with.

One regular expression, made from the columns' declarations, takes runs of plain lines at once, so that a file
with a few bad lines costs little more than a good one. Any other line is checked value by value.
"""

from __future__ import annotations

import csv
import datetime as dt
import itertools
import math
import re
from collections.abc import Sequence

from transforms.column import LONGEST_TEXT_BYTES, Column, ColumnType

INTEGER_LIMIT = 2**63
LEAP_SECOND = 60

# Days that every year has; 29 February is checked by itself.
_DAY = r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_YEAR = r"(?:000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d{3})"
_PLAIN_VALUES = {
    # At most 18 digits, so that every number is within 64 bits.
    ColumnType.INTEGER: r"-?\d{1,18}+(?:\.0*+)?",
    ColumnType.FLOAT: r"-?(?:\d{1,300}+(?:\.\d*+)?|\.\d++)",
    ColumnType.TIMESTAMP: rf"{_YEAR}-{_DAY} (?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d",
    # Printable ASCII without the quote and the comma.
    ColumnType.TEXT: rf"[ !#-+\--~]{{1,{LONGEST_TEXT_BYTES}}}+",
}
# ASCII: to Python the digits of every script are digits, to databases they are not.
_INTEGER = re.compile(r"[+-]?\d+(?:\.0*)?", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_TIMESTAMP = re.compile(
    r"(\d{4})-( ?\d{1,2})-( ?\d{1,2})[ T]( ?\d{1,2}):( ?\d{1,2})(?::( ?\d{1,2})(?:\.(\d{1,6}))?)?", re.ASCII
)


class InvalidLine(ValueError):
    """A line that does not fit its declaration; the message is the reject's reason."""


def line_pattern(
    columns: Sequence[Column], trailing: int = 0, merged: Sequence[tuple[int, int]] = ()
) -> re.Pattern[bytes]:
    """Build the pattern of plain lines; a match is a run of as many as follow each other.

    The quantifiers are possessive: an invalid line is left at once, without backtracking. A value may be
    quoted, as in files that quote every value. Two quotes in a row are always a whole empty value.

    Args:
        columns: declarations, in the file's order.
        trailing: empty fields at the end of every line of the file.
        merged: positions of columns of which one at least is empty in a plain line.

    Returns:
        The pattern of one or more whole lines with their line ends.
    """
    values = [(column, _plain_value(column)) for column in columns]
    fields = [
        f'(?:{value}|"{value}")' if column.required else f'(?:{value}|"{value}"|"")?+'
        for column, value in values
    ]
    lines = [
        ",".join('(?:"")?+' if place in empty else field for place, field in enumerate(fields))
        for empty in itertools.product(*merged)
    ]
    return re.compile(rf"(?:(?:{'|'.join(lines)}){',' * trailing}\r?\n)++".encode())


def _plain_value(column: Column) -> str:
    """The pattern of one value without quotes."""
    words = sorted((word for word, _ in column.codes), key=len, reverse=True)
    value = _PLAIN_VALUES[column.type]
    return f"(?:{value}|(?i:{'|'.join(words)}) *+)" if words else value


def regular_line(
    record: bytes, columns: Sequence[Column], trailing: int = 0, merged: Sequence[tuple[int, int]] = ()
) -> bytes:
    """Check one record, and write it as the fast reader needs it.

    Args:
        record: with its line end.
        columns: declarations, in the file's order.
        trailing: empty fields at the end of every line of the file; they are left out.
        merged: positions of columns that hold one value; the second of each is left empty.

    Returns:
        The line with its values in regular form and a line feed.

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
    if len(values) != len(columns) + trailing or any(map(str.strip, values[len(columns) :])):
        behind = f" and {trailing} empty ones are behind them" if trailing else ""
        raise InvalidLine(f"has {len(values)} fields where the header has {len(columns)}{behind}")
    values = values[: len(columns)]
    for kept, other in merged:
        values[kept], values[other] = _merged_value(values, columns, kept, other), ""
    return ",".join(map(_regular_value, values, columns)).encode() + b"\n"


def _merged_value(values: Sequence[str], columns: Sequence[Column], kept: int, other: int) -> str:
    one, two = values[kept].strip(), values[other].strip()
    if one and two and one != two:
        raise InvalidLine(f"{columns[kept].name}: is {one[:40]!r}, but {columns[other].name} is {two[:40]!r}")
    return values[kept] if one else values[other]


def _regular_value(value: str, column: Column) -> str:
    if column.type is ColumnType.TEXT:
        if 4 * len(value) > LONGEST_TEXT_BYTES < len(value.encode()):
            raise InvalidLine(f"{column.name}: is longer than {LONGEST_TEXT_BYTES:,} bytes")
        return '"' + value.replace('"', '""') + '"' if any(c in value for c in '",\r\n') else value
    value = value.strip()
    if not value:
        if column.required:
            raise InvalidLine(f"{column.name}: is empty and must not be")
        return ""
    if column.type is ColumnType.INTEGER:
        return _regular_integer(value, column)
    if column.type is ColumnType.FLOAT:
        return _regular_float(value, column)
    return _regular_timestamp(value, column)


def _regular_integer(value: str, column: Column) -> str:
    if (number := dict(column.codes).get(value.lower())) is not None:
        return str(number)
    if not _INTEGER.fullmatch(value):
        raise InvalidLine(f"{column.name}: {value[:40]!r} is not a whole number")
    digits = value.partition(".")[0]
    if len(digits) > 20 or not -INTEGER_LIMIT <= int(digits) < INTEGER_LIMIT:
        raise InvalidLine(f"{column.name}: {value[:40]!r} does not fit into 64 bits")
    return str(int(digits))


def _regular_float(value: str, column: Column) -> str:
    if not _FLOAT.fullmatch(value):
        raise InvalidLine(f"{column.name}: {value[:40]!r} is not a number")
    if not math.isfinite(number := float(value)):
        raise InvalidLine(f"{column.name}: {value[:40]!r} is out of range")
    return repr(number)


def _regular_timestamp(value: str, column: Column) -> str:
    parts = _TIMESTAMP.fullmatch(value)
    if not parts:
        raise InvalidLine(f"{column.name}: {value[:40]!r} is not a time such as 2021-01-31 23:59:59")
    *units, fraction = parts.groups(default="0")
    year, month, day, hour, minute, second = map(int, units)
    leap = second == LEAP_SECOND  # read as the next second, as Polars and Postgres do
    try:
        timestamp = dt.datetime(year, month, day, hour, minute, second - leap, int(fraction.ljust(6, "0")))  # noqa: DTZ001 - New York time
        timestamp += dt.timedelta(seconds=leap)
    except (ValueError, OverflowError) as error:
        raise InvalidLine(f"{column.name}: {value[:40]!r} does not exist ({error})") from None
    return timestamp.isoformat(sep=" ")
