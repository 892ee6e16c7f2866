"""`--runner dask` on a real scheduler with two worker processes, into a real Postgres."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support.cli import small_month
from support.dask_cluster import LONGEST_WAIT_SECONDS
from support.loaded import ledger, nested_runs, table_digest
from support.prefect_server import free_port

from flows.parent import etl_parent_flow
from flows.runners.dask import ClusterUnreachable

if TYPE_CHECKING:
    from pathlib import Path

    from support.dask_cluster import DaskCluster
    from support.postgres import Database
    from support.web import Web

SIX = [1, 2, 3, 4, 5, 6]

pytestmark = [pytest.mark.usefixtures("into_postgres"), pytest.mark.xdist_group("workers of dask")]


def test_six_months_on_two_workers_are_those_of_a_local_run(
    cluster: DaskCluster, postgres: Database, tmp_path: Path
) -> None:
    call = {"color": "yellow", "months": SIX, "to": ["postgres"], "source": "synthetic"}
    here = etl_parent_flow(**call, data_dir=tmp_path / "here")
    expected, ledger_here = table_digest(postgres), ledger(postgres)
    postgres.execute("DROP TABLE yellow_taxi_trips CASCADE", "DELETE FROM taxi_loads")

    summary = etl_parent_flow(
        **call, data_dir=tmp_path / "parent", runner="dask", dask_address=cluster.address
    )

    assert table_digest(postgres) == expected
    assert ledger(postgres) == ledger_here
    first, second = (worker.staged() for worker in cluster.workers)
    assert first | second == {f"2021-{month:02}" for month in SIX}
    assert not first & second
    assert first
    assert second
    assert not (tmp_path / "parent" / "yellow").exists()
    for outcome, local in zip(summary.months, here.months, strict=True):
        assert outcome.month == local.month
        assert outcome.staged
        assert local.staged
        assert outcome.staged.rows == local.staged.rows == outcome.receipts["postgres"].rows == 500
        assert outcome.status == "published"
        assert outcome.quality == local.quality


def test_a_worker_that_is_killed_costs_a_retry_and_not_a_month(
    cluster: DaskCluster, postgres: Database, web: Web, tmp_path: Path
) -> None:
    for month in SIX:
        web.put(f"/2020-{month:02}.csv.gz", small_month(100 + month))
    web.put("/2020-06.csv.gz", b"<html>Sorry</html>")
    web.misbehave("/2020-02.csv.gz", stall_after=200)

    def kill_whoever_fetches() -> None:
        until = time.monotonic() + LONGEST_WAIT_SECONDS
        while not (busy := [worker for worker in cluster.alive if worker.is_fetching("2020-02")]):
            if time.monotonic() > until:
                break  # what the months say is what went wrong
            time.sleep(0.02)
        web.heal()
        [victim] = busy
        victim.kill()

    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill_whoever_fetches)
        state = etl_parent_flow(
            *("yellow", SIX, 2020, ["postgres"], web.url + "/{year}-{month:02}.csv.gz", tmp_path),
            runner="dask",
            dask_address=cluster.address,
            return_state=True,
        )
    killed.result(0)
    assert len(cluster.alive) == 1
    summary = state.result(raise_on_failure=False).summary
    assert [outcome.status for outcome in summary.months] == ["published"] * 5 + ["failed"]
    assert "HTML" in summary.months[5].error  # what the worker says of a failure arrives as it is
    assert [row[1] for row in ledger(postgres)] == [101, 102, 103, 104, 105]
    assert nested_runs(state) == [
        ("yellow-2020-01", "COMPLETED"),
        ("yellow-2020-02", "COMPLETED"),
        ("yellow-2020-02", "CRASHED"),
        ("yellow-2020-03", "COMPLETED"),
        ("yellow-2020-04", "COMPLETED"),
        ("yellow-2020-05", "COMPLETED"),
        ("yellow-2020-06", "FAILED"),
    ]


def test_a_path_that_the_worker_has_not_got_names_the_worker(
    cluster: DaskCluster, postgres: Database, tmp_path: Path
) -> None:
    state = etl_parent_flow(
        *("yellow", [1], 2020, ["postgres"], str(tmp_path / "{year}-{month:02}.csv"), tmp_path),
        runner="dask",
        dask_address=cluster.address,
        return_state=True,
    )
    [outcome] = state.result(raise_on_failure=False).summary.months
    assert outcome.error.startswith("yellow 2020-01: the worker on ")
    assert "has no file" in outcome.error
    assert str(tmp_path / "2020-01.csv") in outcome.error


def test_a_scheduler_that_does_not_answer_is_named(
    prefect_api_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.runners.dask.CONNECT_SECONDS", 1)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(ClusterUnreachable, match=rf"no Dask scheduler answers at {address}.*--dask-address"):
        etl_parent_flow(
            *("yellow", [1], 2021, ["postgres"], "synthetic", tmp_path), runner="dask", dask_address=address
        )
