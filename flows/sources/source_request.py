"""What the landing asks a transport for, what it gets, and what may come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.errors import SourceBusy, SourceNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class SourceResponse:
    """A source that answered.

    Attributes:
        offset: where `chunks` starts; 0 if the source could not or would not resume.
        total: size of the whole file in bytes, where the source says it.
        version: a validator (ETag, date, generation): equal means the file has not changed.
        unchanged: the source says the file is still the version that was asked about.
        chunks: the bytes from `offset` on.
    """

    offset: int
    total: int | None
    version: str | None
    chunks: Iterator[bytes]
    unchanged: bool = False


class SourceCut(SourceBusy):
    """The connection ended before the file did; what has come so far is good."""


class SourceAbsent(SourceNotFound):
    """The source answered, and has no such file."""


class SourceChanged(SourceBusy):
    """What has come so far is of another version of the file; start over."""


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """What the landing asks a transport for.

    Attributes:
        url: the source.
        offset: bytes already here, of the file's version `version`.
        version: validator of those bytes; without it nothing can be resumed.
        known: version of the file that landed before; the transport may answer `unchanged`.
        probe: only ask what is there: of the bytes at most the first is wanted.
    """

    url: str = field(repr=False)
    offset: int = 0
    version: str | None = None
    known: str | None = None
    probe: bool = False
