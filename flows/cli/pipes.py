"""Standard output and standard error: lines that fit a terminal, and readers that go away, as `head` does."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import textwrap
from collections.abc import Generator
from typing import IO, Any, TextIO


def wrapped_for(stream: IO[str], line: str) -> str:
    """Break a line between words where a terminal would break it within one; elsewhere it stays whole.

    Args:
        stream: where it goes.
        line: a word that is wider than the terminal, such as a path, stays whole and can be copied.
    """
    columns = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    if not columns:  # no terminal, or one that does not know its width
        return line
    return "\n".join(textwrap.wrap(line, columns, break_long_words=False, break_on_hyphens=False))


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
