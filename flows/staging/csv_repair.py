"""The careful path: splits an irregular CSV file into a regular one and rejects.

Nothing here converts a value for the result: the regular file is read by the same Polars reader as any
other, so that there is one parser of values, not two that may differ.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING

from isal import igzip

from flows.sources import GZIP_MAGIC
from flows.staging.csv_validation import InvalidLine, line_pattern, regular_line
from flows.staging.rejects import LONGEST_RAW, Reject, Rejects

if TYPE_CHECKING:
    from flows.runtime import ProgressCallback
    from transforms.column import Column
    from transforms.dataset import Dataset, HeaderMatch

READ_BYTES = 2**20
SAMPLE_LINES = 1_000
LONGEST_RECORD_BYTES = 2**14  # a longer quoted text is taken for a quote that was never closed
LONGEST_LINE_BYTES = 2**20  # of a longer line, only the start is read
UNTERMINATED = "a quote is opened and never closed"
TOO_LONG = f"is longer than {LONGEST_LINE_BYTES:,} bytes"


@dataclass(slots=True)
class RepairResult:
    """What became of every line of a file.

    Attributes:
        good: records in the regular file.
        blank: lines with nothing but blanks.
        continued: lines that belong to the record above, because a quoted text spans them.
        rejected: the other lines.
    """

    good: int = 0
    blank: int = 0
    continued: int = 0
    rejected: int = 0

    @property
    def lines(self) -> int:
        """All lines accounted for, without the header."""
        return self.good + self.blank + self.continued + self.rejected


def repair_csv(
    source: Path,
    target: Path,
    dataset: Dataset,
    match: HeaderMatch,
    rejects: Rejects,
    *,
    most_rejects: int,
    report: ProgressCallback | None = None,
) -> RepairResult:
    """Write the valid lines of `source` to `target`, regular and gzipped, and add the others to the rejects.

    Args:
        source: CSV or gzipped CSV with a header line.
        target: overwritten; the header line is copied unchanged.
        dataset: what the file holds.
        match: its header.
        rejects: where the other lines go.
        most_rejects: fail when there are more.
        report: called with (lines done, None).

    Returns:
        The number of lines of each kind.

    Raises:
        TooManyRejects: names the first few lines and their reasons.
    """
    columns = dataset.columns_of(match)
    merged = [(match.columns.index(kept), match.columns.index(other)) for kept, other in match.merged]
    with _open(source) as lines_in, igzip.IGzipFile(target, "wb", compresslevel=1) as out:
        out.write(lines_in.readline())
        blocks = _whole_line_blocks(lines_in)
        first = next(blocks, b"")
        trailing = _trailing_fields(first, len(columns))
        repairer = _Repairer(columns, trailing, merged, out, rejects, most_rejects)
        for block in itertools.chain([first], blocks):
            repairer.take(block)
            if report:
                report(repairer.result.lines, None)
        return repairer.finish()


def _open(path: Path) -> BufferedIOBase:
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return igzip.IGzipFile(path, "rb") if is_gzip else path.open("rb")


def _whole_line_blocks(file: BufferedIOBase) -> Iterator[bytes]:
    """The rest of the file in blocks that end with a line feed; overlong lines are cut, but stay too long."""
    while block := file.read(READ_BYTES):
        if not block.endswith(b"\n"):
            block += file.readline(LONGEST_LINE_BYTES + 1)
            rest = block
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(READ_BYTES)
        yield block if block.endswith(b"\n") else block + b"\n"


# The TLC's green files of 2013 to 2014 and its yellow and green ones of the second half of 2016 end each
# line with two commas more than the header has. One line alone proves nothing: after a stray comma in
# the middle, the last field may well be empty too.
def _trailing_fields(block: bytes, columns: int) -> int:
    """The number of empty fields at the end of most of the first lines, after those of the header."""
    lines = block.split(b"\n", SAMPLE_LINES)[:SAMPLE_LINES]
    counts = Counter(
        _trailing_fields_of(line, columns) for line in lines if line.strip() and b'"' not in line
    )
    [(trailing, times)] = counts.most_common(1) or [(0, 0)]
    return trailing if 2 * times > counts.total() else 0


def _trailing_fields_of(line: bytes, columns: int) -> int:
    fields = line.split(b",")
    is_trip = any(map(bytes.strip, fields)) and not any(map(bytes.strip, fields[columns:]))
    return max(len(fields) - columns, 0) if is_trip else 0


class _Repairer:
    """Sorts blocks of whole lines into the regular file and the rejects."""

    def __init__(
        self,
        columns: Sequence[Column],
        trailing: int,
        merged: Sequence[tuple[int, int]],
        out: BufferedIOBase,
        rejects: Rejects,
        most_rejects: int,
    ) -> None:
        self.result = RepairResult()
        self._columns, self._trailing, self._merged = columns, trailing, merged
        self._plain_lines = line_pattern(columns, trailing, merged)
        self._trailing_commas = re.compile(b"," * trailing + rb"(\r?\n)")
        self._out = out
        self._rejects, self._most_rejects = rejects, most_rejects
        self._open_record = b""  # a quoted text that continues in the next line

    def take(self, block: bytes) -> None:
        position = 0
        while position < len(block):
            run = None if self._open_record else self._plain_lines.match(block, position)
            if run:
                self._out.write(self._plain_text(run[0]))
                self.result.good += run[0].count(b"\n")
                position = run.end()
            else:
                end = block.index(b"\n", position) + 1
                self._take_line(block[position:end])
                position = end

    def _plain_text(self, lines: bytes) -> bytes:
        """Plain lines without trailing commas and empty quoted values, which Polars reads as a text."""
        lines = lines.replace(b'""', b"")
        return self._trailing_commas.sub(rb"\1", lines) if self._trailing else lines

    def finish(self) -> RepairResult:
        while self._open_record:
            record, self._open_record = self._open_record, b""
            self._reject(record, UNTERMINATED)
        return self.result

    def _take_line(self, line: bytes) -> None:
        record = self._open_record + line
        self._open_record = b""
        if len(line) > LONGEST_LINE_BYTES:
            self._reject(record, TOO_LONG)
        elif record.count(b'"') % 2 == 0:
            self._take_record(record)
        elif len(record) <= LONGEST_RECORD_BYTES:
            self._open_record = record
        else:
            self._reject(record, UNTERMINATED)

    def _take_record(self, record: bytes) -> None:
        if not record.strip():
            self.result.blank += 1
            return
        # Two stray quotes make one text of everything between them; a valid line in it gives that away.
        if any(self._is_valid(line) for line in record.split(b"\n")[1:-2]):
            self._reject(record, UNTERMINATED)
            return
        try:
            regular = regular_line(record, self._columns, self._trailing, self._merged)
        except InvalidLine as invalid:
            self._reject(record, str(invalid))
            return
        self.result.good += 1
        self.result.continued += record.count(b"\n") - 1
        self._out.write(regular)

    def _is_valid(self, line: bytes) -> bool:
        try:
            regular_line(line, self._columns, self._trailing, self._merged)
        except InvalidLine:
            return False
        return True

    def _reject(self, record: bytes, reason: str) -> None:
        """Reject the first line, and take those again that only its quote had joined to it."""
        # Not splitlines(), which would also split at a lone carriage return.
        first, *others = (line + b"\n" for line in record[:-1].split(b"\n"))
        number = self.result.lines + 2  # the header is line 1
        raw = first[: 4 * LONGEST_RAW].rstrip(b"\r\n").decode(errors="backslashreplace")
        self._rejects.add(Reject(number, raw, UNTERMINATED if others else reason))
        self.result.rejected += 1
        self._rejects.check(self._most_rejects)
        for line in others:
            self._take_line(line)
