"""`--runner threads`: months as subflows; their runs are created ahead, where there is anything to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from support.cli import small_month
from support.loaded import nested_runs

from flows.parent import etl_parent_flow

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.states import State
    from support.web import Web


def run(web: Web, tmp_path: Path, months: list[int], **options: Any) -> State[Any]:  # noqa: ANN401
    source = web.url + "/{year}-{month:02}.csv.gz"
    return etl_parent_flow("yellow", months, 2020, ["duckdb"], source, tmp_path, return_state=True, **options)


def statuses(state: State[Any]) -> list[str]:
    result = state.result(raise_on_failure=False)
    return [outcome.status for outcome in getattr(result, "summary", result).months]


@pytest.mark.usefixtures("prefect_api_url")
def test_a_month_without_anything_to_do_has_no_run(web: Web, tmp_path: Path) -> None:
    for month in (1, 2, 3):
        web.put(f"/2020-{month:02}.csv.gz", small_month(month))
    first = run(web, tmp_path, [1, 2])
    assert nested_runs(first) == [("yellow-2020-01", "COMPLETED"), ("yellow-2020-02", "COMPLETED")]
    web.put("/2020-02.csv.gz", small_month(20))
    second = run(web, tmp_path, [1, 2, 3])
    assert statuses(second) == ["unchanged", "published", "published"]
    assert nested_runs(second) == [("yellow-2020-02", "COMPLETED"), ("yellow-2020-03", "COMPLETED")]
    forced = run(web, tmp_path, [1], force=True)
    assert (statuses(forced), nested_runs(forced)) == (["published"], [("yellow-2020-01", "COMPLETED")])


@pytest.mark.usefixtures("prefect_api_url")
def test_a_month_that_only_seems_unchanged_is_repaired(web: Web, tmp_path: Path) -> None:
    web.put("/2020-01.csv.gz", small_month(10))
    run(web, tmp_path, [1])
    (parquet,) = tmp_path.glob("yellow/*.parquet")
    content = parquet.read_bytes()
    parquet.write_bytes(content[:100] + b"\xff" + content[101:])  # the footer still tells the old story
    assert statuses(run(web, tmp_path, [1])) == ["unchanged"]
    assert parquet.read_bytes()[:101] == content[:101]


@pytest.mark.usefixtures("prefect_api_url")
def test_a_server_that_refuses_to_create_a_run_is_asked_again(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.put("/2020-01.csv.gz", small_month(10))
    create, refusals = SyncPrefectClient.create_task_run, [503, 503, 429]

    def refuse(client: SyncPrefectClient, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        if refusals:
            request = httpx.Request("POST", "http://127.0.0.1/api/task_runs/")
            raise httpx.HTTPStatusError("busy", request=request, response=httpx.Response(refusals.pop()))
        return create(client, *args, **options)

    monkeypatch.setattr(SyncPrefectClient, "create_task_run", refuse)
    state = run(web, tmp_path, [1])
    assert (statuses(state), refusals) == (["published"], [])
    assert nested_runs(state) == [("yellow-2020-01", "COMPLETED")]


@pytest.mark.usefixtures("prefect_api_url")
def test_a_server_that_creates_no_run_fails_the_month_and_names_it(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.put("/2020-01.csv.gz", small_month(10))

    def refuse(*_: Any, **__: Any) -> Any:  # noqa: ANN401
        request = httpx.Request("POST", "http://127.0.0.1/api/task_runs/")
        raise httpx.HTTPStatusError("no", request=request, response=httpx.Response(409))

    monkeypatch.setattr(SyncPrefectClient, "create_task_run", refuse)
    state = run(web, tmp_path, [1])
    assert statuses(state) == ["failed"]
    (outcome,) = state.result(raise_on_failure=False).summary.months
    assert outcome.error.startswith("yellow 2020-01: ")


@pytest.mark.usefixtures("prefect_api_url")
def test_runs_that_no_month_began_are_cancelled(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for month in range(1, 7):
        web.put(f"/2020-{month:02}.csv.gz", small_month(month))

    def interrupt(*_: Any) -> Any:  # noqa: ANN401
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.runners.threads.run_side_by_side", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(web, tmp_path, list(range(1, 7)), concurrency=1)
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(limit=20)
    assert not [run.name for run in runs if run.state_type and run.state_type.value == "PENDING"]
