"""How the outcome of a month travels from a worker to its parent: as JSON, in an artifact of its run.

The Prefect server is the one place that both reach. An artifact is data: what is read from it is checked
field by field, and nothing in it is ever executed, as a pickled result in shared storage would be.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.client.orchestration import get_client
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
from flows.outcome import MonthOutcome
from flows.staged import StagedMonth
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

RECEIPT = "month-receipt"
"""The type of the artifact."""


class ReceiptUnreadable(Terminal):
    """A worker reported something else than a month's outcome."""


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


def leave_receipt(outcome: MonthOutcome) -> None:
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


def find_receipt(client: SyncPrefectClient, flow_run_id: UUID) -> MonthOutcome | None:
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
