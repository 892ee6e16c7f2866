"""What is asked for, checked before anything starts: colour, months, source, destinations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.destinations import DESTINATIONS
from flows.errors import UsageError
from flows.request.read_blocks import configured_destination
from flows.settings import get_settings
from flows.sources import check_months, check_open_ended, locate_source
from flows.staging import check_row_transforms
from transforms.datasets import DATASETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from flows.request.selection import Selection


def check_request(
    color: str,
    selection: Selection,
    *,
    to: Sequence[str],
    source: str,
    data_dir: Path,
    row_transforms: Sequence[str] = (),
) -> None:
    """Refuse a request that makes no sense as a whole; the source is not asked for anything.

    Raises:
        UsageError: what is wrong, and the legal values.
    """
    check_color(color)
    selection.check(color)
    if not to:
        raise UsageError(f"no destination; legal are {', '.join(DESTINATIONS)}")
    check_row_transforms(row_transforms, color, tuple(DATASETS[color].column))
    months = selection.known(color)
    check_months(source, months)
    if selection.is_open_ended:
        check_open_ended(source)
    for month in months:
        locate_source(source, month, get_settings())
    check_destinations(to, data_dir)


def check_color(color: str) -> None:
    """Raise `UsageError` unless there is such a dataset."""
    if color not in DATASETS:
        raise UsageError(f"unknown color {color!r}; legal are {', '.join(DATASETS)}")


def check_destinations(names: Iterable[str], data_dir: Path) -> None:
    """Raise `UsageError` unless all of them exist and are configured."""
    for name in names:
        if name not in DESTINATIONS:
            raise UsageError(f"unknown destination {name!r}; legal are {', '.join(DESTINATIONS)}")
        configured_destination(name, data_dir)
