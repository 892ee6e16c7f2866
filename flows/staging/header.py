"""Checks that the columns are there: those a dataset declares, and those a row transform needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from flows.errors import SchemaDrift, UsageError
from transforms.cleaning import ROW_TRANSFORMS
from transforms.dataset import ColumnsDiffer, HeaderMatch

if TYPE_CHECKING:
    from flows.sources import LandedFile
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)


def check_row_transforms(names: Sequence[str], color: str, columns: Sequence[str]) -> None:
    """Refuse row transforms that do not exist, or that need a column the dataset does not have.

    Args:
        names: should be keys of `ROW_TRANSFORMS`.
        color: the dataset's name.
        columns: the names of its columns.

    Raises:
        UsageError: names the legal values.
    """
    for name in names:
        if name not in ROW_TRANSFORMS:
            raise UsageError(f"unknown transform {name!r}; legal are {', '.join(ROW_TRANSFORMS)}")
        if "passenger_count" not in columns:
            raise UsageError(f"transform {name} needs passenger_count, which {color} does not have")


def match_header(landed: LandedFile, month: TripMonth, *, allow_new: bool) -> HeaderMatch:
    """Find the dataset's columns among the file's, and log those that are missing unexpectedly.

    Args:
        landed: the verified source file.
        month: what it holds.
        allow_new: keep undeclared columns instead of refusing them.

    Returns:
        The canonical names, and what differs from the declaration.

    Raises:
        SchemaDrift: the columns are not the declared ones.
    """
    header = landed.header
    if landed.kind == "parquet":
        header = tuple(pq.read_schema(landed.path).names)
    else:  # it may end with commas, as the lines of some files do
        while header and not header[-1].strip():
            header = header[:-1]
    try:
        match = month.dataset.match_header(header, allow_new=allow_new)
    except ColumnsDiffer as error:
        raise SchemaDrift(f"{error} (file {landed.path.name})") from error
    expected = month.dataset.expected_missing(match.missing, month.iso)
    if unexpected := [name for name in match.missing if name not in expected]:
        logger.info("%s: filled with null, not in the file: %s", month.label, ", ".join(unexpected))
    return match
