"""Whether a month is there already."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from flows.destinations import Destination
from flows.errors import TaxiError
from flows.month.ahead import landed_ahead
from flows.request import configured_destination
from flows.runtime import Layout
from flows.sources import LandedFile
from flows.staging import find_staged

if TYPE_CHECKING:
    from flows.request import LoadRequest
    from flows.staging import StagedMonth
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)

Destinations: TypeAlias = Sequence[Callable[[], Destination]]
"""Each makes a destination, which may raise if it is not configured on this machine."""


def destinations_of(request: LoadRequest) -> Destinations:
    """One factory for each destination of a request; repeated names count once.

    Args:
        request: what is asked for.
    """
    return [partial(configured_destination, name, request.directory) for name in dict.fromkeys(request.to)]


def is_held(destination: Destination, staged: StagedMonth) -> bool:
    """Whether a destination has a staged month, by its ledger.

    Args:
        destination: the one to ask.
        staged: the month.

    Raises:
        TaxiError: the ledger cannot be read.
    """
    load = destination.loaded(staged.month)
    return load is not None and load.is_of(staged.source_sha256, staged.schema_version, staged.row_transforms)


def is_everywhere(staged: StagedMonth, destinations: Destinations) -> bool:
    """Whether all destinations have a staged month, by their ledgers; one that cannot be read counts as no.

    Args:
        staged: the month.
        destinations: those to ask; if there are none, the month is nowhere.
    """
    try:
        return bool(destinations) and all(is_held(make(), staged) for make in destinations)
    except TaxiError as error:  # its publishing will say so
        logger.debug("%s: a ledger could not be read", staged.month.label, exc_info=error)
        return False


def seems_unchanged(month: TripMonth, request: LoadRequest) -> bool:
    """Whether a month whose file lands ahead has nothing to do, as far as a look without a lock tells.

    Args:
        month: which one.
        request: what is asked for.
    """
    landed = landed_ahead(month).file
    if request.force or not isinstance(landed, LandedFile) or landed.fetched:
        return False
    path = Layout(request.directory).staged(month.color) / f"{month.stem}.parquet"
    staged = find_staged(path, landed, month, request.staging, verify=False)
    return staged is not None and is_everywhere(staged, destinations_of(request))
