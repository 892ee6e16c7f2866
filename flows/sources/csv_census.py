"""The census of a CSV file: counts of the bytes that have a meaning, and the header line.

It tells whether the fast CSV reader can be used, and it is the independent count of rows that the
reconciliation compares with.
"""

from __future__ import annotations

from dataclasses import dataclass

from flows.errors import SourceCorrupt

GZIP_MAGIC = b"\x1f\x8b"
UTF8_BOM = b"\xef\xbb\xbf"
HEADER_LIMIT_BYTES = 64 * 2**10
LONG_LINE_BYTES = 2**23  # no piece of text that is fed is longer
MAGIC_BYTES = 8  # longer than any of the file signatures below
OTHER_FORMATS = {
    b"<": "an HTML or XML page",
    b"{": "a JSON document",
    b"PK": "a ZIP archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
}


@dataclass(frozen=True, slots=True)
class Census:
    """Counts over a whole CSV file, including its header line.

    Attributes:
        lines: physical lines; the last one counts even without a line feed.
        separators, quotes, nuls: numbers of commas, double quotes and NUL bytes.
        bytes: uncompressed size.
        has_long_line: whether a line is so long that it should not be held in memory.
    """

    lines: int
    separators: int
    quotes: int
    nuls: int
    bytes: int
    has_long_line: bool = False

    def is_regular(self, columns: int) -> bool:
        """Tell whether every line seems to have the same number of fields, without quoting.

        Short and blank lines lower the number of separators, long lines raise it. They can only cancel each
        other out in pairs, and a long line makes the fast reader fail anyway.

        Args:
            columns: the number of fields per line.

        Returns:
            True if the counts fit.
        """
        is_plain = not (self.quotes or self.nuls or self.has_long_line)
        return is_plain and self.separators == self.lines * (columns - 1)


class TextCensus:
    """Takes the census of a text that arrives in pieces, and keeps its first line."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._start: bytes | None = b""  # None once there were enough bytes to recognise another format
        self._first_line = b""
        self._in_first_line = True
        self._last_byte = b""
        self._line_feeds = self._separators = self._quotes = self._nuls = self._bytes = 0
        self._open_line_bytes = self._longest_line_bytes = 0

    def feed(self, text: bytes) -> None:
        """Count the next bytes.

        Args:
            text: any number of bytes, uncompressed.

        Raises:
            SourceCorrupt: the text starts like another format, or its first line is too long.
        """
        if self._start is not None:
            self._refuse_other_formats(self._start + text)
        if self._in_first_line:
            line, line_feed, _ = text.partition(b"\n")
            self._first_line += line
            self._in_first_line = not line_feed
            if len(self._first_line) > HEADER_LIMIT_BYTES:
                self._refuse_carriage_returns()
                raise SourceCorrupt(
                    f"the first line is longer than {HEADER_LIMIT_BYTES:,} bytes; this is no CSV file "
                    "with a header"
                )
        line_feeds = text.count(b"\n")
        self._measure_open_line(text, has_end=line_feeds > 0)
        self._line_feeds += line_feeds
        self._separators += text.count(b",")
        self._quotes += text.count(b'"')
        self._nuls += text.count(b"\0")
        self._bytes += len(text)
        self._last_byte = text[-1:] or self._last_byte

    def finish(self) -> tuple[tuple[str, ...], Census]:
        """End the census: the text is complete.

        Returns:
            The column names in the first line, as written, and the counts.

        Raises:
            SourceCorrupt: the text is empty, or its first line is not a header.
        """
        if not self._bytes:
            raise SourceCorrupt("the file is empty once unpacked; see whether the source has it")
        self._refuse_carriage_returns()
        line = self._first_line.removeprefix(UTF8_BOM).rstrip(b"\r")
        try:
            header = tuple(line.decode().split(","))
        except UnicodeDecodeError:
            raise SourceCorrupt(
                f"the first line is not text (it starts with {line[:16]!r}); this is no CSV file "
                "with a header"
            ) from None
        lines = self._line_feeds + (self._last_byte != b"\n")
        long = self._longest_line_bytes > LONG_LINE_BYTES
        return header, Census(lines, self._separators, self._quotes, self._nuls, self._bytes, long)

    def _measure_open_line(self, text: bytes, *, has_end: bool) -> None:
        """Measure the lines that reach from one piece of text into the next."""
        self._open_line_bytes += text.find(b"\n") if has_end else len(text)
        self._longest_line_bytes = max(self._longest_line_bytes, self._open_line_bytes)
        if has_end:
            self._open_line_bytes = len(text) - text.rfind(b"\n") - 1

    def _refuse_carriage_returns(self) -> None:
        if b"\r" in self._first_line.rstrip(b"\r"):
            raise SourceCorrupt("the lines end in a bare carriage return; convert them to line feeds first")

    def _refuse_other_formats(self, start: bytes) -> None:
        content = start.removeprefix(UTF8_BOM).lstrip()
        is_recognised = len(content) >= MAGIC_BYTES or len(start) > HEADER_LIMIT_BYTES
        self._start = None if is_recognised else start
        if start.startswith(GZIP_MAGIC):
            raise SourceCorrupt("the file was compressed twice (gzip in gzip); unpack it once")
        for magic, description in OTHER_FORMATS.items():
            if content.startswith(magic):
                raise SourceCorrupt(
                    f"the source sent {description} instead of trip data (it starts with {content[:40]!r}); "
                    "open the address in a browser to see what it says"
                )
