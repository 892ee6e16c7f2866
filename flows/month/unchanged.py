"""Whether there is anything to do for a month."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flows.errors import TaxiError
from flows.month.ahead import landed_ahead
from flows.request import configured_destination
from flows.runtime import Layout
from flows.sources import LandedFile
from flows.staging import read_staged, schema_version

if TYPE_CHECKING:
    from flows.request import LoadRequest
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)


def seems_unchanged(month: TripMonth, request: LoadRequest) -> bool:
    """Whether a month whose file lands ahead is everywhere already, as far as metadata and ledgers tell.

    A quick look, which verifies nothing and holds no lock.

    Args:
        month: which one.
        request: what is asked for.
    """
    landed = landed_ahead(month).file
    if request.force or not isinstance(landed, LandedFile) or landed.fetched:
        return False
    version = (landed.sha256, schema_version(month), request.staging.row_transforms)
    staged = read_staged(Layout(request.directory).staged(month.color) / f"{month.stem}.parquet", month)
    if not staged or (staged.source_sha256, staged.schema_version, staged.row_transforms) != version:
        return False
    try:
        loads = [configured_destination(name, request.directory).loaded(month) for name in request.to]
    except TaxiError as error:  # its publishing will say so
        logger.debug("%s: a ledger could not be read", month.label, exc_info=error)
        return False
    return all(load and load.is_of(*version) for load in loads)
