"""Destination `duckdb`: the local warehouse, one file, no server."""

from flows.destinations.duckdb.destination import DuckDBFile

__all__ = [
    "DuckDBFile",
]
