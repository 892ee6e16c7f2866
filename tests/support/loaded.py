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


def nested_runs(parent: State[Any]) -> list[tuple[str, str]]:
    """Name and state of the flow runs that the UI shows below a run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    below = FlowRunFilterParentFlowRunId(any_=[parent.state_details.flow_run_id])
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=below))
    return sorted((run.name, run.state_type.value) for run in runs)
