"""The command `python flows/web_to_gcs.py`, on a real Prefect server and into a bucket."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from pydantic import SecretStr
from support.trips import REAL_YELLOW, assert_equals_pandas, needs_real_trips, read_with_pandas, real_month

from flows.cli import load_parser
from flows.settings import override_settings
from flows.web_to_gcs import main, parser, web_to_gcs

if TYPE_CHECKING:
    from pathlib import Path

    from support.gcs import Bucket, ServiceAccount

TIMESTAMPS = ["tpep_pickup_datetime", "tpep_dropoff_datetime"]
TEMPLATE = f"{REAL_YELLOW}/{{color}}_tripdata_{{year}}-{{month:02}}.csv.gz"
ONE_MONTH = ("--color", "yellow", "--months", "1", "--source", "synthetic")
SYNTHETIC = ("--color", "yellow", "--months", "1", "2", "--source", "synthetic")


def runs_of_the_flow() -> int:
    """How often the server has seen it run."""
    with get_client(sync_client=True) as client:
        return len(client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["web-to-gcs"]))))


@needs_real_trips
def test_real_months_reach_the_bucket_and_stay_there(
    bucket: Bucket, prefect_api_url: str, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.json"
    call = [
        *("--color", "yellow", "--year", "2019", "--months", "1", "2", "--source", TEMPLATE),
        *("--data-dir", str(tmp_path / "data"), "--summary", str(summary)),
    ]
    runs_before, statuses = runs_of_the_flow(), []
    with override_settings(**bucket.settings):
        for _ in range(2):
            assert main(call) == 0
            there = [month["destinations"]["gcs"] for month in json.loads(summary.read_text())["months"]]
            assert [entry["rows"] for entry in there] == [10_000] * 2
            statuses.append([entry["status"] for entry in there])
    assert statuses == [["published"] * 2, ["unchanged"] * 2]
    for month in (1, 2):
        content = bucket.read(f"data/yellow/yellow_tripdata_2019-{month:02}.parquet")
        loaded = pd.read_parquet(io.BytesIO(content))
        assert_equals_pandas(loaded, read_with_pandas(real_month(month), TIMESTAMPS))
    assert runs_of_the_flow() == runs_before + 2


def test_a_month_that_fails_is_said_and_the_other_is_there(
    bucket: Bucket, prefect_api_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.front.misbehave("begin", status=403, body=b'{"error": {"message": "no right"}}')
    with override_settings(**bucket.settings, synthetic_rows=1000):
        assert main([*SYNTHETIC, "--data-dir", str(tmp_path / "data"), "--concurrency", "1"]) == 1
    failed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1
    assert "yellow 2021-01 -> gcs" in failed[0]
    assert "no right" in failed[0]
    assert bucket.names() == {"data/yellow/yellow_tripdata_2021-02.parquet"}


def test_it_goes_to_the_bucket_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--to", "duckdb"], ["--to=gcs"]):
        assert main([*SYNTHETIC, *arguments, "--data-dir", str(tmp_path / "data")]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert "goes to the bucket only" in err
    assert not (tmp_path / "data").exists()
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "flows/web_to_gcs.py" in out
    assert "--to " not in out


def test_it_has_every_other_option_of_the_parent() -> None:
    def options(made: object) -> set[str]:
        return {option for action in made._actions for option in action.option_strings}

    assert options(parser()) == options(load_parser()) - {"--to"}


def test_as_a_deployment_it_has_typed_parameters_without_destinations() -> None:
    assert web_to_gcs.name == "web-to-gcs"
    properties = web_to_gcs.parameters.properties
    assert {"color", "months", "year", "source", "force"} <= set(properties)
    assert "to" not in properties
    assert properties["color"]["enum"] == ["yellow", "green", "fhv", "fhvhv"]
    undescribed = [name for name, one in properties.items() if not one.get("description")]
    assert undescribed == []


def test_without_a_bucket_it_is_wrong_usage(
    prefect_api_url: str, no_google_credentials: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SYNTHETIC, "--data-dir", str(tmp_path / "data")]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "TAXI_GCS_BUCKET" in err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("has_key", [False, True], ids=["no credentials", "no network"])
def test_no_credentials_and_no_network_are_one_line(
    prefect_api_url: str,
    no_google_credentials: None,
    service_account: ServiceAccount,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    has_key: bool,
) -> None:
    key = {**json.loads(service_account.key_file.read_text()), "token_uri": "https://nowhere.invalid/"}
    given = {"gcp_key_json": SecretStr(json.dumps(key))} if has_key else {}
    with override_settings(gcs_bucket="a-bucket", synthetic_rows=1000, **given):
        assert main([*ONE_MONTH, "--data-dir", str(tmp_path / "data")]) == (1 if has_key else 2)
    err = capsys.readouterr().err
    said = [line for line in err.splitlines() if line.startswith(("error: ", "failed: "))]
    assert len(said) == 1
    assert ("STORAGE_EMULATOR_HOST" if has_key else "TAXI_GCP_KEY_FILE") in said[0]
    assert "Traceback" not in err
    assert service_account.secret not in err
