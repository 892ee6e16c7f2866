"""Backfills and the newest months: `--since`, `--until`, `--latest`, as options and as flow parameters."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from prefect.exceptions import ParameterTypeError
from prefect.testing.cli import invoke_and_assert
from support.cli import Cli, by_month, small_month
from support.prefect_server import ask
from support.trips import warehouse_rows

from flows.errors import UsageError
from flows.parent import etl_parent_flow
from transforms.trip_month import TripMonth, months_between

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.web import Web

pytestmark = pytest.mark.xdist_group("a deployment")

LEDGER = "SELECT strftime(file_month, '%Y-%m'), row_count FROM taxi_loads ORDER BY ALL"


def put(web: Web, *rows: tuple[str, int]) -> str:
    for iso, count in rows:
        web.put(f"/{iso}.csv.gz", small_month(count))
    return web.url + "/{year}-{month:02}.csv.gz"


def downloads(web: Web) -> int:
    return sum(seen.body_bytes > 1 for seen in web.requests if seen.status in (200, 206))


def latest_run_name(api_url: str) -> str:
    body = {
        "sort": "START_TIME_DESC",
        "flows": {"name": {"any_": ["etl-parent"]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED"]}}},
        "limit": 1,
    }
    [run] = ask("POST", f"{api_url}/flow_runs/filter", body).json()
    return run["name"]


def test_a_backfill_over_the_turn_of_a_year_goes_on_by_itself(
    cli: Cli, web: Web, prefect_api_url: str
) -> None:
    source = put(web, ("2020-12", 6), ("2021-02", 8))
    call = ("--color", "yellow", "--since", "2020-12", "--until", "2021-02", "--source", source)
    first = cli(*call)
    assert first.code == 1
    assert latest_run_name(prefect_api_url) == "yellow-2020-12-to-2021-02"
    assert first.summary["year"] is None
    assert by_month(first, "year") == [2020, 2021, 2021]
    assert by_month(first, "month") == [12, 1, 2]
    assert by_month(first, "status") == ["published", "failed", "published"]
    assert "failed: yellow 2021-01: " in first.err
    assert "404" in by_month(first, "error")[1]
    assert "yellow 2020-12 to 2021-02: 14 rows" in first.out

    put(web, ("2021-01", 7))
    again = cli(*call)
    assert again.code == 0, again.err
    assert by_month(again, "status") == ["unchanged", "published", "unchanged"]
    assert warehouse_rows(cli.warehouse, LEDGER) == [("2020-12", 6), ("2021-01", 7), ("2021-02", 8)]


def test_a_run_of_one_year_keeps_its_summary(cli_direct: Cli, web: Web) -> None:
    source = put(web, ("2019-03", 5), ("2019-04", 5))
    result = cli_direct("--color", "yellow", "--since", "2019-03", "--until", "2019-04", "--source", source)
    assert (result.code, result.summary["year"]) == (0, 2019)
    assert by_month(result, "month") == [3, 4]
    assert all("year" not in month for month in result.summary["months"])
    planned = cli_direct(
        "--color", "yellow", "--months", "3-4", "--year", "2019", "--source", source, "--dry-run"
    )
    assert planned.out.count("nothing: has its 5 rows") == 2


def test_the_newest_months_are_found_and_loaded_without_naming_any(
    cli: Cli, web: Web, prefect_api_url: str
) -> None:
    this_month = TripMonth.of_date("yellow", dt.datetime.now(dt.UTC).date())
    ago = [this_month.later(-months) for months in range(6)]
    source = put(web, *((month.iso, 5) for month in ago[2:]))
    call = ("--color", "yellow", "--latest", "2", "--source", source)
    dry = cli(*call, "--dry-run")
    assert (dry.code, downloads(web)) == (0, 0)
    assert dry.out.count("add the month") == 2
    assert cli(*call).code == 0
    assert latest_run_name(prefect_api_url) == "yellow-latest-2"
    assert warehouse_rows(cli.warehouse, LEDGER) == [(ago[3].iso, 5), (ago[2].iso, 5)]

    put(web, (ago[1].iso, 6))
    result = cli(*call)
    assert by_month(result, "status") == ["unchanged", "published"]
    open_end = cli("--color", "yellow", "--since", ago[3].iso, "--source", source, "--dry-run")
    assert open_end.out.count("nothing: has its") == 3
    assert ago[0].iso not in open_end.out


@pytest.mark.parametrize("way", [("--latest", "1"), ("--since", "2021-01")])
def test_a_source_that_cannot_be_asked_or_has_nothing_is_one_line(
    cli: Cli, web: Web, way: tuple[str, str]
) -> None:
    call = ("--color", "yellow", *way, "--source", web.url + "/{year}-{month:02}.csv.gz")
    settings = {"TAXI_HTTP_BACKOFF_SECONDS": "0.001"}
    nothing = cli(*call, "--dry-run", **settings)
    assert (nothing.code, len(nothing.err.splitlines())) == (1, 1)
    assert "404" in nothing.err
    web.stop()
    for arguments in (call, (*call, "--dry-run")):
        failed = cli(*arguments, **settings)
        errors = [line for line in failed.err.splitlines() if line.startswith("error: ")]
        assert (failed.code, len(errors)) == (1, 1)
        assert "no connection to" in errors[0]
    assert not cli.warehouse.exists()


def test_the_plan_of_a_hundred_months_asks_once_for_each_and_says_what_changed(
    cli_direct: Cli, web: Web
) -> None:
    months = months_between(TripMonth("yellow", 2012, 1), TripMonth("yellow", 2020, 4))
    source = put(web, *((month.iso, 3) for month in months))
    there = ("--color", "yellow", "--since", "2019-11", "--until", "2019-12", "--source", source)
    assert cli_direct(*there).code == 0
    put(web, ("2019-12", 4))
    web.remove("/2015-05.csv.gz")
    web.requests.clear()
    plan = cli_direct(
        "--color", "yellow", "--since", "2012-01", "--until", "2020-04", "--source", source, "--dry-run"
    )
    assert (len(months), plan.code) == (100, 1)
    assert "100 months: 1 unchanged, 1 changed at the source, 97 not here yet, 1 cannot be had" in plan.out
    assert "replace 3 rows of" in plan.out
    assert "nothing: has its 3 rows" in plan.out
    assert plan.out.count("add the month") == 97
    assert [line for line in plan.out.splitlines() if "2015-05 " in line and "404" in line]
    assert sorted(seen.path for seen in web.requests) == [f"/{month.iso}.csv.gz" for month in months]
    assert downloads(web) == 0


def test_the_plan_shows_what_differs_and_which_destination_cannot_be_asked(cli_direct: Cli) -> None:
    call = ("--color", "yellow", "--months", "1", "--source", "synthetic")
    size = {"TAXI_SYNTHETIC_ROWS": "1000"}
    assert cli_direct(*call, **size).code == 0
    with duckdb.connect(cli_direct.warehouse) as connection:
        connection.execute("DELETE FROM yellow_taxi_trips WHERE rowid < 10")
    nowhere = "postgresql://nobody:hunter2@127.0.0.1:9/nothing"
    plan = cli_direct(*call, "--to", "duckdb", "postgres", "--dry-run", TAXI_POSTGRES_URL=nowhere, **size)
    assert plan.code == 1
    assert "replace 990 rows; the ledger says 1,000" in plan.out.replace("\n", " ")
    errors = plan.err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: postgres: ")
    assert "hunter2" not in plan.out + plan.err


# As parameters of a deployment


BAD_PARAMETERS = [
    ({"months": [13]}, "13"),
    ({"since": "2019-13"}, "2019-13"),
    ({"since": "2019-01", "until": "soon"}, "soon"),
    ({"latest": 0}, "0"),
    ({"latest": "two"}, "two"),
    ({"year": 1999}, "1999"),
]


@pytest.fixture(scope="module")
def deployment(prefect_api_url: str) -> Iterator[str]:
    """The address of a deployment of the parent flow on the session's server, which it leaves again."""
    made: Any = etl_parent_flow.to_deployment("backfill", parameters={"months": [1, 2, 3], "year": 2021})
    address = f"{prefect_api_url}/deployments/{made.apply()}"
    yield address
    ask("DELETE", address).raise_for_status()


@pytest.mark.parametrize(("parameters", "said"), BAD_PARAMETERS, ids=str)
def test_a_bad_parameter_is_refused_by_the_server_and_by_the_flow(
    deployment: str, parameters: dict[str, Any], said: str
) -> None:
    refused = ask("POST", f"{deployment}/create_flow_run", {"parameters": parameters})
    assert refused.status_code in (409, 422), refused.text
    assert said in refused.text
    with pytest.raises(ParameterTypeError, match=[*parameters][-1]):
        etl_parent_flow.validate_parameters({"color": "yellow", **parameters})


@pytest.mark.parametrize(
    ("parameter", "said"),
    [("since=2019-13", "'2019-13'"), ("colour=red", "not found on the deployment: 'colour'")],
)
def test_deployment_run_refuses_a_bad_parameter_in_words(deployment: str, parameter: str, said: str) -> None:
    command = ["deployment", "run", "etl-parent/backfill", "--param", parameter]
    invoke_and_assert(command, expected_code=1, expected_output_contains=said)


@pytest.mark.parametrize(
    "parameters",
    [
        {"months": [1, 2], "year": 2020},
        {"months": None, "year": None, "latest": 2},
        {"months": None, "year": None, "since": "2019-01", "until": "2021-07"},
    ],
    ids=str,
)
def test_good_parameters_go_before_the_deployments_own(deployment: str, parameters: dict[str, Any]) -> None:
    made = ask("POST", f"{deployment}/create_flow_run", {"parameters": parameters})
    assert made.status_code == 201, made.text
    assert made.json()["parameters"] == parameters


def test_two_ways_at_once_are_refused_by_the_flow_before_anything(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--months and --latest"):
        etl_parent_flow.fn(months=[1], latest=2, source="synthetic", data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()
