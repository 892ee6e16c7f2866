"""The tables into which months are loaded, where nobody looks, and what killed runs left of them.

`yellow_taxi_trips__202101_{machine}_{process}_{random}`: the name says whose it is. One whose process is gone
was left by a killed run, and the next run on the same machine drops it. Those of other machines expire.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import logging
import os
import re
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.destinations.bigquery.connection import CALL_SECONDS, PATIENT
from flows.destinations.bigquery.errors import explained
from flows.destinations.bigquery.tables import create, new_table
from flows.errors import TaxiError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from flows.destinations.bigquery.connection import BigQuerySession
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

LIVES_FOR = dt.timedelta(hours=12)
"""How long a staging table lives whose run was killed; the longest month takes minutes."""

NAMED = re.compile(r"(?P<table>\w+)__\d{6}_(?P<machine>[0-9a-f]{8})_(?P<process>\d+)_[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Staging:
    """One month's staging table.

    Attributes:
        name: without project and dataset.
    """

    name: str

    @classmethod
    def of(cls, month: TripMonth) -> Staging:
        """A new name, which no other run has."""
        stem = f"{month.dataset.table}__{month.year:04}{month.month:02}"
        return cls(f"{stem}_{_machine()}_{os.getpid()}_{secrets.token_hex(4)}")

    def job_id(self, attempt: int) -> str:
        """The job that publishes from it; each attempt that failed for good makes room for another."""
        return f"taxi_etl_{self.name}_{attempt}"


@contextlib.contextmanager
def staging_table(
    session: BigQuerySession, month: TripMonth, schema: Iterable[Mapping[str, str]]
) -> Generator[Staging]:
    """Create a staging table, and drop it at the end of the block, whatever happened.

    It has an expiry in case the process does not come to the end of the block.
    """
    staging = Staging.of(month)
    wanted = new_table(session, staging.name, schema, "a month being loaded by taxi-etl; expires by itself")
    wanted.expires = dt.datetime.now(dt.UTC) + LIVES_FOR
    create(session, wanted)
    try:
        yield staging
    finally:
        # The month is in by now, or the error that is under way matters more; it expires anyway.
        with contextlib.suppress(TaxiError):
            drop(session, staging.name)


def drop(session: BigQuerySession, name: str) -> None:
    """Drop a table, if it is there."""
    with explained():
        session.client.delete_table(
            f"{session.dataset}.{name}", not_found_ok=True, retry=PATIENT, timeout=CALL_SECONDS
        )


def drop_orphaned_tables(session: BigQuerySession, table: str) -> None:
    """Drop the staging tables of a table that killed runs on this machine left."""
    with explained():
        names = [
            str(found.table_id)
            for found in session.client.list_tables(
                session.dataset, page_size=1000, retry=PATIENT, timeout=CALL_SECONDS
            )
        ]
    for name in names:
        named = NAMED.fullmatch(name)
        if (
            named
            and named["table"] == table
            and named["machine"] == _machine()
            and not _is_running(int(named["process"]))
        ):
            drop(session, name)
            logger.info("dropped %s, which a killed run left", name)


def _machine() -> str:
    """Tells machines apart, and does not tell their names."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or no number of a process at all
        return True
    return True
