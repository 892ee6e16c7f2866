"""The careful path: an irregular CSV file becomes a regular one, and every line that does not fit a reject.

One regular expression, built from the dataset's declaration, says what a line that fits looks like.
It runs over whole runs of lines at once, so that a file with a few bad lines costs little more than a
good one; each line that it does not take is looked at by itself, with a reason for every refusal.
Nothing here converts a value for the result: the regular file it writes is read by the same Polars
reader as any other, so that there is one parser of values, not two that may differ.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isal import igzip

from flows.sources import GZIP_MAGIC
from flows.staging.csv_line import InvalidLine, regular_line
from flows.staging.rejects import Reject, too_many_rejects
from transforms.dataset import ColumnType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedIOBase
    from pathlib import Path

    from flows.runtime import ProgressCallback
    from transforms.dataset import Column, Dataset, HeaderMatch

READ_BYTES = 2**20
SAMPLE_LINES = 1_000
LONGEST_RECORD_BYTES = 2**14  # a quoted text that goes on for longer is a quote that was never closed
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
    report: ProgressCallback | None = None,
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
    columns = dataset.columns_of(match)
    with _open(source) as lines_in, igzip.IGzipFile(target, "wb", compresslevel=1) as out:
        out.write(lines_in.readline())
        blocks = _whole_line_blocks(lines_in)
        first = next(blocks, b"")
        worker = _Worker(columns, surplus_fields(first, len(columns)), out, most_rejects)
        for block in itertools.chain([first], blocks):
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


def surplus_fields(block: bytes, columns: int) -> int:
    """How many empty fields a file has behind those of its header, in most of its first lines; usually none.

    The TLC's green files of 2013 to 2014 and its yellow and green ones of the second half of 2016 end each
    line with two commas more than the header has. A line by itself proves nothing: behind a stray comma in
    the middle, the last field may well be empty too.
    """
    lines = block.split(b"\n", SAMPLE_LINES)[:SAMPLE_LINES]
    found = Counter(_surplus(line, columns) for line in lines if line.strip() and b'"' not in line)
    [(surplus, times)] = found.most_common(1) or [(0, 0)]
    return surplus if 2 * times > found.total() else 0


def _surplus(line: bytes, columns: int) -> int:
    fields = line.split(b",")
    is_trip = any(map(bytes.strip, fields)) and not any(map(bytes.strip, fields[columns:]))
    return max(len(fields) - columns, 0) if is_trip else 0


def _pattern_of(column: Column) -> str:
    """A pattern of one value that fits, without quotes."""
    words = sorted((word for word, _ in column.codes), key=len, reverse=True)
    fits = _FITS[column.type]
    return f"(?:{fits}|(?i:{'|'.join(words)}) *+)" if words else fits


def line_pattern(columns: Sequence[Column], surplus: int = 0) -> re.Pattern[bytes]:
    """A pattern that takes as many lines that fit as there are in a row.

    The quantifiers are possessive: a line that fails is left at once, without backtracking. A value may
    stand in quotes, as in files in which all do; but not an empty one, which Polars reads as a text.
    """
    fields = (
        f'(?:{fits}|"{fits}"){"" if column.required else "?+"}'
        for column in columns
        for fits in [_pattern_of(column)]
    )
    return re.compile(rf"(?:{','.join(fields)}{',' * surplus}\r?\n)++".encode())


class _Worker:
    """Takes blocks of whole lines and tells the ones that fit from the others."""

    def __init__(
        self, columns: Sequence[Column], surplus: int, out: BufferedIOBase, most_rejects: int
    ) -> None:
        self.repair = Repair()
        self._columns, self._surplus = columns, surplus
        self._fits = line_pattern(columns, surplus)
        self._surplus_at_end = re.compile(b"," * surplus + rb"(\r?\n)") if surplus else None
        self._out = out
        self._most_rejects = most_rejects
        self._open_record = b""  # a quoted text that goes on behind the end of the block

    def take(self, block: bytes) -> None:
        position = 0
        while position < len(block):
            run = None if self._open_record else self._fits.match(block, position)
            if run:
                kept = self._surplus_at_end.sub(rb"\1", run[0]) if self._surplus_at_end else run[0]
                self._out.write(kept)
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
            regular = regular_line(record, self._columns, self._surplus)
        except InvalidLine as misfit:
            self._reject(record, str(misfit))
            return
        self.repair.good += 1
        self.repair.continued += record.count(b"\n") - 1
        self._out.write(regular)

    def _is_good(self, line: bytes) -> bool:
        try:
            regular_line(line, self._columns, self._surplus)
        except InvalidLine:
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
