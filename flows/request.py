"""What is asked for, checked before anything starts: colour, months, source, destinations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.blocks import configured_destination
from flows.destinations import DESTINATIONS
from flows.errors import UsageError
from flows.settings import get_settings
from flows.sources import locate_source
from flows.sources.catalogue import check_months
from flows.staging import check_row_transforms
from transforms.datasets import DATASETS
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FIRST_YEAR, LAST_YEAR = 2009, 2099


def checked_months(
    color: str,
    year: int,
    months: Iterable[int],
    *,
    to: Sequence[str],
    source: str,
    data_dir: Path,
    row_transforms: Sequence[str] = (),
) -> list[TripMonth]:
    """The months asked for, in calendar order and each once, if the whole request makes sense.

    Raises:
        UsageError: what is wrong, and the legal values.
    """
    if color not in DATASETS:
        raise UsageError(f"unknown color {color!r}; legal are {', '.join(DATASETS)}")
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise UsageError(f"year {year} is not between {FIRST_YEAR} and {LAST_YEAR}")
    wanted = sorted(set(months))
    if wrong := [month for month in wanted if not 1 <= month <= 12]:
        raise UsageError(f"months are 1 to 12, not {', '.join(map(str, wrong))}")
    if not wanted:
        raise UsageError("no months; give at least one of 1 to 12")
    if not to:
        raise UsageError(f"no destination; legal are {', '.join(DESTINATIONS)}")
    check_row_transforms(row_transforms, color, tuple(DATASETS[color].column))
    trips = [TripMonth(color, year, month) for month in wanted]
    check_months(source, trips)
    for month in trips:
        locate_source(source, month, get_settings())
    for name in to:
        if name not in DESTINATIONS:
            raise UsageError(f"unknown destination {name!r}; legal are {', '.join(DESTINATIONS)}")
        configured_destination(name, data_dir)
    return trips
