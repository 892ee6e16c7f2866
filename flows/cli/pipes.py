"""Standard output and standard error whose reader may go away, as `head` does."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Generator
from typing import Any, TextIO


class _Pipe(io.FileIO):
    """A file descriptor that takes everything without a word once nobody reads it any more."""

    def write(self, content: Any, /) -> int | None:  # noqa: ANN401 - any buffer of bytes
        try:
            return super().write(content)
        except BrokenPipeError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())  # for the processes that inherit it too
            os.close(nothing)
            return memoryview(content).nbytes


@contextlib.contextmanager
def quiet_after_closed_pipe() -> Generator[None]:
    """Let a command go on in silence when nobody reads what it prints, for as long as the block lasts.

    Its exit code then is that of its work. Without this, the exception would strike wherever a line happens
    to be printed, in the middle of a month too.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_wrapped, before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _wrapped(stream: TextIO) -> TextIO:
    """The same stream over a `_Pipe`; one that is no standard stream of the process stays as it is."""
    if stream not in (sys.__stdout__, sys.__stderr__) or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    raw = io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(
        raw,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
