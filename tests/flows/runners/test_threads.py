"""`--runner threads`: months as tasks, with their steps within them, if there is anything to do."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.cli import small_month
from support.landing import wait_until
from support.loaded import steps_by_month
from support.prefect_server import ask, clean_environment, free_port, running_server

from flows.parent import etl_parent_flow

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.states import State
    from support.web import Web

STEPS = {"extract", "stage", "publish", "quality"}


def run(web: Web, tmp_path: Path, months: list[int], **options: Any) -> State[Any]:  # noqa: ANN401
    source = web.url + "/{year}-{month:02}.csv.gz"
    return etl_parent_flow("yellow", months, 2020, ["duckdb"], source, tmp_path, return_state=True, **options)


def statuses(state: State[Any]) -> list[str]:
    result = state.result(raise_on_failure=False)
    return [outcome.status for outcome in getattr(result, "summary", result).months]


@pytest.mark.usefixtures("prefect_api_url")
def test_a_month_without_anything_to_do_has_no_steps(web: Web, tmp_path: Path) -> None:
    for month in (1, 2, 3):
        web.put(f"/2020-{month:02}.csv.gz", small_month(month))
    first = run(web, tmp_path, [1, 2])
    wait_until(lambda: steps_by_month(first) == {"yellow 2020-01": STEPS, "yellow 2020-02": STEPS})
    web.put("/2020-02.csv.gz", small_month(20))
    second = run(web, tmp_path, [1, 2, 3], concurrency=1)
    # One after the other, so that a month could depend on what the one before it has returned.
    assert statuses(second) == ["unchanged", "published", "published"]
    wait_until(
        lambda: (
            steps_by_month(second)
            == {"yellow 2020-01": set(), "yellow 2020-02": STEPS, "yellow 2020-03": STEPS}
        )
    )
    forced = run(web, tmp_path, [1], force=True)
    assert statuses(forced) == ["published"]
    wait_until(lambda: steps_by_month(forced) == {"yellow 2020-01": STEPS})


def test_a_server_that_prefect_started_will_do(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    environment = clean_environment(
        PREFECT_HOME=str(tmp_path / "prefect"), PREFECT_API_URL=f"{url}/api", TAXI_SYNTHETIC_ROWS="100"
    )
    load = "load --color yellow --year 2021 --months 1 2 3 --source synthetic"
    with running_server(command, url, environment, tmp_path / "server.log"):
        subprocess.run(
            [sys.executable, "-m", "taxi_etl", *load.split()], env=environment, cwd=tmp_path, check=True
        )
        months_and_steps = 3 * (1 + len(STEPS))
        wait_until(lambda: len(ask("POST", f"{url}/api/task_runs/filter", {}).json()) == months_and_steps)
        (run,) = ask("POST", f"{url}/api/flow_runs/filter", {}).json()
        assert run["state_type"] == "COMPLETED"


@pytest.mark.usefixtures("prefect_api_url")
def test_a_month_that_only_seems_unchanged_is_repaired(web: Web, tmp_path: Path) -> None:
    web.put("/2020-01.csv.gz", small_month(10))
    run(web, tmp_path, [1])
    (parquet,) = tmp_path.glob("yellow/*.parquet")
    content = parquet.read_bytes()
    parquet.write_bytes(content[:100] + b"\xff" + content[101:])  # the footer still tells the old story
    assert statuses(run(web, tmp_path, [1])) == ["unchanged"]
    assert parquet.read_bytes()[:101] == content[:101]
