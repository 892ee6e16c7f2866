"""Where data goes: one package and one line in the registry for each destination."""

from flows.destinations.base import ALL_MONTHS, LEDGER, REJECTS, Destination, Holding, Load, Receipt
from flows.destinations.registry import DEFAULT_DESTINATION, DESTINATIONS, make_destination

__all__ = [
    "ALL_MONTHS",
    "DEFAULT_DESTINATION",
    "DESTINATIONS",
    "LEDGER",
    "REJECTS",
    "Destination",
    "Holding",
    "Load",
    "Receipt",
    "make_destination",
]
