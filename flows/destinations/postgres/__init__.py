"""Destination `postgres`: each month is a partition of its dataset's table."""

from flows.destinations.postgres.address import PostgresAddress
from flows.destinations.postgres.destination import Postgres

__all__ = [
    "Postgres",
    "PostgresAddress",
]
