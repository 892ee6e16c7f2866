"""How a file is to be staged, and what is legal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.errors import UsageError
from transforms.row_transforms import ROW_TRANSFORMS


@dataclass(frozen=True, slots=True)
class StagingOptions:
    """How a file is staged, and what may be odd about it.

    Attributes:
        row_transforms: names from `transforms.row_transforms.ROW_TRANSFORMS`, in order.
        allow_new_columns: keep undeclared columns as text.
        max_reject_ratio: share of the rows that may be rejected, 0 to 1.
        accept: measures from `transforms.gates.MEASURES` that do not keep the month from being published.
    """

    row_transforms: tuple[str, ...] = ()
    allow_new_columns: bool = False
    max_reject_ratio: float = 0.01
    accept: tuple[str, ...] = ()

    def most_rejects(self, source_rows: int) -> int:
        """Compute how many rows may be rejected.

        Args:
            source_rows: rows in the source.

        Returns:
            A number of rows, rounded down.
        """
        return int(round(source_rows * self.max_reject_ratio, 6))  # 100 * 0.29 is 28.999999999999996


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
