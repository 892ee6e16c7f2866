"""A real filesystem of a few megabytes that tests can fill.

Mounting it needs root. For other users, `tests/flows/runtime/test_full_disk.py` runs itself again as root
of a user namespace.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEGABYTES = 8


@dataclass(frozen=True)
class SmallDisk:
    """A directory with its own small filesystem."""

    path: Path

    def leave(self, free_bytes: int) -> None:
        """Fill it until only so many bytes are free; a second call starts over."""
        ballast = self.path / "ballast"
        ballast.unlink(missing_ok=True)
        ballast.write_bytes(bytes(shutil.disk_usage(self.path).free - free_bytes))

    def make_room(self) -> None:
        (self.path / "ballast").unlink()

    def make_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)

    def make_writable(self) -> None:
        subprocess.run(["mount", "-o", "remount,rw", str(self.path)], check=True)


def _mount(path: Path) -> str:
    """Mount one; returns why it is not possible, or an empty text."""
    if shutil.which("mount") is None:
        return "there is no mount here"
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "taxi", str(path)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    return mount.stderr.strip().partition("\n")[0] if mount.returncode else ""


def _unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@cache
def mount_error(scratch: Path) -> str:
    """Why this process cannot mount a filesystem; empty if it can."""
    path = scratch / "trial"
    path.mkdir()
    reason = _mount(path)
    if not reason:
        _unmount(path)
    return reason


@pytest.fixture(scope="session")
def no_small_disk(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Why no small disk can be mounted here; empty if it can."""
    return mount_error(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def small_disk(no_small_disk: str, tmp_path: Path) -> Iterator[SmallDisk]:
    """An empty small disk for one test."""
    if no_small_disk:
        pytest.skip(f"needs to mount a filesystem: {no_small_disk}; run as root, or under `unshare -rm`")
    path = tmp_path / "disk"
    path.mkdir()
    _mount(path)
    yield SmallDisk(path)
    _unmount(path)
