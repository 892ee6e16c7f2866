"""Files of a table, as pyiceberg reads and writes them; on a disk each one is synced when it is closed.

Without that a power failure could leave a catalog that names metadata which never reached the disk.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from flows.runtime import fsync

if TYPE_CHECKING:
    from pyiceberg.io import OutputStream


class DurableFileIO(PyArrowFileIO):
    """pyiceberg's own access to files, durable for those on a disk."""

    def new_output(self, location: str) -> PyArrowFile:
        """The file to be written at a location.

        Args:
            location: a path or a URI.
        """
        scheme, netloc, path = self.parse_location(location, self.properties)
        kind = DurableOutputFile if scheme == "file" else PyArrowFile
        return kind(location, path, self.fs_by_scheme(scheme, netloc))


class DurableOutputFile(PyArrowFile):
    """A file on a disk."""

    def create(self, overwrite: bool = False) -> OutputStream:
        """Open it for writing; its directories are created.

        Args:
            overwrite: an existing file may be replaced.

        Raises:
            FileExistsError: it exists, and may not be replaced.
        """
        path = Path(PyArrowFileIO.parse_location(self.location)[2])
        make_directory(path.parent)
        return cast("OutputStream", _SyncedFile(path, "wb" if overwrite else "xb"))


class _SyncedFile(io.BufferedWriter):
    """A file whose bytes and name are on the disk when it has been closed."""

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(io.FileIO(path, mode))
        self._directory = path.parent

    def close(self) -> None:
        if not self.closed:
            self.flush()
            os.fsync(self.fileno())
            super().close()
            fsync(self._directory)


def make_directory(directory: Path) -> None:
    """Create a directory with its parents, durably.

    Args:
        directory: may exist.
    """
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    fsync(directory.parent)
