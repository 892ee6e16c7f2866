"""Paths that a call names: what may be written to, found out before anything is."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.errors import UsageError, error_context
from flows.runtime import Layout, atomic_write

STANDARD_OUTPUT = {Path(name) for name in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")}

LARGEST_SUMMARY_BYTES = 2**24
"""A larger file is no summary of ours: a month takes a kilobyte."""


def path_argument(text: str) -> Path:
    """A path as an option names it; to be used as argparse's `type`.

    Args:
        text: as given.

    Raises:
        ArgumentTypeError: it is empty, which `Path` would take for the current directory.
    """
    if not text:
        raise argparse.ArgumentTypeError(
            "the path is empty; name one, such as ./data, or . for this directory"
        )
    return Path(text)


def check_directory(option: str, path: Path) -> None:
    """Refuse a directory that cannot be created or written to; nothing is created.

    Args:
        option: that named it.
        path: the directory.

    Raises:
        UsageError: names the option and what is in the way.
    """
    existing = next(
        parent for parent in (path.absolute(), *path.absolute().parents) if os.path.lexists(parent)
    )
    if not existing.exists():
        raise UsageError(f"{option} {path}: {existing} is a link to nothing; name a directory")
    if not existing.is_dir():
        raise UsageError(f"{option} {path}: {existing} is a file; name a directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: no permission to write to {existing}; name another directory")


def check_summary(path: Path, data_dir: Path) -> None:
    """Refuse a file for the summary that is anything but new, an earlier summary, a FIFO or standard output.

    An earlier summary is removed when a run starts and replaced when it ends, so a mistyped name would cost
    what is there.

    Args:
        path: as given.
        data_dir: of the run, whose files are not touched.

    Raises:
        UsageError: what the path is, and what may be named.
    """
    if is_stream(path):
        return
    if wrong := _what_forbids(path, Layout(data_dir)):
        raise UsageError(
            f"--summary {path} {wrong}; name a new file, an earlier summary, a FIFO, or - for standard output"
        )
    check_directory("--summary", path.absolute().parent)


def _what_forbids(path: Path, layout: Layout) -> str:
    """Why a path cannot be replaced by a summary, in words; empty if it can."""
    if path.is_symlink():
        return "is a symbolic link"
    if path.is_dir():
        return "is a directory"
    if layout.contains(path):
        return f"is where the run keeps its own files ({layout.data_dir})"
    if not path.exists():
        return ""
    if not path.is_file():
        return "is a device or a socket"
    return "" if _is_summary(path) else "exists and is no summary"


def _is_summary(path: Path) -> bool:
    """Whether a file is a summary that a run has written, or empty."""
    with error_context(f"--summary {path}"):
        if path.stat().st_size > LARGEST_SUMMARY_BYTES:
            return False
        text = path.read_bytes()
    with contextlib.suppress(ValueError, RecursionError):
        content: Any = json.loads(text or '{"dataset": null, "year": null, "months": []}')
        return isinstance(content, Mapping) and {"dataset", "year", "months"} <= {*content}
    return False


def is_standard_output(path: Path | None) -> bool:
    """Whether a summary goes to standard output, which then holds nothing else.

    Args:
        path: as given; None: no summary.
    """
    return path in STANDARD_OUTPUT


def is_stream(path: Path) -> bool:
    """Whether a summary is written through a path instead of replacing what is there.

    Args:
        path: as given; may be a link to a pipe, as a shell's `>(command)` is.
    """
    with contextlib.suppress(OSError):
        return path in STANDARD_OUTPUT or stat.S_ISFIFO(path.stat().st_mode)
    return False


def remove_earlier_summary(path: Path) -> None:
    """Remove the summary of an earlier run, which would be taken for that of a run that writes none.

    Args:
        path: as given, checked.
    """
    if not is_stream(path):
        path.unlink(missing_ok=True)


def write_summary(path: Path, content: Mapping[str, Any]) -> None:
    """Write a summary as JSON: a file wholly or not at all, a stream as it is.

    Args:
        path: as given, checked.
        content: of the summary.

    Raises:
        LocalStorageError: it cannot be written.
    """
    text = json.dumps(content, indent=2) + "\n"
    if is_standard_output(path):
        print(text, end="", file=sys.stdout, flush=True)
        return
    with error_context(f"--summary {path}"):
        if is_stream(path):
            with path.open("w", encoding="utf-8") as stream:  # waits for a reader
                stream.write(text)
            return
        with atomic_write(path.absolute()) as temporary:
            temporary.write_text(text, encoding="utf-8")
