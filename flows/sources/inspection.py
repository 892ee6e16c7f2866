"""Reading a file once, while it lands: what it is, whether it is whole, and its census.

The census counts bytes that mean something in a CSV file. It decides whether the fast reader may be
trusted, and it is the independent number of rows that the reconciliation checks against.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from isal import igzip_lib, isal_zlib

from flows.errors import SourceCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Kind = Literal["csv", "csv.gz", "parquet"]

GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
UTF8_BOM = b"\xef\xbb\xbf"
GZIP_WINDOW_BITS = 31  # zlib's way of saying: gzip header and checksum included
ISAL_ERROR: Any = igzip_lib.IsalError  # its stubs declare an instance where there is a class
BLOCK_BYTES = 4 * 2**20
HEADER_LIMIT_BYTES = 64 * 2**10
TELLING_BYTES = 8  # more than the longest of the beginnings below
_NOT_TRIPS = {
    b"<": "an HTML or XML page",
    b"{": "a JSON document",
    b"PK": "a ZIP archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
}


@dataclass(frozen=True, slots=True)
class Census:
    """What stands in a CSV file, header line included.

    Attributes:
        lines: physical lines, whether or not the last one ends in a line feed.
        separators, quotes, nuls: how many commas, double quotes and NUL bytes.
        bytes: uncompressed size.
    """

    lines: int
    separators: int
    quotes: int
    nuls: int
    bytes: int

    def is_regular(self, columns: int) -> bool:
        """Whether every line can be taken to have exactly `columns` fields and no quoting.

        A short line and a blank line lower the number of separators, a long one raises it. They can
        only make up for each other in pairs, and a long line makes the fast reader fail by itself.
        """
        return not self.quotes and not self.nuls and self.separators == self.lines * (columns - 1)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a whole file turned out to be.

    Attributes:
        kind: told by content, never by name.
        bytes: size as it landed.
        sha256: of the bytes as they landed.
        header: first line's names as written (CSV), empty for Parquet.
        census: of the uncompressed text; None for Parquet.
    """

    kind: Kind
    bytes: int
    sha256: str
    header: tuple[str, ...] = ()
    census: Census | None = None


class Inspector:
    """Takes a file's bytes in order, in pieces of any size, and says at the end what it was."""

    def __init__(self, max_uncompressed_bytes: int) -> None:
        """Start with nothing known.

        Args:
            max_uncompressed_bytes: a compressed file that unpacks to more is refused.
        """
        self._limit = max_uncompressed_bytes
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._start = b""
        self._kind: Kind | None = None
        self._gzip: _GzipMembers | None = None
        self._text = _TextCensus()

    def feed(self, data: bytes) -> None:
        """Take the next piece.

        Raises:
            SourceCorrupt: what has come so far cannot be the start of a trip file.
        """
        self._sha256.update(data)
        self._bytes += len(data)
        if self._kind is None:
            self._start += data
            if len(self._start) < len(PARQUET_MAGIC):
                return
            data, self._start = self._start, b""
            self._begin(data)
        self._take(data)

    def finish(self) -> Inspection:
        """Say what the whole file is.

        Raises:
            SourceCorrupt: empty, truncated, or without a header line.
        """
        if not self._bytes:
            raise SourceCorrupt("the file is empty (0 bytes); see whether the source has it")
        if self._kind is None:
            self._begin(self._start)
            self._take(self._start)
        kind = self._kind or "csv"
        if self._gzip:
            self._gzip.finish()
        if kind == "parquet":
            return Inspection(kind, self._bytes, self._sha256.hexdigest())
        header, census = self._text.finish()
        return Inspection(kind, self._bytes, self._sha256.hexdigest(), header, census)

    def _begin(self, start: bytes) -> None:
        if start.startswith(GZIP_MAGIC):
            self._kind, self._gzip = "csv.gz", _GzipMembers(self._limit)
        elif start.startswith(PARQUET_MAGIC):
            self._kind = "parquet"
        else:
            self._kind = "csv"

    def _take(self, data: bytes) -> None:
        if self._gzip:
            for text in self._gzip.feed(data):
                self._text.feed(text)
        elif self._kind == "csv":
            self._text.feed(data)


def refuse_other_formats(start: bytes) -> None:
    """Raise `SourceCorrupt` if a text that starts like this is something else than CSV."""
    if start.startswith(GZIP_MAGIC):
        raise SourceCorrupt("the file was compressed twice (gzip in gzip); unpack it once")
    text = start.removeprefix(UTF8_BOM).lstrip()
    for magic, what in _NOT_TRIPS.items():
        if text.startswith(magic):
            raise SourceCorrupt(
                f"the source sent {what} instead of trip data (it starts with {text[:40]!r}); "
                "open the address in a browser to see what it says"
            )


def parquet_rows(path: Path) -> int:
    """Rows of a Parquet file by its footer.

    Raises:
        SourceCorrupt: there is no readable footer, as in a truncated file.
    """
    try:
        return pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        raise SourceCorrupt(
            f"the Parquet file has no readable footer ({error}); download it again"
        ) from error


class _GzipMembers:
    """Unpacks one or more gzip members, checking each one's checksum and length."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._unpacked = 0
        self._member = isal_zlib.decompressobj(wbits=GZIP_WINDOW_BITS)
        self._between = b""  # bytes behind a finished member, too few to tell what they are

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            yield from self._unpack(data)
        except (ISAL_ERROR, zlib.error, EOFError) as error:
            raise SourceCorrupt(f"the gzip data is damaged ({error}); download it again") from error

    def finish(self) -> None:
        if not self._member.eof:
            raise SourceCorrupt("the gzip data ends in the middle (truncated file); download it again")
        self._refuse_garbage(self._between)

    def _unpack(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                # Zero bytes between or behind members are padding, as gzip itself treats them.
                data = (self._between + data).lstrip(b"\0")
                self._between = b""
                if len(data) < len(GZIP_MAGIC):
                    self._between = data
                    return
                self._refuse_garbage(data)
                self._member = isal_zlib.decompressobj(wbits=GZIP_WINDOW_BITS)
            text = self._member.decompress(data, BLOCK_BYTES)
            self._unpacked += len(text)
            if self._unpacked > self._limit:
                raise SourceCorrupt(
                    f"the file unpacks to more than {self._limit:,} bytes; if that is right, raise "
                    "TAXI_MAX_UNCOMPRESSED_BYTES"
                )
            if text:
                yield text
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if not text and not self._member.eof and not data:
                return

    @staticmethod
    def _refuse_garbage(data: bytes) -> None:
        if data and not data.startswith(GZIP_MAGIC):
            raise SourceCorrupt(
                f"there is garbage behind the gzip data (it starts with {data[:16]!r}); download it again"
            )


class _TextCensus:
    """Counts over text that comes in pieces, and keeps its first line."""

    def __init__(self) -> None:
        self._start: bytes | None = b""  # while it is too short to tell what it is
        self._first_line = b""
        self._in_first_line = True
        self._last_byte = b""
        self._feeds = self._separators = self._quotes = self._nuls = self._bytes = 0

    def feed(self, text: bytes) -> None:
        if self._start is None:
            self._count(text)
            return
        self._start += text
        is_telling = len(self._start.removeprefix(UTF8_BOM).lstrip()) >= TELLING_BYTES
        if is_telling or len(self._start) > HEADER_LIMIT_BYTES:
            self._begin(self._start)

    def _begin(self, start: bytes) -> None:
        self._start = None
        refuse_other_formats(start)
        self._count(start)

    def _count(self, text: bytes) -> None:
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
        self._feeds += text.count(b"\n")
        self._separators += text.count(b",")
        self._quotes += text.count(b'"')
        self._nuls += text.count(b"\0")
        self._bytes += len(text)
        self._last_byte = text[-1:] or self._last_byte

    def finish(self) -> tuple[tuple[str, ...], Census]:
        if self._start:
            self._begin(self._start)
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
        lines = self._feeds + (self._last_byte != b"\n")
        return header, Census(lines, self._separators, self._quotes, self._nuls, self._bytes)

    def _refuse_carriage_returns(self) -> None:
        if b"\r" in self._first_line.rstrip(b"\r"):
            raise SourceCorrupt("the lines end in a bare carriage return; convert them to line feeds first")
