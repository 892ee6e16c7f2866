"""The flow of the deployment `etl-month`: one month on the worker that takes it, for a parent elsewhere.

Its outcome travels to the parent as JSON in an artifact of the run. The Prefect server is the one place that
both reach. An artifact is data: what is read from it is checked field by field, and nothing in it is ever
executed, as a pickled result in shared storage would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
)
from prefect.context import FlowRunContext
from pydantic import Field, TypeAdapter, ValidationError

from flows.destinations import Receipt
from flows.errors import Terminal
from flows.month import MonthFailed, MonthOutcome, etl_month
from flows.runners.remote import check_source_on_worker
from flows.settings import get_settings
from flows.staging import StagedMonth, StagingOptions
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

RECEIPT = "month-receipt"
"""The type of the artifact."""


class ReceiptUnreadable(Terminal):
    """A worker reported something else than a month's outcome."""


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

    The outcome is left at the Prefect server as a receipt.

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
        check_source_on_worker(trips, source)
        # Its body, in this flow run: a subflow would add a level and a second to every month.
        outcome: MonthOutcome = etl_month.fn(
            color, year, month, tuple(to), source, settings.data_dir, force=force, options=options
        )
    except MonthFailed as error:
        store_receipt(error.outcome)
        raise
    store_receipt(outcome)


@cache
def _outcomes() -> TypeAdapter[MonthOutcome]:
    made = TypeAdapter(MonthOutcome)
    # Where the dataclasses are declared, these names are imported for the type checker only.
    names = {"TripMonth": TripMonth, "StagedMonth": StagedMonth, "Receipt": Receipt, "Path": Path}
    made.rebuild(_types_namespace=names)
    return made


def to_receipt(outcome: MonthOutcome) -> str:
    """The outcome as JSON; paths in it are the worker's own."""
    return _outcomes().dump_json(outcome).decode()


def from_receipt(receipt: object) -> MonthOutcome:
    """The outcome again.

    Raises:
        ReceiptUnreadable: it is not one.
    """
    try:
        return _outcomes().validate_json(receipt if isinstance(receipt, str) else "")
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ReceiptUnreadable(
            f"the worker's receipt cannot be read ({'.'.join(map(str, wrong['loc']))}: {wrong['msg']}); "
            "install the same version of taxi-etl here and on the worker"
        ) from error


def store_receipt(outcome: MonthOutcome) -> None:
    """Leave the outcome where the parent finds it, by the id of this flow run."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    with get_client(sync_client=True) as client:
        client.create_artifact(
            ArtifactCreate(
                key=f"receipt-{outcome.month.color}-{outcome.month.iso}",
                type=RECEIPT,
                data=to_receipt(outcome),
                description=f"{outcome.month.label}: {outcome.error or outcome.status}",
                flow_run_id=run.id if run else None,
            )
        )


def read_receipt(client: SyncPrefectClient, flow_run_id: UUID) -> MonthOutcome | None:
    """The outcome that a run has left; None if it has left none.

    Raises:
        ReceiptUnreadable: it has left something else.
    """
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]), type=ArtifactFilterType(any_=[RECEIPT])
        )
    )
    return from_receipt(found[0].data) if found else None
