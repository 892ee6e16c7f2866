"""What a transport is asked for, what it answers, and the ways in which reading a source can fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from flows.errors import SourceBusy, SourceNotFound


class SourceInterrupted(SourceBusy):
    """The connection ended before the file did; the bytes received so far are good."""


class SourceTooSlow(SourceInterrupted):
    """The bytes came more slowly than the settings allow; those received so far are good."""


class SourceChanged(SourceBusy):
    """The bytes received so far belong to another version of the file; the download starts over."""


class SourceFileMissing(SourceNotFound):
    """The source answered that it has no such file."""


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """A request for a file, or for the rest of one.

    Attributes:
        url: address of the file; it may hold a secret, so it is not shown.
        offset: number of bytes already received, of the file's version `version`.
        version: version of those bytes; without it a download cannot resume.
        known_version: version of the file that landed before; the source may answer `unchanged`.
        probe: only ask for size and version, and read at most one byte.
    """

    url: str = field(repr=False)
    offset: int = 0
    version: str | None = None
    known_version: str | None = None
    probe: bool = False


@dataclass(frozen=True, slots=True)
class SourceResponse:
    """The answer of a source that has the file.

    Attributes:
        version: ETag, date or generation: an equal one means the same bytes. None: the source has none.
        total: size of the whole file in bytes; None if the source does not say.
        offset: where `chunks` starts; 0 if the source cannot or will not resume.
        chunks: the bytes from `offset` on.
        unchanged: the file still has the request's `known_version`; `chunks` need not be read.
    """

    version: str | None
    total: int | None = None
    offset: int = 0
    chunks: Iterator[bytes] = field(default_factory=lambda: iter(()))
    unchanged: bool = False
