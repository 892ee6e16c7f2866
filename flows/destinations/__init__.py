"""Where data goes: one file for each destination, one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from flows.destinations.base import EVER, LEDGER, Destination, Holding, Load, Receipt

if TYPE_CHECKING:
    from pathlib import Path

    from flows.settings import Settings

# NOTE: names of modules, not classes: a driver is imported only for a destination that is used.
DESTINATIONS = {
    "duckdb": "flows.destinations.duckdb_file:DuckDBFile",
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


__all__ = [
    "DEFAULT_DESTINATION",
    "DESTINATIONS",
    "EVER",
    "LEDGER",
    "Destination",
    "Holding",
    "Load",
    "Receipt",
    "make_destination",
]
