"""Files of a grammar: heads of real files, changed in ways whose meaning is known when they are made.

A number makes a file, always the same: `generate(4711)`. Nothing here reads a file the way the program does,
so what each line has to become is known without it.
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from support.heads import heads, value_of
from support.odd_values import BAD, CSV_VALUES, GARBAGE, PARQUET_VALUES, Line

from transforms.column import Column, ColumnType
from transforms.datasets import DATASETS

if TYPE_CHECKING:
    from transforms.trip_month import TripMonth

Kind = Literal["csv", "csv.gz", "parquet"]
KINDS: tuple[Kind, ...] = ("csv", "csv", "csv.gz", "parquet")
SPELLINGS: tuple[Callable[[str], str], ...] = (str, str.upper, str.lower, " {}".format, "{} ".format)
MOST_ROWS = 7


@dataclass(frozen=True)
class GeneratedFile:
    """A file, the row that each of its lines is, and the same rows written so that another path reads them.

    Attributes:
        number: makes it again.
        month: what it is said to hold.
        kind: of its bytes.
        content: its bytes.
        rows: those that have to be loaded, without columns that the file does not have.
        bad: numbers of the lines (of a Parquet file: rows) that have to be rejects.
        spanned: how many more rejects there may be, because a quoted text in a bad record spans lines.
        names: of its columns.
        other: the rows as CSV: for the careful path if the file itself is regular, or for the fast path.
    """

    number: int
    month: TripMonth
    kind: Kind
    content: bytes
    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    bad: set[int]
    other: bytes
    spanned: int = field(default=0)


def generate(number: int) -> GeneratedFile:
    """Make a file from its number."""
    randoms = random.Random(number)
    color = list(DATASETS)[number % len(DATASETS)]
    head = randoms.choice([head for head in heads() if head.month.color == color])
    order = list(range(len(head.columns)))
    if randoms.random() < 0.1:
        randoms.shuffle(order)
    columns = [head.columns[place] for place in order]
    texts = [
        [row[place] for place in order] for row in randoms.choices(head.rows, k=randoms.randint(1, MOST_ROWS))
    ]
    kind = randoms.choice(KINDS)
    make = _parquet_file if kind == "parquet" else _csv_file
    return make(number, randoms, head.month, columns, texts, kind)


# CSV


def _csv_file(
    number: int,
    randoms: random.Random,
    month: TripMonth,
    columns: Sequence[Column],
    texts: Sequence[Sequence[str]],
    kind: Kind,
) -> GeneratedFile:
    oddness = randoms.choice([0, 0, 0.01, 0.1])
    lines = [_line(randoms, columns, row, oddness) for row in texts]
    header = ",".join(randoms.choice(SPELLINGS)(column.name) for column in columns).encode()
    whole_file = randoms.choice(WHOLE_FILE) if not oddness else None
    if oddness:
        for _ in range(randoms.choice([0, 0, 1, 2])):
            lines.insert(randoms.randint(0, len(lines)), _no_row(randoms, header, lines))
    elif whole_file:
        header, lines = whole_file(header, lines, columns)
    ends = randoms.choice([[b"\n"], [b"\r\n"], [b"\n", b"\r\n"]])
    content = header + randoms.choice(ends) + b"".join(line.text + randoms.choice(ends) for line in lines)
    if randoms.random() < 0.2 and lines[-1].row is not None:
        content = content.removesuffix(b"\n").removesuffix(b"\r")
    content = randoms.choice([b"", b"", b"\xef\xbb\xbf"]) + content
    starts = itertools.accumulate((line.lines for line in lines[:-1]), initial=2)
    rows = [line.row for line in lines if line.row is not BAD and line.row is not None]
    is_regular = not oddness and whole_file is None
    return GeneratedFile(
        number,
        month,
        kind,
        _packed(randoms, content) if kind == "csv.gz" else content,
        tuple(column.name for column in columns),
        rows,
        {start for start, line in zip(starts, lines, strict=True) if line.row is BAD},
        # A blank line is no row, and makes a file irregular.
        content + b"\n\n" if is_regular else regular_csv(columns, rows),
        sum(line.lines - 1 for line in lines if line.row is BAD),
    )


def _line(randoms: random.Random, columns: Sequence[Column], texts: Sequence[str], oddness: float) -> Line:
    written, values = list(texts), [value_of(*pair) for pair in zip(texts, columns, strict=True)]
    for place, column in enumerate(columns):
        if randoms.random() < oddness:
            written[place], values[place] = _odd_value(randoms, column)
    # A comma too many before an empty last field cannot be told from the commas at the end of old files.
    if any("," in text for text, value in zip(written, values, strict=True) if value is BAD):
        written[-1] = written[-1].strip() or "x"
    return Line(",".join(written).encode(), BAD if BAD in values else tuple(values))


def _odd_value(randoms: random.Random, column: Column) -> tuple[str, Any]:
    words = [
        (spell(word), number) for word, number in column.codes for spell in (str, str.upper, " {} ".format)
    ]
    text, value = randoms.choice([*CSV_VALUES[column.type], *words])
    return (text, value) if text or column.required else (text, None)


def _no_row(randoms: random.Random, header: bytes, lines: Sequence[Line]) -> Line:
    """A blank line, garbage, the header again, or a line with a field too many or too few."""
    row = randoms.choice([line for line in lines if line.row is not None]).text
    ragged = (
        [row.rpartition(b",")[0], row + b",1"]
        if b'"' not in row and row.count(b",") == header.count(b",")
        else []
    )
    choices = [Line(blank, None) for blank in (b"", b" ", b"\t")]
    return randoms.choice(
        [*choices, *(Line(text, BAD) for text in [header, randoms.choice(GARBAGE), *ragged])]
    )


def _quoted(header: bytes, lines: list[Line], _: Sequence[Column]) -> tuple[bytes, list[Line]]:
    """Every value is in quotes."""
    return _in_quotes(header), [Line(_in_quotes(line.text), line.row) for line in lines]


def _in_quotes(line: bytes) -> bytes:
    return b",".join(b'"%s"' % value for value in line.split(b","))


def _with_commas(header: bytes, lines: list[Line], _: Sequence[Column]) -> tuple[bytes, list[Line]]:
    """Every line ends with two commas more than the header, as in the TLC's files of 2016."""
    return header, [Line(line.text + b",,", line.row) for line in lines]


def _with_row_numbers(header: bytes, lines: list[Line], _: Sequence[Column]) -> tuple[bytes, list[Line]]:
    """The index that pandas writes."""
    return b"," + header, [Line(b"%d,%s" % (at, line.text), line.row) for at, line in enumerate(lines)]


def _spreadsheet_dates(
    header: bytes, lines: list[Line], columns: Sequence[Column]
) -> tuple[bytes, list[Line]]:
    """Month, day and year with slashes, where the first number alone tells them apart."""

    def written(text: bytes, column: Column) -> bytes:
        if column.type is not ColumnType.TIMESTAMP or not text:
            return text
        return dt.datetime.fromisoformat(text.decode()).strftime("%m/%d/%Y %H:%M:%S").encode()

    pickups = next(place for place, column in enumerate(columns) if column.required)
    proof = {line.row[pickups].day > 12 or line.row[pickups].day == line.row[pickups].month for line in lines}
    if proof != {True}:
        return header, lines
    pairs = [zip(line.text.split(b","), columns, strict=True) for line in lines]
    return header, [
        Line(b",".join(written(*pair) for pair in row), line.row)
        for row, line in zip(pairs, lines, strict=True)
    ]


def _with_a_stray_quote(header: bytes, lines: list[Line], _: Sequence[Column]) -> tuple[bytes, list[Line]]:
    """A quote that nothing closes costs its own line and no other."""
    return header, [*lines, Line(b'"' + lines[0].text, BAD), *lines]


def _with_two_stray_quotes(
    header: bytes, lines: list[Line], columns: Sequence[Column]
) -> tuple[bytes, list[Line]]:
    """The valid lines between them are no text."""
    header, lines = _with_a_stray_quote(header, lines, columns)
    return header, [*lines, lines[len(lines) // 2], *lines[: len(lines) // 2]]


WHOLE_FILE = [
    None,
    None,
    _quoted,
    _with_commas,
    _with_row_numbers,
    _spreadsheet_dates,
    _with_a_stray_quote,
    _with_two_stray_quotes,
]


def _packed(randoms: random.Random, content: bytes) -> bytes:
    """As gzip, of one member or two."""
    cut = randoms.choice([0, randoms.randint(0, len(content))])
    return b"".join(gzip.compress(part, 1, mtime=0) for part in (content[:cut], content[cut:]) if part)


def regular_csv(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> bytes:
    """The rows in their plainest form; a text with a comma, a quote or a line feed makes it irregular."""

    def written(value: Any) -> str:  # noqa: ANN401 - of any column
        text = "" if value is None else str(value)
        return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text

    lines = [[column.name for column in columns], *([written(value) for value in row] for row in rows)]
    return "".join(",".join(line) + "\n" for line in lines).encode()


# Parquet


def _parquet_file(
    number: int,
    randoms: random.Random,
    month: TripMonth,
    columns: Sequence[Column],
    texts: Sequence[Sequence[str]],
    kind: Kind,
) -> GeneratedFile:
    oddness = randoms.choice([0, 0.01, 0.1])
    pairs = [
        [
            randoms.choice(PARQUET_VALUES[column.type])
            if randoms.random() < oddness
            else (value_of(text, column),) * 2
            for text, column in zip(row, columns, strict=True)
        ]
        for row in texts
    ]
    pairs = [
        [
            (None, None) if pair[0] is None and not column.required else pair
            for pair, column in zip(row, columns, strict=True)
        ]
        for row in pairs
    ]
    rows = [BAD if any(value is BAD for _, value in row) else tuple(v for _, v in row) for row in pairs]
    table = pa.table(
        [_array(randoms, column, [row[place][0] for row in pairs]) for place, column in enumerate(columns)],
        names=[randoms.choice(SPELLINGS[:3])(column.name) for column in columns],
    )
    content = io.BytesIO()
    pq.write_table(table, content, compression=randoms.choice(["zstd", "snappy", "none"]))
    good = [row for row in rows if row is not BAD]
    return GeneratedFile(
        number,
        month,
        kind,
        content.getvalue(),
        tuple(column.name for column in columns),
        good,
        {row for row, values in enumerate(rows, start=1) if values is BAD},
        regular_csv(columns, good) + b"\n",
    )


def _array(randoms: random.Random, column: Column, values: list[Any]) -> pa.Array:
    """The values in one of the types that the TLC's files have had and that holds each of them exactly."""
    for type_ in randoms.sample(PARQUET_TYPES[column.type], len(PARQUET_TYPES[column.type])):
        try:
            array = pa.array(values, type_)
        except (pa.ArrowInvalid, OverflowError):
            continue
        if repr(array.to_pylist()) == repr(values) or (type_ == pa.float64() and array.to_pylist() == values):
            return array
    return pa.array(values, column.type.arrow)


PARQUET_TYPES = {
    ColumnType.INTEGER: [pa.int64(), pa.int32(), pa.float64()],
    ColumnType.FLOAT: [pa.float64()],
    ColumnType.TIMESTAMP: [pa.timestamp("us"), pa.timestamp("ms"), pa.timestamp("s"), pa.timestamp("ns")],
    ColumnType.TEXT: [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
}
