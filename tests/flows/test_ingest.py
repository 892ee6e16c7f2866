"""The tutorial's job on a real Postgres: `python flows/ingest.py --url ...`."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pandas as pd
import pytest
from support.cli import ROOT
from support.trips import needs_real_trips, real_month

from flows.ingest import main, month_of
from flows.settings import get_settings, override_settings
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from support.postgres import Database
    from support.web import Web

HEADER = "dispatching_base_num,pickup_datetime,dropoff_datetime,PULocationID,DOLocationID,SR_Flag"
NAME = "/yellow_tripdata_2019-02.csv.gz"


def options(postgres: Database) -> list[str]:
    server = postgres.parameters
    return [
        *("--host", server["host"], "--port", server.get("port", "5432")),
        *("--user", server["user"], "--db", server["dbname"]),
    ]


@pytest.fixture
def password(postgres: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    password = postgres.parameters.get("password", "")
    monkeypatch.setenv("PGPASSWORD", password)
    monkeypatch.delenv("TAXI_POSTGRES_URL", raising=False)
    return password


@needs_real_trips
@pytest.mark.usefixtures("prefect_api_url", "password")
def test_a_month_is_loaded_without_zero_passengers_as_in_the_tutorial(
    postgres: Database, web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web.put(NAME, real_month(2))
    call = ["--url", web.url + NAME, *options(postgres), "--data-dir", str(tmp_path / "data")]
    trips = pd.read_csv(io.BytesIO(gzip.decompress(real_month(2))), low_memory=False)
    expected = trips[trips["passenger_count"] != 0]
    assert 0 < len(expected) < len(trips)

    assert main(call) == 0, capsys.readouterr().err
    assert postgres.rows(
        "SELECT count(*), sum(total_amount)::numeric(12, 2)::text FROM yellow_taxi_trips"
    ) == [(len(expected), f"{expected['total_amount'].sum():.2f}")]
    assert main(call) == 0
    assert "unchanged" in capsys.readouterr().out
    assert main([*call, "--keep-zero-passengers"]) == 0
    assert postgres.rows("SELECT count(*) FROM yellow_taxi_trips") == [(len(trips),)]
    log = max((tmp_path / "data" / "logs").glob("*.log")).read_text()
    assert "Logging Subflow for: yellow_taxi_trips" in log


@pytest.mark.usefixtures("prefect_api_url", "password")
@pytest.mark.parametrize("table", ["select", 'My "Trips"', "x'; drop table y; --", "Fahrten_Ü", "a" * 40])
def test_any_table_name_is_taken_as_a_name(
    table: str, postgres: Database, web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web.put("/fhv_tripdata_2019-01.csv", f"{HEADER}\nB1,2019-01-01 00:30:00,,,,\n".encode())
    call = ["--url", web.url + "/fhv_tripdata_2019-01.csv", *options(postgres)]
    code = main([*call, "--table-name", table, "--data-dir", str(tmp_path / "data")])
    assert code == 0, capsys.readouterr().err
    quoted = '"' + table.replace('"', '""') + '"'
    assert postgres.rows(f"SELECT count(*) FROM {quoted}") == [(1,)]


@pytest.mark.usefixtures("prefect_api_url")
def test_the_password_is_in_no_output_log_or_error(
    postgres: Database,
    web: Web,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PGPASSWORD", "wr0ng-s3cret")
    web.put("/fhv_tripdata_2019-01.csv", f"{HEADER}\nB1,2019-01-01 00:30:00,,,,\n".encode())
    call = ["--url", web.url + "/fhv_tripdata_2019-01.csv", *options(postgres), "--user", "nobody_here"]
    assert main([*call, "--data-dir", str(tmp_path / "data")]) == 1
    out, err = capsys.readouterr()
    logs = "".join(path.read_text() for path in (tmp_path / "data" / "logs").glob("*.log"))
    assert "wr0ng-s3cret" not in out + err + logs
    assert len([line for line in err.splitlines() if line.startswith("failed: ")]) == 1


@pytest.mark.usefixtures("prefect_api_url", "password")
def test_it_runs_as_a_script(
    server_environment: dict[str, str], postgres: Database, web: Web, tmp_path: Path
) -> None:
    web.put("/fhv_tripdata_2019-01.csv", f"{HEADER}\nB1,2019-01-01 00:30:00,,,,\n".encode())
    call = [sys.executable, "flows/ingest.py", "--url", web.url + "/fhv_tripdata_2019-01.csv"]
    call += [*options(postgres), "--table-name", "trips", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(
        call,
        cwd=ROOT,
        env=server_environment | {"PGPASSWORD": os.environ["PGPASSWORD"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert postgres.value("SELECT count(*) FROM trips") == 1


def test_no_server_named_is_one_line_that_lists_the_places_tried(
    prefect_api_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with override_settings(postgres_url=None):
        assert main(["--data-dir", str(tmp_path / "data")]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    for place in ("TAXI_POSTGRES_URL", ".env", "postgres-connector", "embedded"):
        assert place in err


@pytest.mark.parametrize(
    ("url", "month"),
    [
        ("https://h/yellow_tripdata_2021-01.csv.gz", TripMonth("yellow", 2021, 1)),
        ("s/fhvhv_tripdata_2021-12.parquet?token=1", TripMonth("fhvhv", 2021, 12)),
    ],
)
def test_the_month_is_read_from_the_file_name(url: str, month: TripMonth) -> None:
    assert month_of(url) == month


@pytest.mark.parametrize("url", ["https://h/trips.csv", "https://h/yellow_tripdata_2021-13.csv"])
def test_a_name_without_a_month_is_refused_before_anything(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--url", url, "--data-dir", str(tmp_path / "data")]) == 2
    assert "yellow_tripdata_2021-01.csv.gz" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_overridden_settings_end_with_the_block() -> None:
    before = get_settings().concurrency
    with override_settings(concurrency=7):
        assert get_settings().concurrency == 7
    assert get_settings().concurrency == before


def test_server_options_survive_every_character(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.destinations.postgres import PostgresAddress
    from flows.ingest import parser, server_url

    password = "p@ss/w:rd #1%? &=+'\\ü"
    monkeypatch.setenv("PGPASSWORD", password)
    url = server_url(parser().parse_args(["--host", "::1", "--user", "a@b", "--db", "d/e"]))
    assert url
    assert quote(password, safe="") not in repr(url)
    assert dict(PostgresAddress.of_url(url.get_secret_value()).parameters) == {
        "host": "::1",
        "port": "5432",
        "user": "a@b",
        "dbname": "d/e",
        "password": password,
    }
