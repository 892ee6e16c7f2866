"""The bucket: what an object is, what its metadata says, and who can read it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from prefect_gcp import GcpCredentials, GcsBucket
from support.destinations import Apart, assert_holds
from support.gcs import GRAIN_BYTES
from support.gcs_harness import SMALL_CHUNK_BYTES, GcsHarness, publish_in_small_chunks
from support.trips import (
    REAL_MONTHS,
    REAL_YELLOW,
    assert_equals_pandas,
    needs_real_trips,
    read_with_pandas,
    real_month,
)

from flows.destinations import Load
from flows.destinations.gcs import destination as gcs
from flows.destinations.gcs import upload as gcs_upload
from flows.destinations.gcs.destination import Gcs, bucket_and_folder
from flows.destinations.gcs.ledger import CONTENT_CRC32C, LONGEST_SOURCE, to_metadata
from flows.errors import ReconciliationError, UsageError
from flows.settings import Settings
from flows.sources import SourceFile, land
from flows.staging import StagingOptions, stage
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from support.destinations import Months
    from support.gcs import Bucket

JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
NAME = "data/yellow/yellow_tripdata_2021-01.parquet"
MANY_ROWS = 150_000


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> GcsHarness:
    return GcsHarness(tmp_path / "data", request)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs_upload, "CHUNK_BYTES", SMALL_CHUNK_BYTES)


# The object


def test_the_object_is_the_staged_file_under_its_fixed_name(
    harness: GcsHarness, bucket: Bucket, months: Months
) -> None:
    staged = months.trips(JANUARY)
    harness.make().publish(staged)
    assert bucket.names() == {NAME}
    assert bucket.read(NAME) == staged.path.read_bytes()
    resource = bucket.resource(NAME)
    assert resource
    assert resource["contentType"] == "application/vnd.apache.parquet"


@pytest.mark.parametrize("folder", ["de/zoomcamp", "zoom camp+größe&50%=1"])
def test_a_folder_is_put_before_the_name(
    harness: GcsHarness, bucket: Bucket, months: Months, folder: str
) -> None:
    settings = Settings(_env_file=None, **bucket.settings, gcs_folder=f"/{folder}/")
    made = Gcs.from_settings(harness.place.data_dir, settings)
    assert made.publish(months.trips(JANUARY)).status == "published"
    assert made.publish(months.trips(JANUARY)).status == "unchanged"
    assert bucket.names() == {f"{folder}/{NAME}"}
    assert [one.rows for one in made.holdings(JANUARY.dataset)] == [50]


def test_a_large_month_goes_in_chunks_each_byte_once(
    harness: GcsHarness, bucket: Bucket, months: Months, small_chunks: None
) -> None:
    staged, seen = months.synthetic(JANUARY, MANY_ROWS), []
    size = staged.path.stat().st_size
    assert size > 4 * SMALL_CHUNK_BYTES

    receipt = harness.make().publish(staged, report=lambda done, total: seen.append((done, total)))

    assert receipt.rows == MANY_ROWS
    chunks = [request.body_bytes for request in bucket.front.requests if request.kind == "chunk"]
    assert sum(chunks) == size
    assert set(chunks[:-1]) == {SMALL_CHUNK_BYTES}
    assert bucket.front.kinds() == ["object", "begin", *["chunk"] * len(chunks), "read"]
    assert bucket.read(NAME) == staged.path.read_bytes()
    assert [total for _, total in seen] == [MANY_ROWS] * len(chunks)
    assert seen == sorted(set(seen)), "the bytes that have arrived, as rows"
    assert seen[-1] == (MANY_ROWS, MANY_ROWS)


def test_an_upload_never_has_the_whole_file_in_memory(harness: GcsHarness, months: Months) -> None:
    staged = months.synthetic(JANUARY, MANY_ROWS)
    with Apart(publish_in_small_chunks, harness.place, staged) as process:
        process.hear()
        receipt, peak_bytes = process.hear()
    assert receipt.rows == staged.rows
    # A chunk, its copy in the HTTP client, a piece for the checksum, and what everybody needs.
    assert peak_bytes < 7 * SMALL_CHUNK_BYTES
    assert staged.path.stat().st_size > 10 * SMALL_CHUNK_BYTES


def test_chunks_are_what_google_accepts() -> None:
    assert gcs_upload.CHUNK_BYTES % GRAIN_BYTES == 0


def test_only_metadata_is_asked_for_an_unchanged_month(
    harness: GcsHarness, bucket: Bucket, months: Months
) -> None:
    harness.make().publish(months.trips(JANUARY))
    before = bucket.resource(NAME)
    bucket.front.heal()
    assert harness.make().publish(months.trips(JANUARY)).status == "unchanged"
    assert bucket.front.kinds() == ["object"]
    assert bucket.resource(NAME) == before


def test_the_rows_are_counted_in_the_object(
    harness: GcsHarness, bucket: Bucket, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = io.BytesIO()
    pq.write_table(pq.read_table(months.trips(FEBRUARY, 20).path), other)
    bucket.front.misbehave("read", status=206, body=other.getvalue())
    with pytest.raises(ReconciliationError, match="50 rows staged, 20 counted in gs://"):
        harness.make().publish(months.trips(JANUARY))
    bucket.front.misbehave("read", status=206, body=b"x" * 100)
    with pytest.raises(ReconciliationError, match="cannot be read as Parquet"):
        harness.make().publish(months.trips(JANUARY), force=True)
    monkeypatch.setattr(gcs, "FOOTER_BYTES", 64)
    assert harness.make().publish(months.trips(JANUARY), force=True).rows == 50
    assert bucket.front.kinds()[-2:] == ["read", "read"], "a footer that is longer is read as a whole"


@needs_real_trips
def test_real_months_equal_an_independent_reading(
    harness: GcsHarness, bucket: Bucket, tmp_path: Path
) -> None:
    settings = Settings(_env_file=None)
    for number in REAL_MONTHS:
        month = TripMonth("yellow", 2019, number)
        source = REAL_YELLOW / f"{month.stem}.csv.gz"
        landed = land(SourceFile(source.as_uri(), source.name), tmp_path / "raw", settings)
        staged = stage(landed, month, tmp_path / "staged", StagingOptions())
        assert harness.make().publish(staged).rows == 10_000
    assert len(bucket.names()) == len(REAL_MONTHS)
    for number in REAL_MONTHS:
        content = bucket.read(f"data/yellow/yellow_tripdata_2019-{number:02}.parquet")
        expected = read_with_pandas(real_month(number), ["tpep_pickup_datetime", "tpep_dropoff_datetime"])
        assert_equals_pandas(pd.read_parquet(io.BytesIO(content)), expected)


# The ledger in its metadata


def test_content_and_metadata_are_written_in_one_request(
    harness: GcsHarness, bucket: Bucket, months: Months
) -> None:
    staged = months.trips(JANUARY)
    harness.make().publish(staged)
    assert "PATCH" not in {request.method for request in bucket.front.requests}
    resource: Any = bucket.resource(NAME)
    assert resource["metageneration"] == "2", "set by the emulator when it takes the upload, and never again"
    noted = resource["metadata"]
    assert noted["source_sha256"] == staged.source_sha256
    assert noted["row_count"] == "50"
    assert noted["file_month"] == "2021-01-01"
    assert noted[CONTENT_CRC32C] == resource["crc32c"]


def test_metadata_stays_below_googles_limit(months: Months) -> None:
    load = replace(Load.of(months.trips(JANUARY)), source="gs://" + "ü" * 9000)
    noted = to_metadata(load, "AAAAAA==")
    assert len(noted["source"]) == LONGEST_SOURCE
    assert len(json.dumps(noted, ensure_ascii=False).encode()) < 8192


@pytest.mark.parametrize("case", ["foreign", "of another month", "changed content", "damaged ledger"])
def test_an_object_that_is_not_what_we_wrote_is_loaded_again(
    harness: GcsHarness, bucket: Bucket, months: Months, case: str
) -> None:
    staged, other = months.trips(JANUARY), months.trips(FEBRUARY)
    client = google_client(bucket)
    blob = client.bucket(bucket.name).blob(NAME)
    load = Load.of(other if case == "of another month" else staged)
    if case == "foreign":
        bucket.write(NAME, b"somebody else's")
    else:
        harness.make().publish(staged)
        blob.reload()
        crc32c = "AAAAAA==" if case == "changed content" else str(blob.crc32c)
        noted = to_metadata(load, crc32c)
        blob.metadata = {**noted, "row_count": "many"} if case == "damaged ledger" else noted
        blob.patch()
    assert harness.make().loaded(JANUARY) is None
    assert harness.make().publish(staged).status == "published"
    assert_holds(harness, staged)


def test_a_listing_has_every_month_whatever_else_is_there(
    harness: GcsHarness, bucket: Bucket, months: Months
) -> None:
    there = [TripMonth("yellow", 2021, number) for number in (3, 1, 2)]
    for month in there:
        harness.make().publish(months.trips(month))
    bucket.write("data/yellow/yellow_tripdata_2021-04.parquet", b"somebody else's")
    for name in (
        "yellow_tripdata_2021-13.parquet",
        "yellow_tripdata_2021-05.csv",
        "x/yellow_tripdata_2021-06",
    ):
        bucket.write(f"data/yellow/{name}", b"of no interest")
    blob = google_client(bucket).bucket(bucket.name).get_blob(NAME)
    assert blob
    blob.metadata = {**blob.metadata, CONTENT_CRC32C: "AAAAAA=="}
    blob.patch()
    bucket.front.heal()
    bucket.front.page_size = 2

    found = harness.make().holdings(JANUARY.dataset)

    assert bucket.front.kinds() == ["list"] * 4
    assert [(one.file_month.month, one.rows, one.load is not None) for one in found] == [
        (1, None, True),
        (2, 50, True),
        (3, 50, True),
        (4, None, False),
    ]
    assert [one.reconciles for one in found] == [False, True, True, False]


# Others read it


def google_client(bucket: Bucket) -> storage.Client:
    return storage.Client(
        "emulator", AnonymousCredentials(), client_options={"api_endpoint": bucket.emulator.url}
    )


def test_googles_own_client_reads_it(harness: GcsHarness, bucket: Bucket, months: Months) -> None:
    staged = months.trips(JANUARY)
    harness.make().publish(staged)
    blob = google_client(bucket).bucket(bucket.name).get_blob(NAME)
    assert blob is not None
    assert blob.metadata["source"] == staged.source
    content = blob.download_as_bytes(checksum="crc32c")
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(content)), pd.read_parquet(staged.path))


class AnonymousGcp(GcpCredentials):
    """Prefect's block for an emulator: the block itself cannot be made without a key."""

    _block_type_name = "Anonymous GCP"

    def get_credentials_from_service_account(self) -> Any:  # noqa: ANN401
        return AnonymousCredentials()


def test_prefects_bucket_block_reads_it(
    harness: GcsHarness, bucket: Bucket, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = months.trips(JANUARY)
    harness.make().publish(staged)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket.emulator.url)
    block = GcsBucket(bucket=bucket.name, gcp_credentials=AnonymousGcp(project="emulator"))
    assert block.read_path(NAME) == staged.path.read_bytes()


# What it is made from


def test_without_a_bucket_every_place_that_was_tried_is_listed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"TAXI_GCS_BUCKET, the same in \.env, the Prefect block de-gcs"):
        Gcs.from_settings(tmp_path, Settings(_env_file=None, storage_emulator_host="http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("bucket", "folder", "expected"),
    [
        ("a-bucket", "", ("a-bucket", "")),
        ("gs://a-bucket/", "/x/y/", ("a-bucket", "x/y/")),
        ("a.b_c-1", "größe 1", ("a.b_c-1", "größe 1/")),
    ],
)
def test_ways_to_name_a_bucket(bucket: str, folder: str, expected: tuple[str, str]) -> None:
    assert bucket_and_folder(Settings(_env_file=None, gcs_bucket=bucket, gcs_folder=folder)) == expected


@pytest.mark.parametrize(
    ("bucket", "folder", "said"),
    [
        ("A-Bucket", "", "'A-Bucket' cannot be a bucket"),
        ("gs://a-bucket/folder", "", "TAXI_GCS_FOLDER"),
        ("ab", "", "3 to 63"),
        ("a-bucket", "a//b", "TAXI_GCS_FOLDER='a//b'"),
        ("a-bucket", "../b", "cannot be a folder"),
        ("a-bucket", "a\nb", "cannot be a folder"),
        ("a-bucket", "a#1", "cannot be a folder"),
    ],
)
def test_what_cannot_be_a_bucket_is_refused_before_anything(bucket: str, folder: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        bucket_and_folder(Settings(_env_file=None, gcs_bucket=bucket, gcs_folder=folder))
    assert said in refused.value.message


def test_an_emulators_address_needs_no_scheme(harness: GcsHarness, bucket: Bucket, months: Months) -> None:
    where = bucket.front.url.removeprefix("http://")
    settings = Settings(_env_file=None, **{**bucket.settings, "storage_emulator_host": where})
    assert Gcs.from_settings(harness.place.data_dir, settings).publish(months.trips(JANUARY)).rows == 50
