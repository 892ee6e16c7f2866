"""A loss of power, played: what a run changes on the disk is recorded, and parts of it are forgotten.

The kernel may write in any order what no fsync has forced to the disk: the content of a file block by block,
and the names in a directory. `power_loss.c` records both with what was forced; `Recording.after` makes the
directory that a machine might find when it starts again.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SOURCE = Path(__file__).with_suffix(".c")
BLOCK_BYTES = 4096
HEAD = struct.Struct("=IIIIQQQ")

Forgets = Literal["everything", "contents", "names", "parts"]
"""What is forgotten of that which was not forced to the disk; `parts`: of each file and directory some."""
FORGETS: tuple[Forgets, ...] = ("everything", "contents", "parts", "names", "parts")


class Op(IntEnum):
    """As in power_loss.c."""

    CREATE, WRITE, TRUNCATE, SYNC, SYNC_DIRECTORY, RENAME, UNLINK, MKDIR, RMDIR = range(9)


@dataclass(frozen=True)
class Event:
    op: Op
    inode: int
    offset: int
    path: str
    other: str
    data: bytes


@dataclass(eq=False)
class _File:
    """A file's content as programs see it, and as it is on the disk for certain."""

    seen: bytearray = field(default_factory=bytearray)
    synced: bytes = b""

    def some(self, randoms: random.Random) -> bytes:
        """Each block as it was or as it is, and so the length."""
        length = len(randoms.choice([self.seen, self.synced]))
        old, new = (bytes(content).ljust(length, b"\0") for content in (self.synced, self.seen))
        starts = range(0, length, BLOCK_BYTES)
        return b"".join(randoms.choice([old, new])[at : at + BLOCK_BYTES] for at in starts)[:length]


Names = dict[str, "_File | None"]
"""By path; None: a directory."""


class _Disk:
    """A directory as programs see it, and as it is on the disk for certain."""

    def __init__(
        self, directory: Path, inodes: Mapping[int, str], contents: Mapping[str, bytes | None]
    ) -> None:
        self._root = str(directory)
        files = {
            path: None if content is None else _File(bytearray(content), content)
            for path, content in contents.items()
        }
        self._by_inode = {inode: file for inode, path in inodes.items() if (file := files[path])}
        self._seen: Names = dict(files)
        self._synced: Names = dict(files)
        self._pending: dict[str, list[tuple[Names, list[str]]]] = {}

    def apply(self, event: Event) -> None:
        file = self._by_inode.get(event.inode)
        match event.op:
            case Op.CREATE:
                made = self._by_inode[event.inode] = _File()
                self._change({event.path: made})
            case Op.WRITE if file is not None:
                end = event.offset + len(event.data)
                file.seen.extend(bytes(max(0, end - len(file.seen))))
                file.seen[event.offset : end] = event.data
            case Op.TRUNCATE if file is not None:
                file.seen.extend(bytes(max(0, event.offset - len(file.seen))))
                del file.seen[event.offset :]
            case Op.SYNC if file is not None:
                file.synced = bytes(file.seen)
            case Op.SYNC_DIRECTORY:
                for added, removed in self._pending.pop(event.path, []):
                    _change(self._synced, added, removed)
            case Op.RENAME:
                self._change({event.other: self._seen[event.path]}, [event.path])
            case Op.UNLINK | Op.RMDIR:
                self._change({}, [event.path])
            case Op.MKDIR:
                self._change({event.path: None})
            case _:
                pass

    def _change(self, added: Names, removed: Sequence[str] = ()) -> None:
        _change(self._seen, added, removed)
        [parent] = {os.path.dirname(path) for path in (*added, *removed)}  # noqa: PTH120
        self._pending.setdefault(parent, []).append((added, list(removed)))

    def contents(self, forgets: Forgets | None, randoms: random.Random) -> dict[str, bytes | None]:
        """The content by path, None for a directory, after some of it was forgotten."""
        names = dict(self._synced if forgets in ("everything", "names", "parts") else self._seen)
        if forgets == "parts":
            for changes in self._pending.values():
                for change in changes[: randoms.randint(0, len(changes))]:
                    _change(names, *change)
        forgotten = {
            None: lambda file: bytes(file.seen),
            "everything": lambda file: file.synced,
            "contents": lambda file: file.synced,
            "names": lambda file: bytes(file.seen),
            "parts": lambda file: file.some(randoms),
        }[forgets]
        return {
            path: None if file is None else forgotten(file)
            for path, file in names.items()
            if self._has_parents(names, path)
        }

    def _has_parents(self, names: Names, path: str) -> bool:
        parent = os.path.dirname(path)  # noqa: PTH120
        return parent == self._root or (parent in names and self._has_parents(names, parent))


def _change(names: Names, added: Names, removed: Sequence[str]) -> None:
    for path in removed:
        names.pop(path, None)
    names.update(added)


class Recording:
    """What a process has changed in a directory.

    Attributes:
        events: in order.
    """

    def __init__(self, directory: Path, log: Path) -> None:
        """Remember the directory as it is, before the process starts."""
        self._directory, self._log = directory, log
        self._before = read_tree(directory)
        self._inodes = {(Path(path)).stat().st_ino: path for path in self._before}
        self.events: list[Event] = []

    def environment(self) -> dict[str, str]:
        """What the process has to be started with; skips the test where that cannot be had."""
        return {
            "LD_PRELOAD": str(_library(self._log.parent)),
            "TAXI_TEST_POWER_LOG": str(self._log),
            "TAXI_TEST_POWER_BELOW": str(self._directory),
        }

    def finish(self) -> None:
        """Read the log; every change has to be in it."""
        self.events = list(_read_log(self._log.read_bytes()))
        assert self.contents_after(len(self.events), None) == read_tree(self._directory), (
            "not all is recorded"
        )

    def contents_after(self, count: int, forgets: Forgets | None) -> dict[str, bytes | None]:
        """The contents of the directory if the power is lost after so many events."""
        disk = _Disk(self._directory, self._inodes, self._before)
        for event in self.events[:count]:
            disk.apply(event)
        return disk.contents(forgets, random.Random(count))

    def restore(self, count: int, forgets: Forgets) -> None:
        """Make the directory what it might be after that."""
        shutil.rmtree(self._directory)
        self._directory.mkdir()
        contents = self.contents_after(count, forgets)
        for path in sorted(contents):
            content = contents[path]
            if content is None:
                Path(path).mkdir()
            else:
                Path(path).write_bytes(content)


def read_tree(directory: Path) -> dict[str, bytes | None]:
    """The content of every file by path; None for a directory."""
    return {str(path): None if path.is_dir() else path.read_bytes() for path in sorted(directory.rglob("*"))}


def _read_log(log: bytes) -> Iterator[Event]:
    at = 0
    while at < len(log):
        op, path_bytes, other_bytes, _, inode, offset, data_bytes = HEAD.unpack_from(log, at)
        at += HEAD.size
        parts = []
        for length in (path_bytes, other_bytes, data_bytes):
            parts.append(log[at : at + length])
            at += length
        yield Event(Op(op), inode, offset, parts[0].decode(), parts[1].decode(), parts[2])


def _library(directory: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or not Path("/proc/self/fd").exists():
        pytest.skip("needs Linux and a C compiler called cc")
    library = directory / "power_loss.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-pthread", "-o", str(library), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the C compiler makes no library of {SOURCE.name}: {done.stderr[:200]}")
    return library
