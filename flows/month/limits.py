"""A limit on how many months load into one destination at once, on however many machines: Prefect's own.

It is a global concurrency limit at the Prefect server; without one, nothing is limited:

    prefect gcl create taxi-postgres --limit 4
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from prefect.concurrency.sync import concurrency
from prefect.context import SyncClientContext
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

if TYPE_CHECKING:
    from collections.abc import Generator

LIMITED = {"postgres": "taxi-postgres"}
"""The limit's name for each destination that has one. The clouds' own services need none."""

LEASE_SECONDS = 60
"""A slot is free again so long after the process that held it has died; the least that Prefect takes."""


@contextlib.contextmanager
def concurrency_slot(destination: str) -> Generator[None]:
    """Hold one slot of the destination's limit, waiting for it, for as long as the block lasts.

    Without a server of one's own nobody can have set a limit, and nothing is asked.
    """
    limit = LIMITED.get(destination)
    if limit and PREFECT_API_URL.value() and _is_set(limit):
        with concurrency(limit, lease_duration=LEASE_SECONDS):
            yield
    else:
        yield


def _is_set(limit: str) -> bool:
    # Asked for, because `concurrency` writes a warning into the log of every month if there is none.
    with SyncClientContext.get_or_create() as open_connection:
        try:
            return open_connection.client.read_global_concurrency_limit_by_name(limit).active
        except ObjectNotFound:
            return False
