"""What is said of a choice of runner, what travels between machines, and how far a worker is believed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.cli import by_month, small_month

from flows.destinations import Receipt
from flows.errors import UsageError
from flows.month import MonthOutcome, steps
from flows.month.flow.limits import concurrency_slot
from flows.parent import etl_parent_flow
from flows.request.runner import Runner
from flows.runners.remote import portable_source, verify_outcome
from flows.runners.worker_flow import ReceiptUnreadable, from_receipt, to_receipt
from flows.settings import _read_settings
from flows.staging import StagedMonth
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.cli import Cli
    from support.postgres import Database

    from flows.staging import QualityReport

JANUARY = TripMonth("yellow", 2021, 1)
STAGED = StagedMonth(
    month=JANUARY,
    path=Path("/of/the/worker/yellow_tripdata_2021-01.parquet"),
    rows=8,
    source_rows=10,
    rejected_rows=1,
    dropped_rows=1,
    rejects_path=Path("/of/the/worker/yellow_tripdata_2021-01.rejects.parquet"),
    source="https://host/yellow.csv.gz",
    source_sha256="00ff",
    schema_version="1.1",
    row_transforms=("drop-zero-passengers",),
    new_columns=("tip é",),
)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("--runner dask", "needs --dask-address"),
        ("--runner dask --dask-address nonsense", "'nonsense' is no address; legal is tcp://HOST:PORT"),
        ("--runner dask --dask-address http://host:80", "is no address"),
        ("--runner deployment --dask-address tcp://host:1", "--dask-address is for --runner dask"),
        ("--dask-address tcp://host:1", "not for --runner threads"),
        ("--runner carrier-pigeon", "'threads', 'direct', 'dask', 'deployment'"),
        ("--runner dask --dask-address tcp://host:1 --to duckdb", "--to duckdb is a file on one machine"),
        ("--runner deployment --to postgres duckdb", "--to postgres, gcs or bigquery"),
    ],
)
def test_a_choice_that_cannot_work_is_one_line_before_anything_starts(cli: Cli, call: str, said: str) -> None:
    to = [] if "--to" in call else ["--to", "postgres"]
    environment = {"TAXI_POSTGRES_URL": "postgresql://localhost/nowhere"}
    result = cli("--color", "yellow", "--months", "1", *call.split(), *to, **environment)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert said in result.err
    assert result.err.count("\n") == 1
    assert not cli.data_dir.exists()


@pytest.mark.parametrize("runner", ["dask", "deployment"])
def test_a_postgres_private_to_this_machine_is_refused(cli: Cli, runner: str) -> None:
    call = ["--color", "yellow", "--months", "1", "--to", "postgres", "--runner", runner]
    call += ["--dask-address", "tcp://host:1"] if runner == "dask" else []
    result = cli(*call, TAXI_POSTGRES_URL="embedded")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "TAXI_POSTGRES_URL=embedded is a server for one machine" in result.err


def test_iceberg_tables_of_this_machine_are_refused(cli: Cli) -> None:
    result = cli("--color", "yellow", "--months", "1", "--to", "iceberg", "--runner", "deployment")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "--to iceberg without TAXI_ICEBERG_CATALOG is a directory on one machine" in result.err


def test_without_a_prefect_server_no_worker_can_be_reached() -> None:
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(UsageError, match="set PREFECT_API_URL"):
        Runner("dask", dask_address="tcp://host:8786").check(["gcs"])


def test_a_flow_run_with_a_bad_choice_is_refused_too(prefect_api_url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="file on one machine"):
        etl_parent_flow("yellow", [1], 2021, ["duckdb"], "synthetic", tmp_path, runner="deployment")


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:8786", "tls://scheduler.example:8786", "host:1", "tcp://[::1]:5"]
)
def test_addresses_that_are_addresses(address: str, prefect_api_url: str) -> None:
    Runner("dask", dask_address=address).check(["gcs"])


@pytest.mark.parametrize(
    ("source", "travels_as"),
    [
        ("dtc", "dtc"),
        ("synthetic", "synthetic"),
        ("https://host/{month:02}.csv", "https://host/{month:02}.csv"),
        ("trips/{month:02}.csv", str(Path.cwd() / "trips" / "{month:02}.csv")),
        ("/mnt/{month:02}.csv", "/mnt/{month:02}.csv"),
    ],
)
def test_a_source_means_the_same_on_every_machine(source: str, travels_as: str) -> None:
    assert portable_source(source) == travels_as


@pytest.mark.parametrize(
    "outcome",
    [
        MonthOutcome(JANUARY, error="yellow 2021-01: there is none"),
        MonthOutcome(
            JANUARY,
            seconds=1.5,
            staged=STAGED,
            receipts={"postgres": Receipt("postgres", 8, "published", 0.25)},
            failures={"gcs": "yellow 2021-01 -> gcs: no such bucket"},
            quality={"negative_fare": 1},
            error="yellow 2021-01 -> gcs: no such bucket",
        ),
    ],
)
def test_an_outcome_travels_as_json_and_comes_back_equal(outcome: MonthOutcome) -> None:
    assert from_receipt(to_receipt(outcome)) == outcome


@pytest.mark.parametrize("receipt", [None, "", "[]", '{"month": {"color": "yellow"}}', b"\x80\x04K\x01."])
def test_a_receipt_that_is_none_is_refused(receipt: Any) -> None:  # noqa: ANN401 - whatever a server may answer
    with pytest.raises(ReceiptUnreadable, match="install the same version"):
        from_receipt(receipt)


def report_of(rows: int) -> MonthOutcome:
    return MonthOutcome(
        JANUARY, staged=STAGED, receipts={"postgres": Receipt("postgres", rows, "published", 1.0)}
    )


def test_a_worker_is_believed_only_as_far_as_the_warehouse_agrees(
    into_postgres: None, postgres: Database, tmp_path: Path, prefect_api_url: str
) -> None:
    lost = verify_outcome(report_of(8), tmp_path)
    assert lost.status == "failed"
    assert "reports 8 rows, but the postgres configured here has nothing of it" in lost.failures["postgres"]
    assert lost.receipts == {}
    (tmp_path / "2021-01.csv.gz").write_bytes(small_month(8))
    etl_parent_flow("yellow", [1], 2021, ["postgres"], str(tmp_path / "{year}-{month:02}.csv.gz"), tmp_path)
    assert verify_outcome(report_of(8), tmp_path).status == "published"
    assert "has 8 rows" in verify_outcome(report_of(9), tmp_path).failures["postgres"]


def test_a_warehouse_that_cannot_be_asked_is_a_failure_and_no_crash(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAXI_POSTGRES_URL", "postgresql://nobody@127.0.0.1:1/none")
    _read_settings.cache_clear()
    outcome = verify_outcome(report_of(8), tmp_path)
    _read_settings.cache_clear()
    assert outcome.status == "failed"
    assert outcome.error
    assert outcome.error.startswith("yellow 2021-01 -> postgres: ")


def test_a_limit_at_the_server_holds_for_all_and_without_one_nothing_waits(prefect_api_url: str) -> None:
    from prefect.client.orchestration import get_client

    assert most_at_once("postgres", wait_seconds=60) == 3
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name("taxi-postgres", 1)
    try:
        assert most_at_once("postgres", wait_seconds=0.3) == 1
        assert most_at_once("duckdb", wait_seconds=60) == 3
    finally:
        delete_limit("taxi-postgres")


def most_at_once(destination: str, *, wait_seconds: float) -> int:
    """How many of three loads go on at the same time; each goes on until all do, or for so long."""
    inside: list[int] = []
    now, lock, all_there, settings = 0, threading.Lock(), threading.Event(), PREFECT_API_URL.value()

    def load() -> None:
        nonlocal now
        with temporary_settings({PREFECT_API_URL: settings}), concurrency_slot(destination):
            with lock:
                now += 1
                inside.append(now)
                if now == 3:
                    all_there.set()
            all_there.wait(wait_seconds)
            with lock:
                now -= 1

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inside) == 3
    return max(inside)


def delete_limit(name: str) -> None:
    import asyncio

    from prefect.client.orchestration import get_client

    async def delete() -> None:
        async with get_client() as client:
            await client.delete_global_concurrency_limit_by_name(name)

    asyncio.run(delete())


@pytest.mark.parametrize("runner", ["threads", "direct"])
def test_a_published_month_does_not_fail_for_its_quality_report(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    def out_of_memory(*_: object) -> QualityReport:
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to pin block of size 200.2 MiB")

    monkeypatch.setattr(steps, "report_quality", out_of_memory)
    call = ["--color", "yellow", "--months", "1", "--source", "synthetic", "--runner", runner]
    result = cli(*call, TAXI_SYNTHETIC_ROWS="500")
    assert (result.code, by_month(result, "status")) == (0, ["published"]), result.err
    assert "yellow 2021-01: published without a quality report (" in result.err
    assert "Traceback" not in result.err
    again = cli(*call, TAXI_SYNTHETIC_ROWS="500")
    assert (again.code, by_month(again, "status")) == (0, ["unchanged"]), again.err
    assert cli.count() == 500
