"""The careful path: an irregular CSV file becomes a regular one, and every line that does not fit a reject.

One regular expression, built from the dataset's declaration, says what a line that fits looks like.
It runs over whole runs of lines at once, so that a file with a few bad lines costs little more than a
good one; each line that it does not take is looked at by itself, with a reason for every refusal.
Nothing here converts a value for the result: the regular file it writes is read by the same Polars
reader as any other, so that there is one parser of values, not two that may differ.
"""

from __future__ import annotations

import csv
import datetime as dt
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isal import igzip

from flows.rejects import Reject, too_many_rejects
from flows.sources.inspection import GZIP_MAGIC
from transforms.dataset import ColumnType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedIOBase
    from pathlib import Path

    from flows.progress import Report
    from transforms.dataset import Column, Dataset, HeaderMatch

READ_BYTES = 2**20
LONGEST_RECORD_BYTES = 2**14  # a quoted text that goes on for longer is a quote that was never closed
INTEGER_LIMIT = 2**63
UNTERMINATED = "a quote is opened and never closed"

# The days that every year has; 29 February is looked at by itself.
_DAY = r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_TIMESTAMP = rf"(?:000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d{{3}})-{_DAY} (?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d"
_FITS = {
    # At most 18 digits, so that every one of them is within 64 bits.
    ColumnType.INTEGER: r"-?\d{1,18}+(?:\.0*+)?",
    ColumnType.FLOAT: r"-?(?:\d{1,300}+(?:\.\d*+)?|\.\d++)",
    ColumnType.TIMESTAMP: _TIMESTAMP,
    # Printable ASCII without the quote and the comma; anything else is looked at by itself.
    ColumnType.TEXT: r"[ !#-+\--~]++",
}
# ASCII: to Python the digits of every script are digits, to databases they are not.
_INTEGER = re.compile(r"[+-]?\d+(?:\.0*)?", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4})-( ?\d{1,2})-( ?\d{1,2})[ T]( ?\d{1,2}):( ?\d{1,2})(?::( ?\d{1,2})(?:\.(\d{1,6}))?)?", re.ASCII
)
LEAP_SECOND = 60


class Misfit(ValueError):
    """A line that does not fit; the message is the reason."""


@dataclass(slots=True)
class Repair:
    """What became of every line of a file.

    Attributes:
        good: records in the regular file.
        blank: lines with nothing on them.
        continued: lines that belong to the record above, because a quoted text spans them.
        rejects: the rest.
    """

    good: int = 0
    blank: int = 0
    continued: int = 0
    rejects: list[Reject] = field(default_factory=list)

    @property
    def lines(self) -> int:
        """All lines accounted for, without the header."""
        return self.good + self.blank + self.continued + len(self.rejects)


def repair_csv(
    source: Path,
    target: Path,
    dataset: Dataset,
    match: HeaderMatch,
    *,
    most_rejects: int,
    report: Report | None = None,
) -> Repair:
    """Write the lines of `source` that fit to `target`, regular and gzipped, and collect the rest.

    Args:
        source: CSV or gzipped CSV with a header line.
        target: overwritten; the header line is carried over as it is.
        dataset: what the file holds.
        match: its header.
        most_rejects: give up beyond so many.
        report: called with (lines done, None).

    Raises:
        TooManyRejects: names the first few lines and their reasons.
    """
    with _open(source) as lines_in, igzip.IGzipFile(target, "wb", compresslevel=1) as out:
        out.write(lines_in.readline())
        worker = _Worker(dataset, match, out, most_rejects)
        for block in _whole_line_blocks(lines_in):
            worker.take(block)
            if report:
                report(worker.repair.lines, None)
        return worker.finish()


def _open(path: Path) -> BufferedIOBase:
    with path.open("rb") as file:
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return igzip.IGzipFile(path, "rb") if packed else path.open("rb")


def _whole_line_blocks(file: BufferedIOBase) -> Iterator[bytes]:
    """The rest of the file in blocks that end with a line feed."""
    rest = b""
    while data := file.read(READ_BYTES):
        head, line_feed, tail = data.rpartition(b"\n")
        if line_feed:
            yield rest + head + line_feed
            rest = tail
        else:
            rest += data
    if rest:
        yield rest + b"\n"


def line_pattern(columns: Sequence[Column]) -> re.Pattern[bytes]:
    """A pattern that takes as many lines that fit as there are in a row.

    The quantifiers are possessive: a line that fails is left at once, without backtracking. A value may
    stand in quotes, as in files in which all do; but not an empty one, which Polars reads as a text.
    """
    fields = (
        f'(?:{_FITS[column.type]}|"{_FITS[column.type]}"){"" if column.required else "?+"}'
        for column in columns
    )
    return re.compile(rf"(?:{','.join(fields)}\r?\n)++".encode())


class _Worker:
    """Takes blocks of whole lines and tells the ones that fit from the others."""

    def __init__(self, dataset: Dataset, match: HeaderMatch, out: BufferedIOBase, most_rejects: int) -> None:
        self.repair = Repair()
        self._columns = dataset.columns_of(match)
        self._fits = line_pattern(self._columns)
        self._out = out
        self._most_rejects = most_rejects
        self._open_record = b""  # a quoted text that goes on behind the end of the block

    def take(self, block: bytes) -> None:
        position = 0
        while position < len(block):
            run = None if self._open_record else self._fits.match(block, position)
            if run:
                self._out.write(run[0])
                self.repair.good += run[0].count(b"\n")
                position = run.end()
            else:
                end = block.index(b"\n", position) + 1
                self._look_at(block[position:end])
                position = end

    def finish(self) -> Repair:
        while self._open_record:
            record, self._open_record = self._open_record, b""
            self._reject(record, UNTERMINATED)
        return self.repair

    def _look_at(self, line: bytes) -> None:
        record = self._open_record + line
        self._open_record = b""
        if record.count(b'"') % 2 == 0:
            self._keep_or_reject(record)
        elif len(record) <= LONGEST_RECORD_BYTES:
            self._open_record = record
        else:
            self._reject(record, UNTERMINATED)

    def _keep_or_reject(self, record: bytes) -> None:
        if not record.strip():
            self.repair.blank += 1
            return
        # Two stray quotes make one text of all between them; a good line in there gives it away.
        if any(self._is_good(line) for line in record.split(b"\n")[1:-2]):
            self._reject(record, UNTERMINATED)
            return
        try:
            regular = regular_line(record, self._columns)
        except Misfit as misfit:
            self._reject(record, str(misfit))
            return
        self.repair.good += 1
        self.repair.continued += record.count(b"\n") - 1
        self._out.write(regular)

    def _is_good(self, line: bytes) -> bool:
        try:
            regular_line(line, self._columns)
        except Misfit:
            return False
        return True

    def _reject(self, record: bytes, reason: str) -> None:
        """Reject the first line, and look again at those that only its quote had joined to it."""
        # Not splitlines(), which would also split at a lone carriage return.
        first, *others = (line + b"\n" for line in record[:-1].split(b"\n"))
        number = self.repair.lines + 2  # the header is line 1
        raw = first.rstrip(b"\r\n").decode(errors="backslashreplace")
        self.repair.rejects.append(Reject(number, raw, UNTERMINATED if others else reason))
        if len(self.repair.rejects) > self._most_rejects:
            raise too_many_rejects(self.repair.rejects, self._most_rejects)
        for line in others:
            self._look_at(line)


def regular_line(record: bytes, columns: Sequence[Column]) -> bytes:
    """One record as the fast reader wants it.

    Raises:
        Misfit: with the column and the reason.
    """
    if b"\0" in record:
        raise Misfit("has a NUL byte, which no database takes in a text")
    try:
        text = record.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise Misfit(f"is not UTF-8: byte 0x{record[error.start]:02x}") from None
    try:
        values = next(csv.reader([text], strict=True)) if '"' in text else text.split(",")
    except csv.Error as error:
        raise Misfit(f"bad quoting: {error}") from None
    if len(values) != len(columns):
        raise Misfit(f"has {len(values)} fields where the header has {len(columns)}")
    return ",".join(map(_regular_value, values, columns)).encode() + b"\n"


def _regular_value(value: str, column: Column) -> str:
    if column.type is ColumnType.TEXT:
        return _quoted(value)
    value = value.strip()
    if not value:
        if column.required:
            raise Misfit(f"{column.name}: is empty and must not be")
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
    if not _INTEGER.fullmatch(value):
        raise Misfit(f"{column.name}: {value[:40]!r} is not a whole number")
    digits = value.partition(".")[0]
    if len(digits) > 20 or not -INTEGER_LIMIT <= int(digits) < INTEGER_LIMIT:
        raise Misfit(f"{column.name}: {value[:40]!r} does not fit into 64 bits")
    return str(int(digits))


def _float(value: str, column: Column) -> str:
    if not _FLOAT.fullmatch(value):
        raise Misfit(f"{column.name}: {value[:40]!r} is not a number")
    if not math.isfinite(number := float(value)):
        raise Misfit(f"{column.name}: {value[:40]!r} is out of range")
    return repr(number)


def _timestamp(value: str, column: Column) -> str:
    parts = _MOMENT.fullmatch(value)
    if not parts:
        raise Misfit(f"{column.name}: {value[:40]!r} is not a time such as 2021-01-31 23:59:59")
    *units, fraction = parts.groups(default="0")
    year, month, day, hour, minute, second = map(int, units)
    leap = second == LEAP_SECOND  # read as the next second, as Polars and Postgres do
    try:
        moment = dt.datetime(year, month, day, hour, minute, second - leap, int(fraction.ljust(6, "0")))  # noqa: DTZ001 - New York time
        moment += dt.timedelta(seconds=leap)
    except (ValueError, OverflowError) as error:
        raise Misfit(f"{column.name}: {value[:40]!r} does not exist ({error})") from None
    return moment.isoformat(sep=" ")
