"""Where data goes: one package and one line in the registry for each destination."""

from flows.destinations.base import ALL_MONTHS, LEDGER, Destination, Holding, Load, Receipt
from flows.destinations.registry import DESTINATIONS, make_destination

__all__ = [
    "ALL_MONTHS",
    "DESTINATIONS",
    "LEDGER",
    "Destination",
    "Holding",
    "Load",
    "Receipt",
    "make_destination",
]
