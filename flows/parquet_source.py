"""A landed Parquet file as a lazy frame under our own names, its good rows apart from its rejects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from flows.errors import SchemaDrift
from flows.rejects import Reject
from transforms.dataset import ColumnsDiffer
from transforms.misfits import as_text, check_types, misfit_reason, misfits, without_zone

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.dataset import Column, Dataset, HeaderMatch


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """A Parquet file's rows.

    Attributes:
        rows: all of them, under the canonical names, in the file's own types.
        columns: the declaration of each.
    """

    rows: pl.LazyFrame
    columns: tuple[Column, ...]

    @property
    def good(self) -> pl.LazyFrame:
        """The rows whose every value fits its declaration."""
        return self.rows.filter(~misfits(self.rows.collect_schema(), self.columns))

    def rejects(self, most: int) -> list[Reject]:
        """The other rows; gives up after one more than `most`.

        The line of a reject is its row in the file, counted from 1; its text is JSON.
        """
        read = self.rows.collect_schema()
        found = (
            self.rows.with_row_index("__row", offset=1)
            .filter(misfits(read, self.columns))
            .head(most + 1)
            .select("__row", as_text(read), misfit_reason(read, self.columns).alias("__reason"))
            .collect(engine="streaming")
        )
        return [Reject(*row) for row in found.iter_rows()]


def read_parquet(path: Path, dataset: Dataset, match: HeaderMatch) -> ParquetSource:
    """Open a Parquet file whose header has been matched.

    Raises:
        SchemaDrift: a column has a type that cannot become the declared one.
    """
    columns = dataset.columns_of(match)
    scan = pl.scan_parquet(path, glob=False)
    names = dict(zip(scan.collect_schema().names(), match.columns, strict=True))
    rows = scan.rename(names)
    try:
        check_types(rows.collect_schema(), columns)
    except ColumnsDiffer as error:
        raise SchemaDrift(f"{error} (file {path.name})") from error
    return ParquetSource(without_zone(rows), columns)
