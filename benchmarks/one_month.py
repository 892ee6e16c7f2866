"""Stages and loads one landed month in this process and prints time and memory; see test_scale.py.

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
    """The highest resident memory of a process."""
    # NOTE: not ru_maxrss on Linux, which starts with the resident memory of the parent process.
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Read the request from stdin, because the URL contains a password."""
    request = json.load(sys.stdin)
    month, landed = TripMonth("yellow", 2021, 1), find_landed(Path(request["file"]))
    assert landed, "the file has not landed"
    settings = Settings(_env_file=None, postgres_url=SecretStr(request["postgres_url"]))
    started = time.perf_counter()
    staged = stage(landed, month, Path(request["directory"]), StagingOptions(), force=True)
    staged_at = time.perf_counter()
    receipt = Postgres.from_settings(Path(), settings).publish(staged, force=True)
    done = time.perf_counter()
    measured = {"rows": receipt.rows, "seconds": done - started, "stage_seconds": staged_at - started}
    # The two peaks come at different moments: their sum is an upper bound.
    with copier() as copying:
        peak = peak_bytes(os.getpid()) + peak_bytes(copying.pid)
    print(json.dumps(measured | {"peak_megabytes": peak / 2**20}))


if __name__ == "__main__":
    main()
