"""The flow of the deployment `etl-month`: one month on the worker that takes it, for a parent elsewhere.

Its outcome travels to the parent as JSON in an artifact of the run; the Prefect server is the one place that
both reach. An artifact is data: it is validated field by field, and nothing in it is ever executed, as a
pickled result in shared storage would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
)
from prefect.context import FlowRunContext
from pydantic import TypeAdapter, ValidationError

from flows.destinations import Receipt
from flows.errors import Terminal
from flows.month import MonthFailed, MonthOutcome
from flows.month.flow import load_with_tasks
from flows.request import Color, LoadRequest, Month, Ratio, with_parameters_of
from flows.runners.remote import check_source_on_worker
from flows.staging import StagedMonth, StagingOptions
from transforms.trip_month import TripMonth

RECEIPT = "month-receipt"
"""The type of the artifact."""


class ReceiptUnreadable(Terminal):
    """What a worker reported is not a month's outcome."""


@flow(name="month-on-worker", flow_run_name="{color}-{year}-{month:02}")
@with_parameters_of(StagingOptions)
def etl_month_on_worker(
    color: Color,
    year: int,
    month: Month,
    to: Sequence[str],
    source: str = "dtc",
    *,
    force: bool = False,
    max_reject_ratio: Ratio | None = None,
    **staging: Any,  # noqa: ANN401 - as `StagingOptions` declares them
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
        max_reject_ratio: share of the rows that may be rejected; None: the setting.
        staging: see `flows.staging.StagingOptions`.

    Raises:
        MonthFailed: with the outcome, which is left as a receipt too.
    """
    request = LoadRequest.from_parameters(
        **staging,
        color=color,
        year=year,
        months=(month,),
        to=to,
        source=source,
        force=force,
        max_reject_ratio=max_reject_ratio,
    )
    trip_month = TripMonth(color, year, month)
    try:
        check_source_on_worker(trip_month, source)
        outcome = load_with_tasks(trip_month, request)
    except MonthFailed as error:
        store_receipt(error.outcome)
        raise
    store_receipt(outcome)


@cache
def _outcomes() -> TypeAdapter[MonthOutcome]:
    adapter = TypeAdapter(MonthOutcome)
    # Where the dataclasses are declared, these names are imported for the type checker only.
    names = {"TripMonth": TripMonth, "StagedMonth": StagedMonth, "Receipt": Receipt, "Path": Path}
    adapter.rebuild(_types_namespace=names)
    return adapter


def to_receipt(outcome: MonthOutcome) -> str:
    """The outcome as JSON.

    Args:
        outcome: of a month; paths in it are the worker's own.
    """
    return _outcomes().dump_json(outcome).decode()


def from_receipt(receipt: object) -> MonthOutcome:
    """The outcome that a receipt holds.

    Args:
        receipt: JSON, as `to_receipt` made it.

    Raises:
        ReceiptUnreadable: it is not a receipt.
    """
    try:
        return _outcomes().validate_json(receipt if isinstance(receipt, str) else "")
    except ValidationError as error:
        first = error.errors()[0]
        raise ReceiptUnreadable(
            f"the worker's receipt cannot be read ({'.'.join(map(str, first['loc']))}: {first['msg']}); "
            "install the same version of taxi-etl here and on the worker"
        ) from error


def store_receipt(outcome: MonthOutcome) -> None:
    """Store the outcome at the server, where the parent finds it by the id of this flow run.

    Args:
        outcome: what became of the month.
    """
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
    """The outcome that a run stored.

    Args:
        client: of the server.
        flow_run_id: of the worker's run.

    Returns:
        The outcome; None if the run stored none.

    Raises:
        ReceiptUnreadable: it stored something else.
    """
    artifacts = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]), type=ArtifactFilterType(any_=[RECEIPT])
        )
    )
    return from_receipt(artifacts[0].data) if artifacts else None
