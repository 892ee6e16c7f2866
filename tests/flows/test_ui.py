"""The UI in a real browser: a run with its months, their artifacts, a deployment with its schedule.

With TAXI_TEST_PICTURES=docs/images it takes the pictures of the documentation (`make pictures`).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.deployed import ETL, ROOT

if TYPE_CHECKING:
    from support.browser import Browser
    from support.deployed import Deployed

pytestmark = pytest.mark.xdist_group("deployments")

MONTHS = ("green-2020-04", "green-2020-05", "green-2020-06")


@pytest.fixture(autouse=True)
def nothing_from_elsewhere(browser: Browser) -> Any:  # noqa: ANN401 - a generator
    """The UI is in Prefect's wheel: it needs nothing from any other machine."""
    browser.remote_urls.clear()
    yield
    assert browser.remote_urls == []


def click(browser: Browser, tab: str) -> None:
    clicked = browser.evaluate(
        f"(() => {{ const tab = [...document.querySelectorAll('.p-tab')]"
        f".find(each => each.innerText.trim() === {tab!r}); tab?.click(); return Boolean(tab) }})()"
    )
    assert clicked, f"no tab {tab} but: {browser.shown()}"


def picture(browser: Browser, name: str) -> None:
    """Keep what is seen, if pictures are asked for."""
    if where := os.environ.get("TAXI_TEST_PICTURES"):
        time.sleep(2)  # what is drawn moves into its place
        browser.picture(ROOT / where / f"{name}.png")


def test_the_page_of_a_run_shows_its_months(deployed: Deployed, browser: Browser, two_runs: Any) -> None:  # noqa: ANN401
    run, _ = two_runs
    browser.show(
        f"{deployed.ui}/runs/flow-run/{run['id']}", "green-2020", "Completed", "etl-parent", "Task Runs"
    )
    click(browser, "Task Runs")
    browser.wait_for(*(month.replace("green-", "green ") for month in MONTHS))
    picture(browser, "run")


def test_the_page_of_a_month_shows_its_artifacts(deployed: Deployed, browser: Browser, two_runs: Any) -> None:  # noqa: ANN401
    month = deployed.months_of(two_runs[0]["id"], 3)[0]
    browser.show(f"{deployed.ui}/runs/task-run/{month['id']}", month["name"], "Completed", "Artifacts")
    click(browser, "Artifacts")
    browser.wait_for(*(f"{kind}-{MONTHS[0]}" for kind in ("progress", "load", "quality", "data")))
    run = two_runs[0]["id"]
    browser.show(f"{deployed.ui}/runs/flow-run/{run}", "event=published dataset=green month=2020-04")


def test_the_artifacts_page_has_a_table_that_tells_the_way_of_the_rows(
    deployed: Deployed,
    browser: Browser,
    two_runs: Any,  # noqa: ANN401
) -> None:
    browser.show(f"{deployed.ui}/artifacts", "TABLE", "load-")  # the newest of all tests' artifacts
    shown = browser.show(f"{deployed.ui}/artifacts/key/load-{MONTHS[0]}", "green 2020-04: published")
    artifacts = deployed.find("artifacts", artifacts={"key": {"any_": [f"load-{MONTHS[0]}"]}})
    browser.show(
        f"{deployed.ui}/artifacts/artifact/{artifacts[0]['id']}", "synthetic://green/2020-04", "published"
    )
    assert f"load-{MONTHS[0]}" in shown


def test_the_page_of_a_deployment_shows_its_schedule_and_its_limit(
    deployed: Deployed,
    browser: Browser,
    two_runs: Any,  # noqa: ANN401
) -> None:
    page = f"{deployed.ui}/deployments/deployment/{deployed.deployment(ETL)['id']}"
    shown = browser.show(page, "Parameterized ETL", "Schedules", "Every hour", "green-2020", "Ready")
    assert "Concurrency Limit\n1" in shown
    assert "flows.parent.etl_parent_flow" in shown
    assert browser.evaluate("document.querySelector('[role=switch]').ariaChecked") == "false"
    picture(browser, "deployment")
