"""Where data goes: one package and one line in the registry for each destination."""

from flows.destinations.base import ALL_MONTHS, LEDGER, REJECTS, Destination, Holding, Load, Receipt
from flows.destinations.registry import DESTINATIONS, bound_to_this_machine, make_destination

__all__ = [
    "ALL_MONTHS",
    "DESTINATIONS",
    "LEDGER",
    "REJECTS",
    "Destination",
    "Holding",
    "Load",
    "Receipt",
    "bound_to_this_machine",
    "make_destination",
]
