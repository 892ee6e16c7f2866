"""The registry of destinations: one line for each value of `--to`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.destinations.base import Destination
    from flows.settings import Settings

# NOTE: names instead of classes, so that a driver is imported only for a destination that is used.
DESTINATIONS = {
    "duckdb": "flows.destinations.duckdb:DuckDBFile",
    "postgres": "flows.destinations.postgres:Postgres",
    "bigquery": "flows.destinations.bigquery:BigQuery",
    "gcs": "flows.destinations.gcs:Gcs",
    "iceberg": "flows.destinations.iceberg:Iceberg",
}
"""Package and class of each destination, by its name in `--to`."""

WAREHOUSES = ("duckdb", "postgres", "bigquery")
"""Those that answer queries, see `flows.destinations.base.Warehouse`."""


def bound_to_this_machine(name: str, settings: Settings) -> tuple[str, str] | None:
    """Why the workers of other machines cannot use a destination, by its class method `only_here`.

    Args:
        name: a key of `DESTINATIONS`.
        settings: what the destination needs of them.

    Returns:
        What it is, and what to use instead; None if all machines reach it.
    """
    only_here = getattr(_destination_class(name), "only_here", None)
    return only_here(settings) if only_here else None


def make_destination(name: str, data_dir: Path, settings: Settings) -> Destination:
    """Create a destination by its class method `from_settings`; nothing is opened yet.

    Args:
        name: a key of `DESTINATIONS`.
        data_dir: the data directory.
        settings: what the destination needs of them.

    Raises:
        KeyError: no such name.
        UsageError: a setting that it needs is missing; lists every place that was tried.
    """
    destination: Destination = _destination_class(name).from_settings(data_dir, settings)
    return destination


def _destination_class(name: str) -> Any:  # noqa: ANN401 - its class methods are not in the protocol
    module, _, attribute = DESTINATIONS[name].partition(":")
    return getattr(import_module(module), attribute)
