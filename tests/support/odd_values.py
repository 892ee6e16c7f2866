"""Texts that files may hold, and what each means: the value, or `BAD` if its line is a reject."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

from transforms.column import ColumnType

at = dt.datetime.fromisoformat
BAD = object()
"""The value of a text that is none: its line is a reject."""

INTEGERS: list[tuple[str, Any]] = [
    ("1", 1),
    ("", None),
    ("-7", -7),
    ("1.0", 1),
    ("007", 7),
    ("0" * 30 + "7", 7),
    (" 2 ", 2),
    ('"3"', 3),
    ("1.", 1),
    (str(2**63 - 1), 2**63 - 1),
    (str(-(2**63)), -(2**63)),
    (str(2**63), BAD),
    ("9" * 400, BAD),
    *((text, BAD) for text in ("1.5", "x", "1e3", "0x1", "NaN", "٣", "1\0", "--1", "1 2", "True")),
]
FLOATS: list[tuple[str, Any]] = [
    ("1.5", 1.5),
    ("", None),
    ("-0.0", -0.0),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("5e-324", 5e-324),
    ("1.7976931348623157e308", 1.7976931348623157e308),
    ("0.1", 0.1),
    ("12345678901234567890", 12345678901234567890.0),
    *((text, BAD) for text in ("1e309", "-1e309", "inf", "NaN", "1,5", "$1", "1_000", "½", ".", "1..2")),
]
TIMESTAMPS: list[tuple[str, Any]] = [
    ("2021-01-31 23:59:59", at("2021-01-31 23:59:59")),
    ("0001-01-01 00:00:00", at("0001-01-01")),
    ("9999-12-31 23:59:59", at("9999-12-31 23:59:59")),
    ("2020-02-29 00:00:00", at("2020-02-29")),
    ("2021-01-01 00:00:00.5", at("2021-01-01 00:00:00.500000")),
    ("2021-01-01 00:00:00.000001", at("2021-01-01 00:00:00.000001")),
    ('"2021-01-02 03:04:05"', at("2021-01-02 03:04:05")),
    *((text, BAD) for text in ("", "2021-02-29 00:00:00", "0000-01-01 00:00:00", "10000-01-01 00:00:00")),
    *((text, BAD) for text in ("2021-01-01 24:00:00", "2021-13-01 00:00:00", "2019/02/01 00:00", "soon")),
    *((text, BAD) for text in ("2021-01-01 00:00:00Z", "19-01-01 00:00:00")),
]
"""Of a column that must not be empty."""

TEXTS: list[tuple[str, Any]] = [
    ("N", "N"),
    ("", None),
    (" ", " "),
    ('"a,b"', "a,b"),
    ('"say ""hi"""', 'say "hi"'),
    ("é😀", "é😀"),
    ("'; DROP TABLE yellow_taxi_trips; --", "'; DROP TABLE yellow_taxi_trips; --"),
    ("=cmd()", "=cmd()"),
    ("a\0b", BAD),
    ('"two\nlines"', "two\nlines"),
    ('"a"b', BAD),
]
CSV_VALUES = {
    ColumnType.INTEGER: INTEGERS,
    ColumnType.FLOAT: FLOATS,
    ColumnType.TIMESTAMP: TIMESTAMPS,
    ColumnType.TEXT: TEXTS,
}
PARQUET_VALUES: dict[ColumnType, list[tuple[Any, Any]]] = {
    ColumnType.INTEGER: [(value, value) for value in (0, 1, -7, 265, 2**31 - 1, 2**53, 2**63 - 1, None)],
    ColumnType.FLOAT: [
        *((value, value) for value in (0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, None)),
        *((value, BAD) for value in (math.inf, -math.inf, math.nan)),
    ],
    ColumnType.TIMESTAMP: [
        *((value, value) for value in (at("2021-01-31 23:59:59"), at("2020-02-29"), at("0001-01-01"))),
        (at("9999-12-31 23:59:59.999999"), at("9999-12-31 23:59:59.999999")),
        (None, BAD),
    ],
    ColumnType.TEXT: [
        *((value, value) for value in ("N", " ", "a,b", 'say "hi"', "é😀", "two\nlines", None)),
        ("a\0b", BAD),
    ],
}
"""The same for the values of a Parquet file."""

GARBAGE = [b"\xff\xfe", b"\x80abc", b"a;b;c", b"<html>", b"\0\0\0", b"1,2", b",,,,,,,,", b"\x1b[2J"]
"""Lines that are no rows, whatever the columns, if there are more than two."""


@dataclass(frozen=True)
class Line:
    """A line of a file, with or without its end, and the row it is; BAD: none; None: it is blank."""

    text: bytes
    row: Any

    @property
    def lines(self) -> int:
        """More than one if a quoted text goes on in the next."""
        return self.text.removesuffix(b"\n").count(b"\n") + 1
