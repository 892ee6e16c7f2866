"""The main job, as people run it: `python flows/parent.py ...` in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import duckdb
import pytest
from support.cli import HEADER, ROOT, ROW, Cli, by_month, small_month
from support.trips import (
    HEADS,
    REAL_MONTHS,
    REAL_YELLOW,
    assert_equals_pandas,
    needs_real_trips,
    read_with_pandas,
    real_month,
    warehouse_rows,
)

from flows.runtime import Layout, file_lock
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from support.web import Web

TIMESTAMPS = ["tpep_pickup_datetime", "tpep_dropoff_datetime"]


@needs_real_trips
def test_real_months_over_http_equal_an_independent_reading(cli: Cli, web: Web) -> None:
    for month in REAL_MONTHS:
        web.put(f"/yellow/yellow_tripdata_2019-{month:02}.csv.gz", real_month(month))
    result = cli(
        *("--color", "yellow", "--year", "2019", "--months", *map(str, REAL_MONTHS)),
        *("--source", web.url + "/{color}/{color}_tripdata_{year}-{month:02}.csv.gz"),
    )
    assert result.code == 0, result.err
    assert by_month(result, "status") == ["published"] * len(REAL_MONTHS)
    assert by_month(result, "staged_rows") == [10_000] * len(REAL_MONTHS)
    assert cli.count() == 10_000 * len(REAL_MONTHS)
    with duckdb.connect(cli.warehouse, read_only=True) as connection:
        for month in REAL_MONTHS:
            loaded = connection.execute(
                "SELECT * FROM yellow_taxi_trips WHERE file_month = make_date(2019, ?, 1)", [month]
            ).df()
            assert_equals_pandas(loaded, read_with_pandas(real_month(month), TIMESTAMPS))


@needs_real_trips
def test_second_run_is_unchanged_and_a_path_template_works(cli_process: Cli, cli: Cli) -> None:
    """The first run is a process of its own, which has ended when the second begins."""
    template = f"{REAL_YELLOW}/{{color}}_tripdata_{{year}}-{{month:02}}.csv.gz"
    call = ("--color", "yellow", "--year", "2019", "--months", "1", "2", "--source", template)
    assert by_month(cli_process(*call), "status") == ["published"] * 2
    before = cli.warehouse.read_bytes()
    again = cli(*call)
    assert again.code == 0
    assert by_month(again, "status") == ["unchanged"] * 2
    assert "unchanged" in again.out
    assert cli.warehouse.read_bytes() == before
    forced = cli(*call, "--force")
    assert by_month(forced, "status") == ["published"] * 2
    assert cli.count() == 20_000


def test_changed_source_replaces_the_month_and_no_other(cli: Cli, web: Web) -> None:
    call = ("--color", "yellow", "--months", "1", "2", "--source", web.url + "/{year}-{month:02}.csv.gz")
    web.put("/2021-01.csv.gz", small_month(10))
    web.put("/2021-02.csv.gz", small_month(20))
    assert cli(*call).code == 0
    web.put("/2021-02.csv.gz", small_month(7))
    result = cli(*call)
    assert by_month(result, "status") == ["unchanged", "published"]
    assert cli.count() == 17


def test_an_unchanged_source_is_asked_once_and_the_extract_is_cached(cli: Cli, web: Web) -> None:
    web.put("/2021-01.csv.gz", small_month(10))
    call = ("--color", "yellow", "--months", "1", "--source", web.url + "/{year}-{month:02}.csv.gz")
    cli(*call)
    assert [seen.status for seen in web.requests] == [200]
    cli(*call)
    assert [seen.status for seen in web.requests] == [200, 304]
    cli.warehouse.unlink()
    cli(*call)
    assert [seen.status for seen in web.requests] == [200, 304, 304]
    log = max((cli.data_dir / "logs").glob("*.log")).read_text()
    assert re.search(r"extract yellow 2021-01.*Cached", log), log


def test_a_month_that_fails_does_not_stop_the_others(cli: Cli, web: Web) -> None:
    web.put("/2021-01.csv.gz", small_month(10))
    web.put("/2021-03.csv.gz", b"<html>Sorry</html>")
    result = cli(
        *("--color", "yellow", "--months", "1", "2", "3"),
        *("--source", web.url + "/{year}-{month:02}.csv.gz"),
    )
    assert result.code == 1
    assert by_month(result, "status") == ["published", "failed", "failed"]
    assert "404" in by_month(result, "error")[1]
    assert "HTML" in by_month(result, "error")[2]
    failed = [line for line in result.err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2
    assert failed[0].startswith("failed: yellow 2021-02: ")
    assert "Traceback" not in result.err + result.out
    assert "Traceback" in max((cli.data_dir / "logs").glob("*.log")).read_text()
    assert cli.count() == 10


WRONG_USAGE = [
    (["--months", "1"], "--color"),
    (["--color", "red", "--months", "1"], "fhvhv"),
    (["--color", "yellow", "--months", "13"], "1 to 12"),
    (["--color", "yellow", "--months", "0"], "1 to 12"),
    (["--color", "yellow", "--months", "one"], "1 to 12"),
    (["--color", "yellow", "--months", "1", "--year", "1999"], "2009"),
    (["--color", "fhvhv", "--months", "1", "--year", "2019"], "fhvhv starts with 2019-02"),
    (["--color", "yellow", "--months", "8"], "--source dtc has 2019-01 to 2021-07"),
    (["--color", "yellow", "--months", "1", "--source", "nowhere"], "dtc, tlc, synthetic"),
    (["--color", "yellow", "--months", "1", "--source", "http://h/{colour}"], "template"),
    (["--color", "yellow", "--months", "1", "2", "--source", "http://h/a.csv"], "{month}"),
    (["--color", "yellow", "--months", "1", "--to", "oracle"], "duckdb"),
    (["--color", "yellow", "--months", "1", "--concurrency", "0"], "--concurrency"),
    (["--color", "yellow"], "--since 2019-01 --until 2021-07"),
    (["--color", "yellow", "--months", "1-13"], "1-13"),
    (["--color", "yellow", "--months", "3-1"], "3-1"),
    (["--color", "yellow", "--months", "1", "--latest", "2"], "--months and --latest"),
    (["--color", "yellow", "--since", "2021-01", "--latest", "2"], "--since and --latest"),
    (["--color", "yellow", "--until", "2021-07"], "--since"),
    (["--color", "yellow", "--since", "2021-07", "--until", "2021-06"], "swap"),
    (["--color", "yellow", "--since", "2021-13"], "2021-13"),
    (["--color", "yellow", "--since", "2021-1"], "2021-1"),
    (["--color", "yellow", "--since", "2090-01"], "future"),
    (["--color", "yellow", "--since", "2021-01", "--until", "2090-01"], "future"),
    (["--color", "green", "--since", "2013-07", "--source", "tlc"], "green starts with 2013-08"),
    (["--color", "yellow", "--since", "2018-12", "--until", "2019-02"], "dtc has 2019-01 to 2021-07"),
    (["--color", "yellow", "--latest", "0"], "--latest 0"),
    (["--color", "yellow", "--latest", "2", "--year", "2021"], "--year 2021"),
    (["--color", "yellow", "--latest", "1", "--source", "http://h/{month}.csv"], "{year}"),
    (
        ["--color", "yellow", "--since", "2020-12", "--until", "2021-01", "--source", "http://h/{month}"],
        "{year}",
    ),
    (["--color", "fhv", "--months", "1", "--transform", "drop-zero-passengers"], "passenger_count"),
    (["--color", "yellow", "--months", "1", "--wat"], "--wat"),
]


@pytest.mark.parametrize(("arguments", "expected"), WRONG_USAGE)
def test_wrong_usage_is_one_line_and_exit_code_2_before_anything(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.parent import main

    assert main([*arguments, "--data-dir", str(tmp_path / "data")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert expected in err
    assert not (tmp_path / "data").exists()


def test_bad_setting_is_one_line_and_exit_code_2(cli: Cli) -> None:
    result = cli("--color", "yellow", "--months", "1", TAXI_MAX_REJECT_RATIO="2")
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "TAXI_MAX_REJECT_RATIO" in result.err


def test_no_network_fails_with_one_line_that_names_synthetic(cli: Cli) -> None:
    result = cli(
        *("--color", "yellow", "--months", "1"),
        *("--source", "http://nowhere.invalid/{year}-{month}.csv.gz"),
        TAXI_HTTP_BACKOFF_SECONDS="0.01",
    )
    assert result.code == 1
    failed = [line for line in result.err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1
    assert "--source synthetic" in failed[0]


@pytest.mark.parametrize("color", ["yellow", "green", "fhv", "fhvhv"])
def test_every_dataset_loads_from_synthetic_months(cli_direct: Cli, color: str) -> None:
    result = cli_direct(
        *("--color", color, "--months", "1", "2", "3", "--source", "synthetic"),
        TAXI_SYNTHETIC_ROWS="5000",
    )
    assert result.code == 0, result.err
    assert by_month(result, "source_rows") == by_month(result, "staged_rows") == [5000] * 3
    assert cli_direct.count(f"{color}_taxi_trips") == 15_000
    ledger = warehouse_rows(cli_direct.warehouse, "SELECT dataset, row_count FROM taxi_loads")
    assert ledger == [(color, 5000)] * 3


@pytest.mark.skipif(not HEADS.is_dir(), reason="no real file heads here")
@pytest.mark.parametrize("color", ["yellow", "green", "fhv", "fhvhv"])
def test_every_dataset_loads_from_the_heads_of_real_files(cli_direct: Cli, color: str) -> None:
    """The first and the last of the year; `test_staging.py` has every one of them, value by value."""
    first, *_, last = sorted(HEADS.glob(f"{color}_tripdata_2019-*.csv"))
    lines = sum(len(path.read_text().splitlines()) - 1 for path in (first, last))
    result = cli_direct(
        *("--color", color, "--year", "2019", "--months", first.stem[-2:], last.stem[-2:]),
        *("--source", f"{HEADS}/{{color}}_tripdata_{{year}}-{{month:02}}.csv"),
    )
    assert result.code == 0, result.err
    assert cli_direct.count(f"{color}_taxi_trips") == lines


def test_broken_rows_go_to_the_rejects_file(cli_direct: Cli) -> None:
    result = cli_direct(
        *("--color", "yellow", "--months", "1", "--source", "synthetic"),
        TAXI_SYNTHETIC_ROWS="10000",
        TAXI_SYNTHETIC_BROKEN_ROWS="70",
    )
    assert result.code == 0, result.err
    assert by_month(result, "rejected_rows") == [70]
    assert cli_direct.count() == 9930
    rejects = cli_direct.data_dir / "yellow" / "yellow_tripdata_2021-01.rejects.parquet"
    found = duckdb.read_parquet(str(rejects)).fetchall()
    assert len(found) == 70
    assert all(line > 1 and raw and reason for line, raw, reason in found)


def test_more_rejects_may_be_allowed_by_an_option_which_goes_before_the_setting(cli_direct: Cli) -> None:
    call = ("--color", "green", "--months", "1", "--source", "synthetic")
    trips = {"TAXI_SYNTHETIC_ROWS": "1000", "TAXI_SYNTHETIC_BROKEN_ROWS": "50"}
    assert cli_direct(*call, **trips).code == 1
    allowed = cli_direct(*call, "--max-reject-ratio", "0.05", **trips, TAXI_MAX_REJECT_RATIO="0.01")
    assert (allowed.code, by_month(allowed, "rejected_rows")) == (0, [50])


@pytest.mark.parametrize("ratio", ["1.5", "-0.1", "nan", "many"])
def test_a_share_of_rejects_that_is_none_is_wrong_usage(cli: Cli, ratio: str) -> None:
    result = cli("--color", "green", "--months", "1", f"--max-reject-ratio={ratio}")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "legal are 0 to 1" in result.err
    assert not cli.data_dir.exists()


def test_too_many_rejects_fail_the_month_and_the_old_data_stays(cli_direct: Cli) -> None:
    call = ("--color", "yellow", "--months", "1", "--source", "synthetic")
    assert cli_direct(*call, TAXI_SYNTHETIC_ROWS="1000").code == 0
    result = cli_direct(*call, TAXI_SYNTHETIC_ROWS="1000", TAXI_SYNTHETIC_BROKEN_ROWS="11")
    assert result.code == 1
    assert "TAXI_MAX_REJECT_RATIO" in by_month(result, "error")[0]
    assert cli_direct.count() == 1000
    allowed = cli_direct(
        *call,
        TAXI_SYNTHETIC_ROWS="1000",
        TAXI_SYNTHETIC_BROKEN_ROWS="11",
        TAXI_MAX_REJECT_RATIO="0.02",
    )
    assert allowed.code == 0
    assert cli_direct.count() == 989


def test_two_runs_at_once_end_with_one_copy(cli_process: Cli) -> None:
    call = ("--color", "yellow", "--months", "1", "2", "--source", "synthetic")
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: cli_process(*call, TAXI_SYNTHETIC_ROWS="20000"), range(2)))
    assert [result.code for result in results] == [0, 0], [result.err for result in results]
    statuses = sorted(zip(*(by_month(result, "status") for result in results), strict=True))
    assert all(sorted(pair) == ["published", "unchanged"] for pair in statuses)
    assert cli_process.count() == 40_000


def test_a_month_that_another_run_works_on_is_not_touched(cli: Cli) -> None:
    month = TripMonth("yellow", 2021, 1)
    call = ("--color", "yellow", "--months", "1", "--source", "synthetic")
    with file_lock(Layout(cli.data_dir).lock(month), 1):
        refused = cli(*call, TAXI_SYNTHETIC_ROWS="1000", TAXI_LOCK_TIMEOUT_SECONDS="0.1")
    assert refused.code == 1
    assert "another run has held" in refused.err
    assert "TAXI_LOCK_TIMEOUT_SECONDS" in refused.err
    assert not Layout(cli.data_dir).staged("yellow").exists()
    assert cli(*call, TAXI_SYNTHETIC_ROWS="1000").code == 0


def test_tutorial_transforms_have_the_tutorials_meaning(cli_direct: Cli, web: Web) -> None:
    zero, missing = (ROW.replace("19,1,1.0", f"19,{count},1.0") for count in ("0", ""))
    rows = "\n".join([HEADER, ROW, zero, missing]) + "\n"
    web.put("/2021-01.csv", rows.encode())
    call = ("--color", "yellow", "--months", "1", "--source", web.url + "/{year}-{month:02}.csv")
    count = "SELECT passenger_count FROM yellow_taxi_trips ORDER BY ALL NULLS LAST"
    cli_direct(*call)
    assert warehouse_rows(cli_direct.warehouse, count) == [(0,), (1,), (None,)]
    dropped = cli_direct(*call, "--transform", "drop-zero-passengers")
    assert warehouse_rows(cli_direct.warehouse, count) == [(1,), (None,)]
    assert by_month(dropped, "dropped_rows") == [1]
    cli_direct(*call, "--transform", "fill-missing-passengers")
    assert warehouse_rows(cli_direct.warehouse, count) == [(0,), (0,), (1,)]


def test_new_columns_fail_unless_they_are_allowed(cli_direct: Cli, web: Web) -> None:
    web.put("/2021-01.csv", f"{HEADER},robot_fee\n{ROW},1.25\n".encode())
    call = ("--color", "yellow", "--months", "1", "--source", web.url + "/{year}-{month:02}.csv")
    refused = cli_direct(*call)
    assert refused.code == 1
    assert "robot_fee" in by_month(refused, "error")[0]
    assert "--allow-new-columns" in by_month(refused, "error")[0]
    assert cli_direct(*call, "--allow-new-columns").code == 0
    assert warehouse_rows(cli_direct.warehouse, "SELECT robot_fee FROM yellow_taxi_trips") == [("1.25",)]


def test_dry_run_says_what_would_happen_and_writes_nothing(cli_direct: Cli, web: Web) -> None:
    web.put("/2021-01.csv.gz", small_month(10))
    web.put("/2021-02.csv.gz", small_month(20))
    template = web.url + "/{year}-{month:02}.csv.gz"
    dry = cli_direct("--color", "yellow", "--months", "1", "2", "--source", template, "--dry-run")
    assert dry.code == 0
    assert dry.out.count("add the month") == 2
    assert not cli_direct.data_dir.exists()
    cli_direct("--color", "yellow", "--months", "1", "2", "--source", template)
    web.put("/2021-02.csv.gz", small_month(7))
    before = sorted(cli_direct.data_dir.rglob("*"))
    dry = cli_direct("--color", "yellow", "--months", "1", "2", "3", "--source", template, "--dry-run")
    assert dry.code == 1
    assert "has its 10 rows" in dry.out
    assert "replace 20 rows" in dry.out
    assert "404" in dry.out
    assert sorted(cli_direct.data_dir.rglob("*")) == before
    assert cli_direct.count() == 30


def test_quality_report_is_printed_and_kept(cli_direct: Cli) -> None:
    result = cli_direct(
        *("--color", "yellow", "--months", "1", "--source", "synthetic"), TAXI_SYNTHETIC_ROWS="20000"
    )
    path = cli_direct.data_dir / "yellow" / "yellow_tripdata_2021-01.quality.json"
    kept = json.loads(path.read_text())
    rows = warehouse_rows(
        cli_direct.warehouse,
        "SELECT count(*) FILTER (WHERE fare_amount < 0), count(*) FILTER (WHERE passenger_count = 0), "
        "count(*) - count(VendorID), count(*) - (SELECT count(*) FROM (SELECT DISTINCT * FROM "
        "yellow_taxi_trips)) FROM yellow_taxi_trips",
    )[0]
    assert rows == (
        kept["measures"]["negative_fare"],
        kept["measures"]["zero_passengers"],
        kept["nulls"]["VendorID"],
        kept["exact_duplicates"],
    )
    assert all(rows)
    assert re.search(rf"^negative_fare +{rows[0]:,} ", result.out, flags=re.MULTILINE)


def test_progress_is_shown_live_on_a_terminal(cli_process: Cli) -> None:
    ours, theirs = pty.openpty()
    command = ["flows/parent.py", "--color", "yellow", "--months", "1", "--source", "synthetic"]
    process = subprocess.Popen(
        [sys.executable, *command, "--data-dir", str(cli_process.data_dir)],
        cwd=ROOT,
        env={**cli_process.environment, "TERM": "xterm", "COLUMNS": "120", "CI": ""},  # a CI job gets lines
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the other end has closed
            break
    os.close(ours)
    assert process.wait(timeout=60) == 0
    for phase in (b"stage", b"duckdb", b"rows/s", b"published"):
        assert phase in seen


def test_without_any_server_a_temporary_one_is_started(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"HOME": str(home), "TAXI_SYNTHETIC_ROWS": "1000"}
    result = Cli(environment, tmp_path / "data")("--color", "green", "--months", "3", "--source", "synthetic")
    assert result.code == 0, result.err
    assert by_month(result, "staged_rows") == [1000]
    assert "Stopping temporary server" not in result.err


def total(cli: Cli) -> float:
    return warehouse_rows(cli.warehouse, "SELECT sum(total_amount) FROM yellow_taxi_trips")[0][0]


def test_a_source_that_changes_back_is_loaded_as_it_is_now(cli: Cli, web: Web) -> None:
    call = ("--color", "yellow", "--months", "1", "--source", web.url + "/{year}-{month:02}.csv")
    first, second = (f"{HEADER}\n{ROW.replace('9.75', amount)}\n".encode() for amount in ("11.0", "22.0"))
    for body, amount in ((first, 11.0), (second, 22.0), (first, 11.0)):
        web.put("/2021-01.csv", body)
        web.heal()
        web.misbehave("/2021-01.csv", headers={"ETag": f'"{amount}"'})
        assert by_month(cli(*call), "status") == ["published"]
        assert total(cli) == amount


def test_sources_that_differ_in_their_query_are_different_files(cli: Cli, web: Web) -> None:
    web.put("/a.csv", f"{HEADER}\n{ROW}\n".encode())
    for key in ("A", "B"):
        source = web.url + f"/a.csv?key={key}&month={{year}}-{{month:02}}"
        result = cli("--color", "yellow", "--months", "1", "--source", source)
        assert result.code == 0
    assert [seen.status for seen in web.requests if seen.body_bytes][-1] == 200


def test_the_dry_run_knows_that_another_transform_is_another_month(cli_direct: Cli) -> None:
    call = ("--color", "yellow", "--months", "1", "--source", "synthetic")
    cli_direct(*call, TAXI_SYNTHETIC_ROWS="2000")
    assert "nothing: has its" in cli_direct(*call, "--dry-run", TAXI_SYNTHETIC_ROWS="2000").out
    other = cli_direct(*call, "--transform", "drop-zero-passengers", "--dry-run", TAXI_SYNTHETIC_ROWS="2000")
    assert "replace 2,000 rows" in other.out


def test_the_quality_report_speaks_of_the_file_that_was_loaded(cli_direct: Cli) -> None:
    call = ("--color", "yellow", "--months", "1", "--source", "synthetic")
    cli_direct(*call, TAXI_SYNTHETIC_ROWS="2000")
    path = cli_direct.data_dir / "yellow" / "yellow_tripdata_2021-01.quality.json"
    before = path.read_text()
    cli_direct(*call, "--transform", "drop-zero-passengers", TAXI_SYNTHETIC_ROWS="2000")
    path.write_text(before)  # as if the run had been killed before it wrote the new one
    cli_direct(*call, "--transform", "drop-zero-passengers", TAXI_SYNTHETIC_ROWS="2000")
    kept = json.loads(path.read_text())
    assert kept["rows"] == cli_direct.count() < 2000
    assert kept["measures"]["zero_passengers"] == 0


def test_no_prefect_server_at_the_address_is_one_line(cli_process: Cli) -> None:
    result = cli_process(
        *("--color", "yellow", "--months", "1", "--source", "synthetic"),
        PREFECT_API_URL="http://127.0.0.1:9/api",
    )
    assert result.code == 1
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "PREFECT_API_URL" in errors[0]
    assert "Traceback" not in result.err
    [log] = (cli_process.data_dir / "logs").glob("*.log")
    assert "Traceback" in log.read_text()


def test_unusable_directories_and_settings_are_wrong_usage(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    call = ("--color", "yellow", "--months", "1", "--source", "synthetic")
    odd = Cli(cli.environment, tmp_path / "file" / "data", cli.monkeypatch, cli.capsys)
    for result in (odd(*call), cli(*call, TAXI_SYNTETIC_ROWS="5")):
        assert result.code == 2
        assert len(result.err.splitlines()) == 1
    assert "TAXI_SYNTHETIC_ROWS" in result.err


def test_interrupted_ends_soon_and_begins_nothing_more(cli_process: Cli, web: Web) -> None:
    for month in (1, 2, 3):
        web.put(f"/2021-0{month}.csv.gz", small_month(20_000))
        web.misbehave(f"/2021-0{month}.csv.gz", delay_seconds=3)
    source = web.url + "/{year}-{month:02}.csv.gz"
    command = ["flows/parent.py", "--color", "yellow", "--months", "1", "2", "3", "--concurrency", "1"]
    process = subprocess.Popen(
        [sys.executable, *command, "--source", source, "--data-dir", str(cli_process.data_dir)],
        cwd=ROOT,
        env=cli_process.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not web.requests and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: " in err.splitlines()[-1]
    assert not any("2021-03" in seen.path for seen in web.requests)
    assert not cli_process.warehouse.exists(), err


def test_a_run_needs_no_driver_it_does_not_use() -> None:
    drivers = "{'adbc_driver_postgresql', 'psycopg', 'sqlalchemy', 'gcsfs'}"
    code = f"import flows.parent, sys; print({drivers} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
