"""Stage and load one landed month in this process, and say what it took; see test_scale.py.

`flows.parent` is imported, and Prefect with it, so that the memory is that of the whole command.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

from pydantic import SecretStr

import flows.parent  # noqa: F401 - for its memory
from flows.destinations.postgres import Postgres
from flows.destinations.postgres.copier import copier
from flows.settings import Settings
from flows.sources import find_landed
from flows.staging import StagingOptions, stage
from transforms.trip_month import TripMonth


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had resident."""
    # NOTE: not ru_maxrss on Linux, which starts with what the process that called us had resident.
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """The request comes on stdin, because the URL has a password in it."""
    request = json.load(sys.stdin)
    month, landed = TripMonth("yellow", 2021, 1), find_landed(Path(request["file"]))
    assert landed, "the file has not landed"
    settings = Settings(_env_file=None, postgres_url=SecretStr(request["postgres_url"]))
    started = time.perf_counter()
    staged = stage(landed, month, Path(request["directory"]), StagingOptions(), force=True)
    staged_at = time.perf_counter()
    receipt = Postgres.from_settings(Path(), settings).publish(staged, force=True)
    done = time.perf_counter()
    found = {"rows": receipt.rows, "seconds": done - started, "stage_seconds": staged_at - started}
    with (
        copier() as copying
    ):  # the peaks are not at the same moment, so their sum is more than ever was there
        peak = peak_bytes(os.getpid()) + peak_bytes(copying.pid)
    print(json.dumps(found | {"peak_megabytes": peak / 2**20}))


if __name__ == "__main__":
    main()
