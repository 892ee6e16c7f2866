"""The destinations of `--to`: one line each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from flows.destinations.base import Destination
    from flows.settings import Settings

# NOTE: names of packages, not classes: a driver is imported only for a destination that is used.
DESTINATIONS = {
    "duckdb": "flows.destinations.duckdb:DuckDBFile",
    "postgres": "flows.destinations.postgres:Postgres",
    "bigquery": "flows.destinations.bigquery:BigQuery",
    "gcs": "flows.destinations.gcs:Gcs",
}
"""The destinations of `--to`, by name."""

DEFAULT_DESTINATION = "duckdb"


def make_destination(name: str, data_dir: Path, settings: Settings) -> Destination:
    """The destination of that name; nothing is opened yet.

    Every destination class has `from_settings(data_dir, settings)`, which says what is missing.

    Raises:
        KeyError: no such name.
        UsageError: a setting it needs is missing; lists every place that was tried.
    """
    module, _, attribute = DESTINATIONS[name].partition(":")
    made: Destination = getattr(import_module(module), attribute).from_settings(data_dir, settings)
    return made
