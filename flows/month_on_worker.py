"""The flow of the deployment `etl-month`: one month on the worker that takes it, for a parent elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from flows.elsewhere import check_source_is_here
from flows.month import etl_month
from flows.month_receipts import leave_receipt
from flows.outcome import MonthFailed, MonthOutcome
from flows.settings import get_settings
from flows.staging import StagingOptions
from transforms.trip_month import TripMonth


@flow(name="month-on-worker", flow_run_name="{color}-{year}-{month:02}")
def etl_month_on_worker(
    color: Literal["yellow", "green", "fhv", "fhvhv"],
    year: int,
    month: Annotated[int, Field(ge=1, le=12)],
    to: Sequence[str],
    source: str = "dtc",
    *,
    force: bool = False,
    allow_new_columns: bool = False,
    row_transforms: Sequence[str] = (),
    max_reject_ratio: Annotated[float, Field(ge=0, le=1)] | None = None,
) -> None:
    """Extract, stage and publish one month with this worker's own settings and data directory.

    The outcome is left at the Prefect server as a receipt; see `flows.month_receipts`.

    Args:
        color: dataset.
        year: of the month.
        month: 1 to 12.
        to: destinations by name; those that other machines can reach.
        source: `dtc`, `tlc`, `synthetic` or a template.
        force: fetch, stage and publish even what is unchanged.
        allow_new_columns: carry undeclared columns along as text.
        row_transforms: names from `transforms.cleaning.ROW_TRANSFORMS`.
        max_reject_ratio: share of the rows that may be rejected; None: the setting.

    Raises:
        MonthFailed: with the outcome, which is left as a receipt too.
    """
    settings = get_settings()
    ratio = settings.max_reject_ratio if max_reject_ratio is None else max_reject_ratio
    options = StagingOptions(tuple(row_transforms), allow_new_columns, ratio)
    trips = TripMonth(color, year, month)
    try:
        check_source_is_here(trips, source)
        # Its body, in this flow run: a subflow would add a level and a second to every month.
        outcome: MonthOutcome = etl_month.fn(
            color, year, month, tuple(to), source, settings.data_dir, force=force, options=options
        )
    except MonthFailed as error:
        leave_receipt(error.outcome)
        raise
    leave_receipt(outcome)
