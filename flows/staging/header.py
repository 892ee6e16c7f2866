"""Checks that a file has the columns that its dataset declares."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from flows.errors import SchemaDrift
from transforms.dataset import ColumnsDiffer, HeaderMatch

if TYPE_CHECKING:
    from flows.sources import LandedFile
    from transforms.trip_month import TripMonth

logger = logging.getLogger(__name__)


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
    if match.has_row_number:
        logger.info("%s: the first column has no name; taken for row numbers and left out", month.label)
    expected = month.dataset.expected_missing(match.missing, month.iso)
    if unexpected := [name for name in match.missing if name not in expected]:
        logger.info("%s: filled with null, not in the file: %s", month.label, ", ".join(unexpected))
    return match


ALIKE = 0.8  # share of two names' letters that are the same, in order


def check_declared_filled(match: HeaderMatch, month: TripMonth, empty: Sequence[str]) -> None:
    """Refuse an undeclared column that probably is a declared one, which then has no value in any row.

    Args:
        match: the file's header.
        month: what the file holds.
        empty: columns of the staged file without a value in any row.

    Raises:
        SchemaDrift: the names are alike. If none is, a warning names the empty columns.
    """
    dataset, undeclared = month.dataset, month.dataset.undeclared(match.new)
    unexpected = [name for name in empty if name in dataset.column]
    expected = dataset.expected_missing(unexpected, month.iso)
    letters = {_letters(name): name for name in unexpected if name not in expected}
    if not undeclared or not letters:
        return
    for name in undeclared:
        if alike := difflib.get_close_matches(_letters(name), letters, n=1, cutoff=ALIKE):
            column = letters[alike[0]]
            raise SchemaDrift(
                f"{column} would have no value in any row, and the undeclared column {name} may be the same "
                f"one under another name; add the name to the aliases of {column} in "
                f"transforms/datasets/{month.color}.py, or rename the column in the file"
            )
    logger.warning(
        "%s: no row has a value for %s; undeclared columns of the file are carried along as text: %s",
        month.label,
        ", ".join(letters.values()),
        ", ".join(undeclared),
    )


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
