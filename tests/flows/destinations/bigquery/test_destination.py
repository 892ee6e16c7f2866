"""What is particular to BigQuery: settings, names, shapes, and the same months on another server."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from google.api_core import exceptions as google_errors
from google.cloud import bigquery as official
from google.cloud.bigquery_storage_v1 import BigQueryReadClient, types
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport
from support.bigquery import client_of, settings_for
from support.bigquery_harness import BigQueryHarness
from support.destinations import Place, assert_holds, rows_of
from support.trips import REAL_MONTHS, assert_equals_pandas, needs_real_trips, read_with_pandas, real_month

from flows.destinations import LEDGER, REJECTS, Load, make_destination
from flows.destinations.bigquery.connection import emulator_endpoints
from flows.destinations.bigquery.errors import to_taxi_error
from flows.destinations.bigquery.tables import literal
from flows.errors import DestinationBusy, DestinationRefused, SchemaDrift, UsageError
from flows.settings import Settings
from flows.sources import SourceFile, land
from flows.staging import StagingOptions, stage
from transforms.dataset import FILE_MONTH
from transforms.datasets import DATASETS
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import pandas as pd
    from support.bqemulator import BqEmulator
    from support.destinations import Months

    from flows.staging import StagedMonth

pytestmark = pytest.mark.xdist_group("bqemulator")

JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
TABLE = JANUARY.dataset.table


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> BigQueryHarness:
    """BigQuery, empty."""
    return BigQueryHarness(tmp_path / "data", request)


# Settings


def _made(tmp_path: Path, **settings: Any) -> object:  # noqa: ANN401
    return make_destination("bigquery", tmp_path, Settings(_env_file=None, **settings))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bigquery_emulator_host": "localhost:9050"}, "BIGQUERY_STORAGE_EMULATOR_HOST is not set"),
        ({"bigquery_storage_emulator_host": "localhost:9060"}, "BIGQUERY_EMULATOR_HOST is not set"),
        ({"bigquery_dataset": "trips-data"}, "TAXI_BIGQUERY_DATASET='trips-data'"),
        ({"gcp_key_file": "/not/there.json"}, "TAXI_GCP_KEY_FILE"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        _made(tmp_path, **settings)


def test_without_credentials_every_place_that_was_tried_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(UsageError, match=r"TAXI_GCP_KEY_FILE.*gcp-credentials.*BIGQUERY_EMULATOR_HOST"):
        _made(tmp_path)


@pytest.mark.parametrize("rest", ["127.0.0.1:1", "http://127.0.0.1:1", "http://127.0.0.1:1/"])
@pytest.mark.parametrize("storage", ["127.0.0.1:2", "http://127.0.0.1:2/"])
def test_endpoints_with_and_without_a_scheme(rest: str, storage: str) -> None:
    assert emulator_endpoints(rest, storage) == ("http://127.0.0.1:1", "127.0.0.1:2")


# What BigQuery says


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (google_errors.BadRequest("x", errors=[{"reason": "invalidQuery", "message": "no"}]), "R", "no"),
        (google_errors.Forbidden("x", errors=[{"reason": "rateLimitExceeded"}]), "B", "rateLimit"),
        (google_errors.Forbidden("x", errors=[{"reason": "billingNotEnabled"}]), "R", "enable billing"),
        (google_errors.ServiceUnavailable("x"), "B", "UNAVAILABLE"),
        (google_errors.RetryError("deadline", google_errors.Forbidden("no way")), "R", "no way"),
        (google_errors.MethodNotImplemented("what"), "R", "what"),
    ],
)
def test_refusals(error: Exception, kind: str, said: str) -> None:
    made = to_taxi_error(error)
    assert isinstance(made, DestinationBusy if kind == "B" else DestinationRefused)
    assert said in made.message


# Tables


def test_a_new_table_is_partitioned_clustered_and_described(harness: BigQueryHarness, months: Months) -> None:
    harness.make().publish(months.trips(JANUARY, new=["tip_jar"]))
    with contextlib.closing(client_of(harness.server.rest_url)) as client:
        table = client.get_table(f"trips_data_all.{TABLE}")
        assert client.get_dataset("trips_data_all").location == "US"
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", FILE_MONTH)
    assert table.clustering_fields == ["PULocationID"]
    described = {field.name: field.description for field in table.schema}
    expected = {field["name"]: field["description"] for field in JANUARY.dataset.bigquery_schema()}
    assert {**described, **expected} == described
    assert [field.name for field in table.schema if field.mode == "REQUIRED"] == [FILE_MONTH]
    assert table.expires is None


@pytest.mark.parametrize(
    ("partitioning", "clustering", "said"),
    [
        (None, ["PULocationID"], "not partitioned by MONTH(file_month)."),
        ("DAY", ["PULocationID"], "not partitioned by MONTH(file_month), but by DAY(file_month)"),
        ("MONTH", None, "not clustered by PULocationID."),
        (
            "MONTH",
            ["VendorID", "PULocationID"],
            "not clustered by PULocationID, but by VendorID, PULocationID",
        ),
    ],
)
def test_another_layout_is_refused(
    harness: BigQueryHarness,
    months: Months,
    partitioning: str | None,
    clustering: list[str] | None,
    said: str,
) -> None:
    schema = [official.SchemaField.from_api_repr(one) for one in JANUARY.dataset.bigquery_schema()]
    schema.append(official.SchemaField("tips", "INTEGER", "REQUIRED"))
    with contextlib.closing(client_of(harness.server.rest_url)) as client:
        client.create_dataset("trips_data_all")
        table = official.Table(f"{harness.server.project}.trips_data_all.{TABLE}", schema)
        if partitioning:
            table.time_partitioning = official.TimePartitioning(partitioning, FILE_MONTH)
        table.clustering_fields = clustering
        client.create_table(table)
    with pytest.raises(SchemaDrift) as refused:
        harness.make().publish(months.trips(JANUARY))
    assert said.rstrip(".") in refused.value.message
    assert "tips takes no null" in refused.value.message
    assert "\n" not in refused.value.message
    assert harness.tables() == {TABLE}


def test_names_that_differ_in_case_only_are_one_column(harness: BigQueryHarness, months: Months) -> None:
    harness.make().publish(months.trips(JANUARY, new=["Tip_Jar"]))
    harness.make().publish(months.trips(FEBRUARY, new=["tip_jar"]))
    found = harness.read(TABLE)
    assert [name for name in found.column_names if name.lower() == "tip_jar"] == ["Tip_Jar"]
    assert found["Tip_Jar"].null_count == 0
    assert harness.make().publish(months.trips(FEBRUARY, new=["tip_jar"])).status == "unchanged"


def test_a_ledger_that_lacks_a_column_grows(harness: BigQueryHarness, months: Months) -> None:
    harness.make().publish(months.trips(JANUARY))
    harness.execute(f"DROP TABLE {LEDGER}")
    harness.execute(f"CREATE TABLE {LEDGER} (dataset STRING, {FILE_MONTH} DATE, row_count INT64)")
    assert harness.make().publish(months.trips(JANUARY)).status == "published"
    assert_holds(harness, months.trips(JANUARY))


def test_a_file_with_other_types_than_the_table_is_refused(
    harness: BigQueryHarness, months: Months, tmp_path: Path
) -> None:
    staged = months.trips(JANUARY)
    table = pq.read_table(staged.path)
    at = table.column_names.index("VendorID")
    other = tmp_path / "other.parquet"
    pq.write_table(table.set_column(at, "VendorID", table["VendorID"].cast("double")), other)
    with pytest.raises(SchemaDrift, match="VendorID is INT64, in the file FLOAT64"):
        harness.make().publish(replace(staged, path=other))
    assert not [call for call in harness.server.requests if call.name == "AppendRows"]


@pytest.mark.parametrize(
    "value",
    ["", "it's", 'say "no"', "back\\slash", "\\'", "new\nline\r\t\x00\x7f", "größe 数量 😀", "%s @x ?", -7],
)
def test_literals_come_back_as_they_were(harness: BigQueryHarness, value: str | int) -> None:
    with harness.reader() as query:
        assert query(f"SELECT {literal(value)}, 1") == [(value, 1)]


def test_literals_of_days_and_moments_come_back(harness: BigQueryHarness) -> None:
    moment = dt.datetime(2021, 1, 2, 3, 4, 5, 678901, tzinfo=dt.timezone(dt.timedelta(hours=-5)))
    with harness.reader() as query:
        assert query(f"SELECT {literal(moment)}, {literal(moment.date())}") == [(moment, moment.date())]


# The same on bqemulator


class Emulated:
    """A dataset of its own on bqemulator, read by the official client."""

    def __init__(self, emulator: BqEmulator, directory: Path) -> None:
        self.dataset = f"trips_{secrets.token_hex(4)}"
        settings = settings_for(emulator.rest_url, emulator.grpc_address)
        self.place = Place("bigquery", directory, settings | {"bigquery_dataset": self.dataset})
        self.client = client_of(emulator.rest_url)
        channel = grpc.insecure_channel(emulator.grpc_address, [("grpc.max_receive_message_length", -1)])
        self.reader = BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))

    def read(self, table: str) -> pa.Table:
        """Every row, by the Storage Read API: by REST it takes ten times as long."""
        asked = types.ReadSession(
            table=f"projects/taxi-test/datasets/{self.dataset}/tables/{table}",
            data_format=types.DataFormat.ARROW,
        )
        session = self.reader.create_read_session(
            parent="projects/taxi-test", read_session=asked, max_stream_count=1
        )
        schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
        batches = [
            pa.ipc.read_record_batch(pa.py_buffer(part.arrow_record_batch.serialized_record_batch), schema)
            for stream in session.streams
            for part in self.reader.read_rows(stream.name)
        ]
        return pa.Table.from_batches(batches, schema)

    def close(self) -> None:
        self.client.close()
        self.reader.transport.close()

    def tables(self) -> set[str]:
        return {table.table_id for table in self.client.list_tables(self.dataset)}


@pytest.fixture
def emulated(bqemulator: BqEmulator, tmp_path: Path) -> Generator[Emulated]:
    """An empty dataset."""
    made = Emulated(bqemulator, tmp_path / "data")
    with contextlib.closing(made):
        yield made


def _assert_there(emulated: Emulated, *months: StagedMonth) -> None:
    table = months[0].month.dataset.table
    found = emulated.read(table)
    staged = [pq.read_table(month.path) for month in months]
    assert {one.name: one.type for one in found.schema} == {
        one.name: one.type for part in staged for one in part.schema
    }
    expected = sorted(row for part in staged for row in rows_of(part, found.column_names))
    assert rows_of(found, found.column_names) == expected
    for month in months:
        load = emulated.place.make().loaded(month.month)
        assert load is not None
        assert replace(load, loaded_at=None) == replace(Load.of(month), loaded_at=None)
    assert emulated.tables() == {table, LEDGER, REJECTS}


@pytest.mark.parametrize("color", DATASETS)
def test_every_dataset_on_bqemulator(emulated: Emulated, months: Months, color: str) -> None:
    staged = months.synthetic(TripMonth(color, 2021, 1), 500)
    assert emulated.place.make().publish(staged).rows == 500
    _assert_there(emulated, staged)
    assert emulated.place.make().publish(staged).status == "unchanged"


def test_a_month_is_replaced_on_bqemulator(emulated: Emulated, months: Months) -> None:
    # Without new columns: an ALTER TABLE of its changes the rows' table and not what it says of it.
    old, new = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    other = months.trips(FEBRUARY)
    for staged in (old, other, new):
        assert emulated.place.make().publish(staged).status == "published"
    _assert_there(emulated, new, other)
    holdings = emulated.place.make().holdings(JANUARY.dataset)
    assert [(one.file_month, one.rows, one.reconciles) for one in holdings] == [
        (JANUARY.first_day, 80, True),
        (FEBRUARY.first_day, 50, True),
    ]


@needs_real_trips
def test_real_months_on_bqemulator(emulated: Emulated, tmp_path: Path) -> None:
    months = [TripMonth("yellow", 2019, number) for number in REAL_MONTHS]
    for month in months:
        source = tmp_path / f"{month.stem}.csv.gz"
        source.write_bytes(real_month(month.month))
        landed = land(SourceFile(source.as_uri(), source.name), tmp_path / "raw", Settings(_env_file=None))
        assert emulated.place.make().publish(stage(landed, month, tmp_path, StagingOptions())).rows == 10_000
    found = emulated.read(TABLE)
    assert found.num_rows == 10_000 * len(months)
    for month in months:
        timestamps = ["tpep_pickup_datetime", "tpep_dropoff_datetime"]
        expected = read_with_pandas(real_month(month.month), timestamps)
        ours = found.filter(pc.field(FILE_MONTH) == pa.scalar(month.first_day)).to_pandas()
        assert_equals_pandas(_sorted(ours, expected), _sorted(expected, expected))


def _sorted(frame: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    """Rows in an order of their own: a warehouse has none."""
    return frame.sort_values(list(like.columns), ignore_index=True)


def test_no_message_carries_an_address_with_a_secret() -> None:
    error = google_errors.Forbidden(
        "GET https://x.test/?key=secret: no", errors=[{"message": "Access Denied"}]
    )
    assert "secret" not in re.sub(r"\s", "", to_taxi_error(error).message)
