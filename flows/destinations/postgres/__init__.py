"""Destination `postgres`: each month is a partition of its dataset's table."""

from flows.destinations.postgres.address import PostgresAddress
from flows.destinations.postgres.destination import Postgres
from flows.destinations.postgres.psql import psql_call

__all__ = [
    "Postgres",
    "PostgresAddress",
    "psql_call",
]
