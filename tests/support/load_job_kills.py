"""A process that is killed while it loads a month from the bucket. Imports little: each starts anew."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from flows.destinations.bigquery import load_job as module
from flows.destinations.gcs.month_object import MonthsInBucket
from flows.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from transforms.trip_month import TripMonth

MOMENTS = ("before the job", "after the job", "before the ledger", "after the ledger")


def die_while_loading(
    _: Connection, data_dir: Path, settings: dict[str, Any], month: TripMonth, moment: str
) -> None:
    """Load the month, and be killed at one of `MOMENTS`."""
    match moment:
        case "before the job":
            module._run_job = _be_killed
        case "after the job":
            module.bigquery.LoadJob.result = _be_killed
        case "before the ledger":
            module.LoadJobs._finish = _be_killed
        case _:
            module.Receipt = _be_killed
    given = Settings(_env_file=None, **settings)
    months = MonthsInBucket.from_settings(data_dir, given)
    found = months.find(month)
    module.LoadJobs.from_settings(data_dir, given).load(found, is_current=lambda: months.is_current(found))


def _be_killed(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
