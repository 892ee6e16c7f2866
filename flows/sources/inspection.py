"""Inspecting a file while it is downloaded: its kind, whether it is complete, its checksum and its census."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from isal import igzip_lib, isal_zlib

from flows.errors import SourceCorrupt
from flows.sources.csv_census import GZIP_MAGIC, Census, TextCensus

Kind = Literal["csv", "csv.gz", "parquet"]

PARQUET_MAGIC = b"PAR1"
GZIP_WINDOW_BITS = 31  # in zlib: with gzip header and checksum
ISAL_ERROR: Any = igzip_lib.IsalError  # a class, which its type stubs declare as an instance
BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Inspection:
    """The findings about a complete file.

    Attributes:
        kind: determined by content, never by name.
        bytes: size of the file as downloaded.
        sha256: checksum of the file as downloaded.
        header: column names in the first line, as written; empty for Parquet.
        census: counts over the uncompressed text; None for Parquet.
    """

    kind: Kind
    bytes: int
    sha256: str
    header: tuple[str, ...] = ()
    census: Census | None = None


class Inspector:
    """Inspects a file whose bytes are fed in order, in pieces of any size."""

    def __init__(self, max_uncompressed_bytes: int) -> None:
        """Start an inspection.

        Args:
            max_uncompressed_bytes: a file that has more, unpacked if it is compressed, is refused.
        """
        self._max_uncompressed_bytes = max_uncompressed_bytes
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._start = b""
        self._kind: Kind | None = None
        self._gzip: _GzipMembers | None = None
        self._text = TextCensus()

    def feed(self, data: bytes) -> None:
        """Inspect the next bytes.

        Args:
            data: any number of bytes.

        Raises:
            SourceCorrupt: the bytes so far cannot be the start of a trip file.
        """
        self._sha256.update(data)
        self._bytes += len(data)
        _refuse_too_large(self._bytes, self._max_uncompressed_bytes)
        if self._kind is None:
            self._start += data
            if len(self._start) < len(PARQUET_MAGIC):
                return
            data, self._start = self._start, b""
            self._detect_kind(data)
        self._read_text(data)

    def finish(self) -> Inspection:
        """End the inspection: the file is complete.

        Returns:
            The findings.

        Raises:
            SourceCorrupt: the file is empty, truncated, or has no header line.
        """
        if not self._bytes:
            raise SourceCorrupt("the file is empty (0 bytes); see whether the source has it")
        if self._kind is None:
            self._detect_kind(self._start)
            self._read_text(self._start)
        kind = self._kind or "csv"
        if self._gzip:
            self._gzip.finish()
        if kind == "parquet":
            return Inspection(kind, self._bytes, self._sha256.hexdigest())
        header, census = self._text.finish()
        return Inspection(kind, self._bytes, self._sha256.hexdigest(), header, census)

    def _detect_kind(self, start: bytes) -> None:
        if start.startswith(GZIP_MAGIC):
            self._kind, self._gzip = "csv.gz", _GzipMembers(self._max_uncompressed_bytes)
        elif start.startswith(PARQUET_MAGIC):
            self._kind = "parquet"
        else:
            self._kind = "csv"

    def _read_text(self, data: bytes) -> None:
        if self._gzip:
            for text in self._gzip.feed(data):
                self._text.feed(text)
        elif self._kind == "csv":
            self._text.feed(data)


def parquet_rows(path: Path) -> int:
    """Read the number of rows from the footer of a Parquet file.

    Args:
        path: the file, under any name.

    Returns:
        The number of rows.

    Raises:
        SourceCorrupt: there is no readable footer, as in a truncated file.
    """
    try:
        return pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        raise SourceCorrupt(
            f"the Parquet file has no readable footer ({error}); download it again"
        ) from error


def _refuse_too_large(size: int, limit: int) -> None:
    if size > limit:
        raise SourceCorrupt(
            f"the file has more than {limit:,} bytes, unpacked if it is compressed; if that is right, raise "
            "TAXI_MAX_UNCOMPRESSED_BYTES"
        )


class _GzipMembers:
    """Decompresses a file of one or more gzip members, and verifies the checksum and length of each."""

    def __init__(self, max_uncompressed_bytes: int) -> None:
        self._max_uncompressed_bytes = max_uncompressed_bytes
        self._uncompressed_bytes = 0
        self._member = isal_zlib.decompressobj(wbits=GZIP_WINDOW_BITS)
        self._between = b""  # bytes behind a complete member, too few to recognise

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            yield from self._decompress(data)
        except (ISAL_ERROR, zlib.error, EOFError) as error:
            raise SourceCorrupt(f"the gzip data is damaged ({error}); download it again") from error

    def finish(self) -> None:
        if not self._member.eof:
            raise SourceCorrupt("the gzip data ends in the middle (truncated file); download it again")
        self._refuse_garbage(self._between)

    def _decompress(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                # gzip itself ignores zero bytes between and behind members, as padding.
                data = (self._between + data).lstrip(b"\0")
                self._between = b""
                if len(data) < len(GZIP_MAGIC):
                    self._between = data
                    return
                self._refuse_garbage(data)
                self._member = isal_zlib.decompressobj(wbits=GZIP_WINDOW_BITS)
            text = self._member.decompress(data, BLOCK_BYTES)
            self._uncompressed_bytes += len(text)
            _refuse_too_large(self._uncompressed_bytes, self._max_uncompressed_bytes)
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
