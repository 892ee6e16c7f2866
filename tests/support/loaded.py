"""What a run has loaded into Postgres and recorded on the Prefect server, so that runs can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flows.settings import _read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.states import State
    from support.postgres import Database


@pytest.fixture
def into_postgres(postgres: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of this process: the Postgres of the tests, and small synthetic months."""
    monkeypatch.setenv("TAXI_POSTGRES_URL", postgres.url)
    monkeypatch.setenv("TAXI_SYNTHETIC_ROWS", "500")
    _read_settings.cache_clear()
    yield
    _read_settings.cache_clear()


def table_digest(postgres: Database, table: str = "yellow_taxi_trips") -> list[tuple[Any, ...]]:
    """For each month the number of rows and a checksum over all their values, independent of their order."""
    return postgres.rows(
        "SELECT file_month, count(*), md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))) "
        f"FROM {table} t GROUP BY file_month ORDER BY file_month"
    )


def ledger(postgres: Database) -> list[tuple[Any, ...]]:
    """The ledger in calendar order: month, rows loaded, rows in the source, rows rejected, checksum."""
    return postgres.rows(
        "SELECT file_month, row_count, source_rows, rejected_rows, source_sha256 FROM taxi_loads "
        "ORDER BY dataset, file_month"
    )


def steps_by_month(parent: State[Any]) -> dict[str, set[str]]:
    """The completed months of a run as the UI shows them: a task run each, and the tasks nested in it.

    A task run that depends on another one, besides the one that it is nested in, is an error.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[parent.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_task_runs(flow_run_filter=of_run) if run.state_name == "Completed"]
    steps: dict[str, set[str]] = {run.name: set() for run in runs if not run.task_inputs.get("__parents__")}
    names = {run.id: run.name for run in runs}
    for run in runs:
        assert not [name for name, inputs in run.task_inputs.items() if inputs and name != "__parents__"], run
        for month in run.task_inputs.get("__parents__", ()):
            if month.id in names:  # else it is not completed yet
                steps[names[month.id]].add(run.name.partition(" ")[0])
    return steps


def nested_runs(parent: State[Any]) -> list[tuple[str, str]]:
    """Name and state of the flow runs that the UI shows below a run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    below = FlowRunFilterParentFlowRunId(any_=[parent.state_details.flow_run_id])
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=below))
    return sorted((run.name, run.state_type.value) for run in runs)
