"""Group `end to end`: from the landed CSV.gz to Postgres; our side also writes the Parquet file."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from contents import in_parquet
from inputs import MONTH
from loading import (
    TUTORIAL_CHUNK_ROWS,
    contents,
    copy_with_psql,
    dlt_names,
    ours,
    plain_login,
    run_dlt,
    sling_program,
    tutorials_engine,
    tutorials_loop,
)

from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Versus
    from support.postgres import Database

    from flows.sources import LandedFile

GROUP = "end to end"
MONTHS = [TripMonth("yellow", 2021, number) for number in (1, 2, 3)]
CONCURRENCY = 2  # the command line's default for --concurrency
needs_psql = pytest.mark.skipif(not shutil.which("psql"), reason="needs the program psql")


@needs_psql
def test_against_psql_copy(postgres: Database, landed: LandedFile, tmp_path: Path, versus: Versus) -> None:
    versus(
        GROUP,
        "psql",
        "gunzip -c | psql \\copy of the raw CSV",
        ours=lambda: ours(postgres, landed, tmp_path),
        theirs=lambda: copy_with_psql(postgres, landed),
    )
    assert contents(postgres, "yellow_taxi_trips") == contents(postgres, "rival")


@needs_psql
def test_three_months_against_three_copies(
    postgres: Database, landed: LandedFile, tmp_path: Path, rows: int, versus: Versus
) -> None:
    def run_concurrently() -> None:
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            list(pool.map(lambda month: ours(postgres, landed, tmp_path, month), MONTHS))

    def run_in_sequence() -> None:
        for month in MONTHS:
            copy_with_psql(postgres, landed, f"rival_{month.month}")

    versus(
        GROUP,
        "psql, three months",
        "three such copies in a row; ours: two months at once",
        ours=run_concurrently,
        theirs=run_in_sequence,
        rows=3 * rows,
        name="taxi-etl, three months",
    )
    everything = (
        "(SELECT * FROM rival_1 UNION ALL SELECT * FROM rival_2 UNION ALL SELECT * FROM rival_3) AS three"
    )
    assert contents(postgres, "yellow_taxi_trips") == contents(postgres, everything)


def test_against_the_tutorials_script(
    postgres: Database, landed: LandedFile, tmp_path: Path, rows: int, versus: Versus
) -> None:
    engine, slow_rows = tutorials_engine(postgres), min(rows, TUTORIAL_CHUNK_ROWS)
    versus(
        GROUP,
        "pandas",
        "the tutorial's script: read_csv and to_sql in chunks of 100,000 rows",
        ours=lambda: ours(postgres, landed, tmp_path),
        theirs=lambda: tutorials_loop(engine, landed, slow_rows),
        rival_rows=slow_rows,
    )
    engine.dispose()
    assert contents(postgres, "rival") == in_parquet(tmp_path / f"{MONTH.stem}.parquet", slow_rows)


@pytest.mark.filterwarnings("default")  # dlt's own
def test_against_dlt(
    postgres: Database, landed: LandedFile, tmp_path: Path, versus: Versus, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dlt", reason="install the dependency group `peers`")
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "ERROR")
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt-home"))
    monkeypatch.chdir(tmp_path)  # dlt looks for a folder .dlt in the working directory
    login = plain_login(postgres)
    versus(
        GROUP,
        "dlt",
        "pyarrow's CSV reader, Parquet, dlt's ADBC loader: its fastest",
        ours=lambda: ours(postgres, landed, tmp_path / "ours"),
        theirs=lambda: run_dlt(login, landed, tmp_path / "dlt"),
    )
    assert contents(postgres, "rival.trips", dlt_names()) == contents(postgres, "yellow_taxi_trips")


def test_against_sling(
    postgres: Database, landed: LandedFile, tmp_path: Path, versus: Versus, monkeypatch: pytest.MonkeyPatch
) -> None:
    sling = sling_program()
    if not sling:
        pytest.skip("needs the program sling (on Linux, x86-64: the dependency group `peers`)")
    monkeypatch.setenv("SLING_DISABLE_TELEMETRY", "TRUE")
    monkeypatch.setenv("RIVAL", plain_login(postgres).url + "?sslmode=disable")
    monkeypatch.setenv("SLING_HOME_DIR", str(tmp_path / "sling"))
    call = [sling, "run", "--src-stream", landed.path.as_uri(), "--tgt-conn", "RIVAL"]
    call += ["--tgt-object", "public.rival", "--mode", "full-refresh"]
    versus(
        GROUP,
        "sling",
        "sling run, full-refresh",
        ours=lambda: ours(postgres, landed, tmp_path),
        theirs=lambda: subprocess.run(call, check=True, capture_output=True),
    )
    assert postgres.value("SELECT count(*) FROM rival") == postgres.value(
        "SELECT count(*) FROM yellow_taxi_trips"
    )
