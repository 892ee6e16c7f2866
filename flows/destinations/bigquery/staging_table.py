"""The staging tables into which months are loaded, and the removal of those that killed runs left behind.

The name `yellow_taxi_trips__202101_{machine}_{process}_{random}` tells the run that owns the table. If its
process is gone, the next run on the same machine drops it. Those of other machines expire.
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
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

from flows.destinations.bigquery.connection import REST_LIMITS, BigQuerySession
from flows.destinations.bigquery.errors import translate_errors
from flows.destinations.bigquery.tables import create_table, new_table
from flows.errors import TaxiError

if TYPE_CHECKING:
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

LIFETIME = dt.timedelta(hours=12)  # of a table whose run was killed; the longest month takes minutes
NAME = re.compile(r"(?P<table>\w+)__\d{6}_(?P<machine>[0-9a-f]{8})_(?P<process>\d+)_[0-9a-f]{8}")


def new_name(month: TripMonth) -> str:
    """A name for a staging table of a month that no other run uses.

    Args:
        month: the month to be staged.
    """
    stem = f"{month.dataset.table}__{month.year:04}{month.month:02}"
    return f"{stem}_{_machine()}_{os.getpid()}_{secrets.token_hex(4)}"


@contextlib.contextmanager
def staging_table(
    session: BigQuerySession, month: TripMonth, schema: Sequence[Mapping[str, str]]
) -> Generator[str]:
    """Create a staging table, and drop it at the end of the block.

    It also expires, in case the process is killed.

    Args:
        session: whose dataset exists.
        month: which month is loaded into it.
        schema: its columns, as `Dataset.bigquery_schema` describes them.

    Yields:
        Its name.
    """
    table = new_table(session, new_name(month), schema, "a month being loaded by taxi-etl; expires by itself")
    table.expires = dt.datetime.now(dt.UTC) + LIFETIME
    create_table(session, table)
    try:
        yield table.table_id
    finally:
        # Failing to drop it matters less than the result, or the error, of the block.
        with contextlib.suppress(TaxiError):
            drop(session, table.table_id)


def drop(session: BigQuerySession, name: str) -> None:
    """Drop a table, if it exists.

    Args:
        session: in whose dataset.
        name: without project and dataset.
    """
    with translate_errors():
        session.client.delete_table(f"{session.dataset}.{name}", not_found_ok=True, **REST_LIMITS)


def drop_orphaned_tables(session: BigQuerySession, table: str) -> None:
    """Drop the staging tables that killed runs on this machine left behind.

    Args:
        session: whose dataset exists.
        table: of months of this table.
    """
    with translate_errors():
        tables = session.client.list_tables(session.dataset, page_size=1000, **REST_LIMITS)
        matches = [match for item in tables if (match := NAME.fullmatch(item.table_id))]
    for match in matches:
        is_ours = (match["table"], match["machine"]) == (table, _machine())
        if is_ours and not _is_running(int(match["process"])):
            drop(session, match[0])
            logger.info("dropped %s, which a killed run left", match[0])


def _machine() -> str:
    """Tells machines apart without revealing their names."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or not a process id
        return True
    return True
