"""`--runner threads`: months as tasks, with their steps within them, if there is anything to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.cli import small_month
from support.landing import wait_until
from support.loaded import steps_by_month

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


@pytest.mark.usefixtures("prefect_api_url")
def test_a_month_that_only_seems_unchanged_is_repaired(web: Web, tmp_path: Path) -> None:
    web.put("/2020-01.csv.gz", small_month(10))
    run(web, tmp_path, [1])
    (parquet,) = tmp_path.glob("yellow/*.parquet")
    content = parquet.read_bytes()
    parquet.write_bytes(content[:100] + b"\xff" + content[101:])  # the footer still tells the old story
    assert statuses(run(web, tmp_path, [1])) == ["unchanged"]
    assert parquet.read_bytes()[:101] == content[:101]
