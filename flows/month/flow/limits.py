"""Limits how many months load into one destination at once, across machines.

This is a global concurrency limit of the Prefect server. Without such a limit, nothing is limited:

    prefect gcl create taxi-postgres --limit 4
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from prefect.concurrency.sync import concurrency
from prefect.context import SyncClientContext
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from flows.runtime import is_temporary_server

LIMITED = {"postgres": "taxi-postgres"}
"""Names of the limits, by destination; cloud services queue by themselves and need none."""

LEASE_SECONDS = 60
"""How long after the death of its process a slot is freed; Prefect's minimum."""


@contextlib.contextmanager
def concurrency_slot(destination: str) -> Generator[None]:
    """Hold a slot of the destination's limit for as long as the block lasts; waits until one is free.

    A temporary server cannot have a limit, so there it is not looked up.

    Args:
        destination: its name.
    """
    limit = LIMITED.get(destination)
    if limit and not is_temporary_server(PREFECT_API_URL.value()) and _is_set(limit):
        with concurrency(limit, lease_duration=LEASE_SECONDS):
            yield
    else:
        yield


def _is_set(limit: str) -> bool:
    # Checked, because `concurrency` logs a warning for every month if the limit does not exist.
    with SyncClientContext.get_or_create() as context:
        try:
            return context.client.read_global_concurrency_limit_by_name(limit).active
        except ObjectNotFound:
            return False
