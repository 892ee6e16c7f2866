"""From the bucket into BigQuery: real clients, a storage emulator, and the strict BigQuery fake."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from google.cloud import bigquery
from support.bigquery import DATASET, client_of, settings_for
from support.destinations import Apart, Months, Place, keep_reading, rows_of
from support.load_job_kills import MOMENTS, die_while_loading
from support.prefect_server import free_port
from support.trips import REAL_MONTHS, assert_equals_pandas, needs_real_trips, read_with_pandas, real_month

from flows.destinations import LEDGER, REJECTS, Load
from flows.destinations.bigquery.load_job import PENDING, LoadJobs
from flows.destinations.gcs.month_object import MonthsInBucket
from flows.errors import (
    DestinationBusy,
    DestinationRefused,
    GateFailed,
    ReconciliationError,
    SchemaDrift,
    SourceCorrupt,
    SourceNotFound,
)
from flows.gcs_to_bq import main
from flows.month import load_from_bucket as load
from flows.runtime import Layout
from flows.settings import Settings, override_settings
from flows.sources import SourceFile, land
from flows.staging import StagingOptions, stage
from flows.status import main as status
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from support.bigquery_fake import BigQueryFake
    from support.gcs import Bucket

    from flows.destinations import Receipt
    from flows.month import MonthOutcome
    from flows.staging import StagedMonth

MONTH = TripMonth("yellow", 2021, 1)
OTHER = TripMonth("yellow", 2021, 2)
FILL = "fill-missing-passengers"


class Cloud:
    """A bucket and a BigQuery that reads it."""

    def __init__(self, bucket: Bucket, bigquery_fake: BigQueryFake, directory: Path) -> None:
        self.bucket, self.fake, self.data_dir = bucket, bigquery_fake, directory
        self.fake.loader.storage_url = bucket.emulator.url
        self.settings = bucket.settings | settings_for(
            bigquery_fake.rest_url, bigquery_fake.grpc_address, bigquery_fake.project
        )

    def upload(self, staged: StagedMonth) -> None:
        Place("gcs", self.data_dir, self.settings).make().publish(staged)

    def load(self, month: TripMonth = MONTH, *transforms: str, force: bool = False) -> MonthOutcome:
        with override_settings(**self.settings):
            return load(month, self.data_dir, StagingOptions(transforms), force=force)

    def receipt(self, month: TripMonth = MONTH, *transforms: str, force: bool = False) -> Receipt:
        return self.load(month, *transforms, force=force).receipts["bigquery"]

    def loaded(self, month: TripMonth = MONTH) -> Load | None:
        return Place("bigquery", self.data_dir, self.settings).make().loaded(month)

    def ledger_counts(self) -> list[int]:
        return [row["row_count"] for row in self.fake.rows(self.table(LEDGER), ["row_count"]).to_pylist()]

    def table(self, name: str = "yellow_taxi_trips") -> Any:  # noqa: ANN401
        return self.fake.catalog.table(DATASET, name)

    def rows(self) -> list[str]:
        table = self.table()
        names = [field.name for field in table.fields]
        return rows_of(self.fake.rows(table, names), names)

    def load_jobs(self) -> list[Any]:
        return [job for job in self.fake.jobs.all() if "load" in job.configuration]

    def sql(self, statement: str) -> None:
        client = client_of(self.fake.rest_url)
        client.query_and_wait(statement)
        client.close()

    def assert_holds(self, *months: StagedMonth) -> None:
        names = [field.name for field in self.table().fields]
        assert self.rows() == sorted(row for m in months for row in rows_of(pq.read_table(m.path), names))
        for staged in months:
            there = self.loaded(staged.month)
            assert there is not None
            assert there == replace(Load.of(staged), loaded_at=there.loaded_at)


@pytest.fixture
def cloud(bucket: Bucket, bigquery_fake: BigQueryFake, tmp_path: Path) -> Iterator[Cloud]:
    before = {job.id for job in bigquery_fake.jobs.all()}
    made = Cloud(bucket, bigquery_fake, tmp_path / "data")
    made.load_jobs = lambda: [  # type: ignore[method-assign] # the jobs of this test
        job for job in bigquery_fake.jobs.all() if "load" in job.configuration and job.id not in before
    ]
    return made


@pytest.mark.usefixtures("prefect_api_url")
def test_the_command_line(
    cloud: Cloud, months: Months, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.upload(months.trips(MONTH))
    summary = tmp_path / "summary.json"
    call = ["--color", "yellow", "--months", "1", "2", "--summary", str(summary)]
    with override_settings(**cloud.settings):
        assert main([*call, "--data-dir", str(cloud.data_dir)]) == 1
    written = json.loads(summary.read_text())["months"]
    assert [month["status"] for month in written] == ["published", "failed"]
    assert written[0]["destinations"]["bigquery"]["rows"] == 50
    assert "upload the month first" in capsys.readouterr().err
    cloud.assert_holds(months.trips(MONTH))


@pytest.mark.usefixtures("prefect_api_url")
def test_the_newest_months_are_those_in_the_bucket(
    cloud: Cloud, months: Months, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for staged in (months.trips(MONTH), months.trips(OTHER, 30)):
        cloud.upload(staged)
    summary = tmp_path / "summary.json"
    call = ["--color", "yellow", "--data-dir", str(cloud.data_dir), "--summary", str(summary)]
    with override_settings(**cloud.settings):
        assert main([*call, "--latest", "1"]) == 0
        assert [month["month"] for month in json.loads(summary.read_text())["months"]] == [2]
        assert main([*call, "--since", "2021-01"]) == 0
        assert [month["status"] for month in json.loads(summary.read_text())["months"]] == [
            "published",
            "unchanged",
        ]
        assert main([*call, "--since", "2021-03"]) == 1
    assert "the bucket has no month of yellow from 2021-03 on" in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_replaced(
    cloud: Cloud, months: Months, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.upload(months.trips(MONTH))
    cloud.upload(months.trips(OTHER, 30))
    cloud.receipt()
    call = ["--color", "yellow", "--data-dir", str(cloud.data_dir), "--dry-run"]
    with override_settings(**cloud.settings):
        assert main([*call, "--since", "2021-01"]) == 0
        plan = capsys.readouterr().out
        assert re.search(r"2021-01 +│ 50 rows +│ nothing: has its 50 rows", plan)
        assert re.search(r"2021-02 +│ 30 rows +│ add the month", plan)
        assert main([*call, "--months", "1-3", "--force"]) == 1
        plan = capsys.readouterr().out
        assert re.search(r"2021-01 +│ 50 rows +│ replace 50 rows", plan)
        assert re.search(r"2021-03 +│ nothing: upload it first", plan)
        assert main([*call, "--months", "1", "--transform", FILL]) == 0
        assert re.search(r"2021-01 +│ 50 rows +│ replace 50 rows", capsys.readouterr().out)
    assert cloud.loaded(OTHER) is None


def test_without_a_bucket_nothing_is_started(
    prefect_api_url: str, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    with override_settings(**(cloud.settings | {"gcs_bucket": None})):
        assert main(["--color", "yellow", "--months", "1", "--data-dir", str(cloud.data_dir)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "TAXI_GCS_BUCKET" in line
    assert not cloud.data_dir.exists()


def test_a_month_is_loaded_by_one_load_job_and_nothing_comes_here(cloud: Cloud, months: Months) -> None:
    staged, other = months.trips(MONTH), months.trips(OTHER, 30)
    cloud.upload(staged)
    cloud.upload(other)
    assert cloud.receipt().status == "published"
    assert cloud.receipt(OTHER).rows == 30
    cloud.assert_holds(staged, other)
    job = cloud.load_jobs()[0].configuration["load"]
    assert job["destinationTable"]["tableId"] == "yellow_taxi_trips$202101"
    assert job["sourceUris"] == [f"gs://{cloud.bucket.name}/data/yellow/yellow_tripdata_2021-01.parquet"]
    assert (job["writeDisposition"], job["createDisposition"]) == ("WRITE_TRUNCATE", "CREATE_NEVER")
    assert [field["name"] for field in job["schema"]["fields"]] == list(MONTH.dataset.types())
    read = sum(seen.kind == "read" for seen in cloud.bucket.front.requests)
    assert read == 4  # the footer, for us and for the destination that uploaded it; never the rows
    assert cloud.table().partitioning == {"type": "MONTH", "field": "file_month"}


def test_status_finds_a_transformed_month_in_order(
    cloud: Cloud, months: Months, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the staged file of the upload lies the one that was transformed: the load is of that one."""
    staged = months.trips(MONTH)
    uploaded = Layout(cloud.data_dir).staged("yellow") / staged.path.name
    uploaded.parent.mkdir(parents=True)
    shutil.copy(staged.path, uploaded)
    cloud.upload(staged)
    cloud.receipt(MONTH, FILL)
    with override_settings(**cloud.settings):
        call = ["--color", "yellow", "--to", "gcs", "bigquery", "--data-dir", str(cloud.data_dir)]
        assert status([*call]) == 0, capsys.readouterr().out
        cloud.upload(months.trips(MONTH, 70))
        cloud.receipt(MONTH, FILL)
        (cloud.data_dir / "gcs_to_bq").rename(cloud.data_dir / "elsewhere")
        assert status([*call]) == 1, "neither of the files"
    assert "gcs 1 differs; bigquery 1 differs" in capsys.readouterr().out


def test_an_unchanged_month_is_left_alone_unless_forced(cloud: Cloud, months: Months) -> None:
    cloud.upload(months.trips(MONTH))
    cloud.receipt()
    assert cloud.receipt().status == "unchanged"
    assert len(cloud.load_jobs()) == 1
    assert cloud.receipt(force=True).status == "published"
    assert len(cloud.load_jobs()) == 2
    cloud.assert_holds(months.trips(MONTH))


def test_a_changed_month_replaces_the_old_one_and_no_other(cloud: Cloud, months: Months) -> None:
    other, corrected = months.trips(OTHER, 20), months.trips(MONTH, 50, first=1000)
    for staged in (months.trips(MONTH), other):
        cloud.upload(staged)
        cloud.receipt(staged.month)
    cloud.upload(corrected)
    assert cloud.receipt().status == "published"
    cloud.assert_holds(corrected, other)


def test_carried_columns_are_added_to_the_table(cloud: Cloud, months: Months) -> None:
    plain, wide = months.trips(MONTH), months.trips(OTHER, 10, new=["tip_note"])
    for staged in (wide, plain):
        cloud.upload(staged)
        cloud.receipt(staged.month)
    assert "tip_note" in [field.name for field in cloud.table().fields]
    [noted] = {row["tip_note"] for row in cloud.fake.rows(cloud.table(), ["tip_note"]).to_pylist()[10:]}
    assert noted is None
    assert [cloud.loaded(month) is not None for month in (MONTH, OTHER)] == [True, True]


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_point_a_rerun_loads_once(cloud: Cloud, months: Months, moment: str) -> None:
    old, new = months.trips(MONTH), months.trips(MONTH, 50, first=500)  # as many rows: the count says nothing
    cloud.upload(old)
    cloud.receipt()
    cloud.upload(new)
    jobs = len(cloud.load_jobs())
    with Apart(die_while_loading, cloud.data_dir, cloud.settings, MONTH, moment) as apart:
        assert apart.wait() == -signal.SIGKILL
    there = cloud.loaded()
    expected = {"after the ledger": new}.get(moment)
    # Never the old row of the ledger over new rows.
    assert (there and there.source_sha256) == (expected and expected.source_sha256)
    assert cloud.receipt().status == ("published" if expected is None else "unchanged")
    cloud.assert_holds(new)
    assert len(cloud.load_jobs()) == jobs + 1


def test_the_answer_to_the_insert_is_lost(cloud: Cloud, months: Months) -> None:
    cloud.upload(months.trips(MONTH))
    cloud.receipt()  # the tables are there
    cloud.fake.fail("jobs.insert", "backendError", nth=2, applied=True)  # that of the ledger comes first
    assert cloud.receipt(force=True).status == "published"
    [lost] = [call for call in cloud.fake.requests if call.outcome == "backendError"]
    again = [c for c in cloud.fake.requests if c.name == "jobs.insert" and c.outcome == "duplicate"]
    assert "load" in lost.body["configuration"]
    assert [call.body for call in again] == [lost.body]
    assert len(cloud.load_jobs()) == 2


def test_the_id_of_a_failed_job_is_used_up(cloud: Cloud, months: Months) -> None:
    cloud.upload(months.trips(MONTH))
    url, cloud.fake.loader.storage_url = cloud.fake.loader.storage_url, None
    with pytest.raises(DestinationBusy):
        cloud.load()
    assert cloud.loaded() is None
    cloud.fake.loader.storage_url = url
    assert cloud.receipt().status == "published"
    first, second = (job.id for job in cloud.load_jobs())
    assert (first[:-1], first[-1], second[-1]) == (second[:-1], "1", "2")
    cloud.assert_holds(months.trips(MONTH))


def test_rows_lost_after_the_job_are_loaded_again(cloud: Cloud, months: Months) -> None:
    """A job that succeeded is believed only if its rows are there."""
    cloud.upload(months.trips(MONTH))
    with Apart(die_while_loading, cloud.data_dir, cloud.settings, MONTH, "before the ledger") as apart:
        apart.wait()
    cloud.sql("DELETE FROM yellow_taxi_trips WHERE VendorID > 10")
    cloud.receipt()
    cloud.assert_holds(months.trips(MONTH))


def test_an_object_replaced_under_way_counts_as_not_loaded(cloud: Cloud, months: Months) -> None:
    old, new = months.trips(MONTH), months.trips(MONTH, first=700)
    cloud.upload(old)
    with override_settings(**cloud.settings):
        settings = Settings(_env_file=None, **cloud.settings)
        source = MonthsInBucket.from_settings(cloud.data_dir, settings)
        found = source.find(MONTH)
        cloud.upload(new)
        jobs = LoadJobs.from_settings(cloud.data_dir, settings)
        with pytest.raises(DestinationBusy, match="was replaced while it was loaded"):
            jobs.load(found, is_current=lambda: source.is_current(found))
    assert cloud.loaded() is None
    assert cloud.receipt().status == "published"
    cloud.assert_holds(new)


def test_two_runs_at_once_leave_one_copy(cloud: Cloud, months: Months, tmp_path: Path) -> None:
    staged = months.trips(MONTH)
    cloud.upload(staged)
    errors: list[BaseException] = []

    def one(at: int) -> None:
        try:
            with override_settings(**cloud.settings):
                load(MONTH, tmp_path / str(at))  # locks of their own, as on two machines
        except DestinationBusy as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(at,)) for at in range(2)]
    with override_settings(**cloud.settings):
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert len(errors) < 2
    cloud.assert_holds(staged)


def test_the_ledger_conflicts_and_is_tried_again(cloud: Cloud, months: Months) -> None:
    cloud.upload(months.trips(MONTH))
    cloud.fake.abort_transactions(2)
    cloud.receipt()
    cloud.assert_holds(months.trips(MONTH))


def test_a_table_of_another_shape_is_refused_and_untouched(cloud: Cloud, months: Months) -> None:
    cloud.upload(months.trips(MONTH))
    client = client_of(cloud.fake.rest_url)
    client.create_dataset(DATASET)
    wrong = [bigquery.SchemaField("VendorID", "STRING"), bigquery.SchemaField("file_month", "DATE")]
    client.create_table(bigquery.Table(f"{cloud.fake.project}.{DATASET}.yellow_taxi_trips", wrong))
    client.close()
    with pytest.raises(SchemaDrift, match="VendorID is STRING, not INT64"):
        cloud.load()
    assert cloud.load_jobs() == []


def test_what_is_not_in_the_bucket(cloud: Cloud) -> None:
    with pytest.raises(SourceNotFound, match=r"upload the month first: taxi-etl web-to-gcs --color yellow"):
        cloud.load()


def test_an_object_that_was_changed_by_hand(cloud: Cloud, months: Months) -> None:
    cloud.upload(months.trips(MONTH))
    name = "data/yellow/yellow_tripdata_2021-01.parquet"
    cloud.bucket.write(name, months.trips(MONTH, first=9).path.read_bytes())
    with pytest.raises(SourceCorrupt, match="does not say what it was made from"):
        cloud.load()


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("quotaExceeded", DestinationRefused),
        ("accessDenied", DestinationRefused),
        ("invalid", DestinationRefused),
    ],
)
def test_refusals_are_one_line(cloud: Cloud, months: Months, reason: str, error: type[Exception]) -> None:
    cloud.upload(months.trips(MONTH))
    cloud.fake.fail("jobs.insert", reason, times=1000)
    with pytest.raises(error) as raised:
        cloud.load()
    assert "\n" not in str(raised.value)
    assert reason in str(raised.value)


def test_the_job_counts_other_rows(cloud: Cloud, months: Months, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.upload(months.trips(MONTH))
    monkeypatch.setattr(bigquery.LoadJob, "output_rows", 49)
    with pytest.raises(ReconciliationError, match="has 50 rows, the load job counts 49"):
        cloud.load()
    assert cloud.ledger_counts() == [PENDING]
    assert cloud.loaded() is None


def test_with_a_transform_the_rows_come_here(cloud: Cloud, months: Months) -> None:
    staged = months.trips(MONTH)
    cloud.upload(staged)
    assert cloud.receipt(MONTH, FILL).status == "published"
    table = pq.read_table(staged.path)
    filled = [0 if value is None else value for value in table["passenger_count"].to_pylist()]
    assert filled != table["passenger_count"].to_pylist()
    found = cloud.fake.rows(cloud.table(), ["passenger_count", "VendorID"]).to_pylist()
    assert [row["passenger_count"] for row in found] == filled
    assert [row["VendorID"] for row in found] == table["VendorID"].to_pylist()
    there = cloud.loaded()
    assert there
    assert there.row_transforms == FILL
    assert cloud.load_jobs() == []
    downloads = len(cloud.bucket.front.requests)
    assert cloud.receipt(MONTH, FILL).status == "unchanged"
    assert [seen.kind for seen in cloud.bucket.front.requests[downloads:]] == ["object", "read", "list"]
    assert cloud.receipt().status == "published"  # without the transform it is other data
    cloud.assert_holds(staged)


@pytest.mark.parametrize("transforms", [(), (FILL,)], ids=["load job", "transformed here"])
def test_rejects_come_along_and_are_replaced(
    cloud: Cloud, months: Months, transforms: tuple[str, ...]
) -> None:
    many, one = months.with_rejects(MONTH, b"1,2", b"NUL \0", b"\xff"), months.with_rejects(MONTH, b"?")
    for staged in (many, one):
        cloud.upload(staged)
        assert cloud.receipt(MONTH, *transforms).status == "published"
        found = cloud.fake.rows(
            cloud.table(REJECTS), ["dataset", "file_month", "line_number", "text", "reason"]
        )
        rejects = pq.read_table(staged.rejects_path).rename_columns(["line_number", "text", "reason"])
        assert found.select(rejects.column_names).sort_by("line_number") == rejects
        assert set(found["dataset"].to_pylist()) == {"yellow"}
        assert set(found["file_month"].to_pylist()) == {MONTH.first_day}
        assert cloud.loaded().rejected_rows == staged.rejected_rows
        assert cloud.receipt(MONTH, *transforms).status == "unchanged"


def test_a_month_that_cannot_be_right_is_not_loaded(cloud: Cloud, months: Months) -> None:
    good = months.with_rejects(MONTH, b"?")
    cloud.upload(replace(good, odd=(("pickup_outside_month", 0),)))
    cloud.load()
    odd = replace(good, odd=(("pickup_outside_month", 900),), source_sha256="f" * 64)
    cloud.upload(odd)
    with pytest.raises(GateFailed, match=r"pickup_outside_month 0\.9 > 0\.5.*--accept pickup_outside_month"):
        cloud.load()
    assert cloud.loaded().source_sha256 == good.source_sha256
    with override_settings(**cloud.settings):
        accepted = load(MONTH, cloud.data_dir, StagingOptions(accept=("pickup_outside_month",)))
    assert accepted.to_json()["warnings"][0] == "pickup_outside_month 0.9 > 0.5"
    assert cloud.loaded().warnings.startswith("pickup_outside_month 0.9 > 0.5")
    assert cloud.receipt().status == "unchanged"


def test_an_object_without_counts_is_measured_here(cloud: Cloud, months: Months) -> None:
    outside = months.outside(MONTH)
    cloud.upload(outside)
    with pytest.raises(GateFailed, match=r"pickup_outside_month 0\.999 > 0\.5"):
        cloud.load()
    assert not list((cloud.data_dir / "gcs_to_bq").rglob("*.parquet"))


@needs_real_trips
def test_real_months_equal_an_independent_reading(cloud: Cloud, tmp_path: Path) -> None:
    settings, made = Settings(_env_file=None), tmp_path / "staged"
    expected: list[pd.DataFrame] = []
    for number in REAL_MONTHS:
        month, packed = TripMonth("yellow", 2019, number), real_month(number)
        source = tmp_path / f"{month.stem}.csv.gz"
        source.write_bytes(packed)
        landed = land(SourceFile(source.as_uri(), source.name), tmp_path / "raw", settings)
        cloud.upload(stage(landed, month, made, StagingOptions()))
        expected.append(read_with_pandas(packed, ["tpep_pickup_datetime", "tpep_dropoff_datetime"]))
        assert cloud.receipt(month).rows == len(expected[-1])
    table = cloud.table()
    found = cloud.fake.rows(table, [field.name for field in table.fields]).to_pandas(
        integer_object_nulls=True
    )
    assert_equals_pandas(found, pd.concat(expected, ignore_index=True))
    assert found["file_month"].map(lambda day: day.month).tolist() == [
        number for number, frame in enumerate(expected, start=1) for _ in range(len(frame))
    ]


def test_a_reader_sees_the_old_month_or_the_new_one(cloud: Cloud, months: Months) -> None:
    small, large = months.trips(MONTH, 40), months.trips(MONTH, 90, first=40)
    cloud.upload(small)
    cloud.receipt()
    question = "SELECT count(*), min(VendorID) FROM yellow_taxi_trips"

    @contextlib.contextmanager
    def reader() -> Generator[Callable[[], object]]:
        with contextlib.closing(client_of(cloud.fake.rest_url)) as client:
            yield lambda: tuple(next(iter(client.query_and_wait(question))).values())

    with keep_reading(reader) as readers:
        for staged in (large, small, large):
            cloud.upload(staged)
            cloud.receipt()
    first = {
        (m.rows, min(v for v in pq.read_table(m.path)["VendorID"].to_pylist() if v is not None))
        for m in (small, large)
    }
    assert readers.seen().keys() == first


def test_no_way_to_bigquery_is_one_line_soon(cloud: Cloud, months: Months) -> None:
    cloud.upload(months.trips(MONTH))
    cloud.settings |= {"bigquery_emulator_host": f"http://127.0.0.1:{free_port()}"}
    started = time.perf_counter()
    with pytest.raises(DestinationRefused, match="no connection to BigQuery") as raised:
        cloud.load()
    assert time.perf_counter() - started < 15
    assert "\n" not in str(raised.value)
    assert "BIGQUERY_EMULATOR_HOST" in str(raised.value)
