"""Where data goes: one package and one line in the registry for each destination."""

from flows.destinations.base import (
    ALL_MONTHS,
    LEDGER,
    REJECTS,
    Destination,
    Holding,
    Load,
    Receipt,
    Warehouse,
)
from flows.destinations.registry import DESTINATIONS, WAREHOUSES, bound_to_this_machine, make_destination

__all__ = [
    "ALL_MONTHS",
    "DESTINATIONS",
    "LEDGER",
    "REJECTS",
    "WAREHOUSES",
    "Destination",
    "Holding",
    "Load",
    "Receipt",
    "Warehouse",
    "bound_to_this_machine",
    "make_destination",
]
