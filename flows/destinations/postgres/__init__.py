"""Destination `postgres`: each month is a partition of its dataset's table."""

from typing import TYPE_CHECKING

from flows.runtime import lazy_face

if TYPE_CHECKING:
    from flows.destinations.postgres.address import PostgresAddress
    from flows.destinations.postgres.destination import Postgres
    from flows.destinations.postgres.psql import psql_call

__getattr__ = lazy_face(__name__)

__all__ = [
    "Postgres",
    "PostgresAddress",
    "psql_call",
]
