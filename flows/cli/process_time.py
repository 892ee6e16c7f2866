"""How long this process has been running: what the user of a command waits for."""

from __future__ import annotations

import os
import time
from pathlib import Path

_first_import = time.monotonic()


def seconds_since_start() -> float:
    """Seconds since the process was started, its imports included.

    Linux tells when that was, by the tick (a hundredth of a second). Elsewhere the time since the import of
    this module is the next best.
    """
    try:
        # The name of the program comes second, in brackets, and may hold anything.
        fields = (
            Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # `starttime`, the 22nd field of all
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError, IndexError):
        return time.monotonic() - _first_import
