"""The page of a month: its progress moves while it runs, and what cannot be written harms nobody."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow
from prefect.context import SyncClientContext
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.prefect_server import ask

from flows.month import MonthFailed, MonthOutcome
from flows.month.flow import artifacts
from flows.month.flow.artifacts import load_table, month_page
from flows.month.flow.assets import source_asset, staged_asset, table_asset
from flows.runtime import reporter
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable

MONTH = TripMonth("fhv", 2020, 9)


@pytest.fixture
def bar(prefect_api_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], dict[str, Any]]:
    """Waits until the month's progress artifact is at a percentage."""
    monkeypatch.setattr(artifacts, "EVERY_SECONDS", 0.0)

    def wait(percent: float) -> dict[str, Any]:
        body = {"artifacts": {"key": {"any_": [f"progress-fhv-{MONTH.iso}"]}}, "sort": "CREATED_DESC"}
        bars: list[dict[str, Any]] = []
        for _ in range(100):
            bars = ask("POST", f"{prefect_api_url}/artifacts/filter", body).json()
            if bars and bars[0]["data"] == percent:
                return bars[0]
            time.sleep(0.1)
        pytest.fail(f"the bar is not at {percent} but: {bars}")

    return wait


def test_progress_moves_while_the_month_runs_and_stops_where_it_failed(bar: Any) -> None:  # noqa: ANN401
    @flow(name="page")
    def run() -> None:
        with month_page(MONTH, ("duckdb", "postgres"), Path("data")):
            bar(0)
            reporter(MONTH.label, "download")(50, 100)
            bar(12.5)
            reporter(MONTH.label, "download")(100, 100)
            reporter("fhv 2020-10", "stage")(100, 100)
            bar(25)
            reporter(MONTH.label, "stage")(200, 200)
            assert bar(50)["description"] == "fhv 2020-09: stage"
            raise MonthFailed("fhv 2020-09: no room", MonthOutcome(MONTH, error="fhv 2020-09: no room"))

    with pytest.raises(MonthFailed):
        run()
    assert bar(50)["description"] == "fhv 2020-09: no room"
    reporter(MONTH.label, "duckdb")(1, 1)  # nobody follows any more
    bar(50)


def test_a_page_that_cannot_be_written_harms_nobody_and_says_so_once(
    prefect_api_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    @flow(name="page")
    def run() -> str:
        with (
            SyncClientContext({}),  # not the connection of the flow run, which is open
            temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
            month_page(MONTH, ("duckdb",), Path("data")),
        ):
            reporter(MONTH.label, "download")(1, 1)
        return "done"

    assert run() == "done"
    messages = [
        record.getMessage() for record in caplog.records if record.name == "flows.month.flow.artifacts"
    ]
    assert messages == ["fhv 2020-09: its page in the UI is not complete (ConnectError)"]


def test_outside_a_flow_run_nothing_is_shown() -> None:
    with month_page(MONTH, ("duckdb",), Path("data")) as page:
        reporter(MONTH.label, "download")(1, 1)
    assert page._context is None


def test_a_month_that_got_nowhere_says_why() -> None:
    assert load_table(MonthOutcome(MONTH, error="404")) == [
        {"step": "source", "what": "fhv 2020-09", "rows": None, "status": "404", "seconds": ""}
    ]


def test_assets_have_no_secrets_and_keys_that_prefect_takes() -> None:
    signed = "https://user:secret@host/a file[1].csv?key=secret"
    assert source_asset(signed).key == "https://host/a_file_1_.csv"
    assert staged_asset(Path("/my data/a.parquet"), MONTH).key == "file:///my_20data/a.parquet"
    assert table_asset("postgres", MONTH).key == "postgres://fhv_taxi_trips"
    assert len(source_asset(f"https://host/{'x' * 900}").key) == 512
