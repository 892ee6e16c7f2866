"""Load jobs of the strict BigQuery fake whose file comes with them, as the official clients send it."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core import exceptions as google_errors
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from support.bigquery import client_of
from support.bigquery_fake.uploads import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.bigquery_fake import BigQueryFake

TABLE = "taxi-test.trips.yellow"
FIELDS = [
    bigquery.SchemaField("zone", "INT64"),
    bigquery.SchemaField("fare", "FLOAT64"),
    bigquery.SchemaField("note", "STRING"),
    bigquery.SchemaField("pickup", "DATETIME"),
    bigquery.SchemaField("shared", "BOOL"),
    bigquery.SchemaField("file_month", "DATE", "REQUIRED"),
]
PICKUP = dt.datetime.fromisoformat("2021-01-01 01:02:03.456789")
MIDNIGHT = dt.datetime.fromisoformat("2021-01-01 00:00:00")
HALF_PAST = dt.datetime.fromisoformat("2021-01-01 01:02:03.5")
JANUARY = dt.date(2021, 1, 1)
ROW = "1,0.25,x,2021-01-01 01:02:03.456789,true,2021-01-01\n"
VALUES = (1, 0.25, "x", PICKUP, True, JANUARY)
UPLOADS = "/upload/bigquery/v2/projects/taxi-test/jobs"


@pytest.fixture
def client(bigquery_fake: BigQueryFake) -> Iterator[bigquery.Client]:
    with contextlib.closing(client_of(bigquery_fake.rest_url)) as client:
        client.create_dataset("trips")
        client.create_table(bigquery.Table(TABLE, FIELDS))
        yield client


def load(client: bigquery.Client, content: bytes, *, size: int | None = None, **config: Any) -> int:  # noqa: ANN401
    """Load a CSV file; returns the number of rows that the job reports."""
    options = {"source_format": "CSV", "schema": FIELDS, "write_disposition": "WRITE_APPEND"} | config
    job_config = bigquery.LoadJobConfig(**{key: value for key, value in options.items() if value is not None})
    job = client.load_table_from_file(
        io.BytesIO(content), TABLE, size=size, job_config=job_config, num_retries=0
    )
    return job.result().output_rows


def rows(client: bigquery.Client, table: str = TABLE) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.list_rows(table)]


def uploads(fake: BigQueryFake) -> list[str]:
    return [call.name for call in fake.requests if call.name.startswith("jobs.upload")]


# The file with the job, and after it


def test_a_small_file_comes_in_one_request_with_the_job(
    bigquery_fake: BigQueryFake, client: bigquery.Client
) -> None:
    content = ROW.encode()
    assert load(client, content, size=len(content)) == 1
    assert load(client, content, size=len(content)) == 1  # appended
    assert rows(client) == [VALUES] * 2
    assert uploads(bigquery_fake) == ["jobs.upload"] * 2


@pytest.mark.parametrize(("rows_sent", "chunks"), [(1, 1), (12_000, 3)])
def test_a_file_of_unknown_size_comes_in_chunks_after_the_job(
    bigquery_fake: BigQueryFake,
    client: bigquery.Client,
    rows_sent: int,
    chunks: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("google.cloud.bigquery.client._DEFAULT_CHUNKSIZE", CHUNK_BYTES)
    assert load(client, ROW.encode() * rows_sent) == rows_sent
    assert uploads(bigquery_fake) == ["jobs.upload"] + ["jobs.uploadChunk"] * chunks
    assert client.get_table(TABLE).num_rows == rows_sent
    [last] = client.list_rows(TABLE, start_index=rows_sent - 1)
    assert tuple(last) == VALUES


def test_bytes_that_look_like_lines_of_the_request_stay_what_they_are(client: bigquery.Client) -> None:
    file = pa.BufferOutputStream()
    notes = ["\r\n--\r\n", "--===============", "\r\n\r\n"]
    fields = [bigquery.SchemaField("note", "STRING")]
    pq.write_table(pa.table({"note": notes}), file, compression="none")
    content = file.getvalue().to_pybytes()
    config = bigquery.LoadJobConfig(source_format="PARQUET", schema=fields)
    client.load_table_from_file(
        io.BytesIO(content), "trips.notes", size=len(content), job_config=config
    ).result()
    assert rows(client, "taxi-test.trips.notes") == [(note,) for note in notes]


def test_many_rows_keep_their_order(bigquery_fake: BigQueryFake, client: bigquery.Client) -> None:
    file = pa.BufferOutputStream()
    pq.write_table(pa.table({"zone": range(300_000)}), file, row_group_size=7_000)
    config = bigquery.LoadJobConfig(source_format="PARQUET", schema=FIELDS[:1])
    client.load_table_from_file(
        io.BytesIO(file.getvalue().to_pybytes()), "trips.many", job_config=config
    ).result()
    rows = bigquery_fake.rows(bigquery_fake.catalog.table("trips", "many"), ["zone"])
    assert rows["zone"].combine_chunks().equals(pa.array(range(300_000)))


JOB = {
    "configuration": {
        "load": {
            "sourceFormat": "CSV",
            "destinationTable": {"projectId": "taxi-test", "datasetId": "trips", "tableId": "yellow"},
            "schema": {"fields": [field.to_api_repr() for field in FIELDS]},
        }
    }
}

FROM_BUCKET = {
    "configuration": {"load": JOB["configuration"]["load"] | {"sourceUris": ["gs://bucket/object"]}}
}


def begin(client: bigquery.Client, rest_url: str, size: int | None = None) -> str:
    """Begin a resumable upload without the client; returns its URL."""
    headers = {"Content-Type": "application/json"}
    headers |= {"X-Upload-Content-Length": str(size)} if size else {}
    url = f"{rest_url}{UPLOADS}?uploadType=resumable"
    begun = client._http.post(url, data=json.dumps(JOB), headers=headers)
    assert begun.status_code == 200
    return begun.headers["Location"]


def test_an_upload_says_how_much_is_there(bigquery_fake: BigQueryFake, client: bigquery.Client) -> None:
    where = begin(client, bigquery_fake.rest_url)
    status = client._http.put(where, headers={"Content-Range": "bytes */*"})
    assert (status.status_code, status.headers.get("Range")) == (308, None)
    chunk = (ROW * 10_000).encode()[:CHUNK_BYTES]
    client._http.put(where, data=chunk, headers={"Content-Range": f"bytes 0-{len(chunk) - 1}/*"})
    status = client._http.put(where, headers={"Content-Range": "bytes */*"})
    assert (status.status_code, status.headers["Range"]) == (308, f"bytes=0-{CHUNK_BYTES - 1}")
    assert rows(client) == []


@pytest.mark.parametrize(
    ("content_range", "message"),
    [
        ("bytes 1-52/60", "Content-Range says bytes 1-52; there are 0, 52 came"),
        ("bytes 0-9/60", "Content-Range says bytes 0-9; there are 0, 52 came"),
        ("bytes 0-51/*", "must be a multiple of 262144 bytes"),
        ("bytes 0-51/52", "60 bytes were announced, now they are 52"),
        ("bytes */60", "has no content"),
        ("0-51/60", "Invalid Content-Range"),
    ],
)
def test_chunks_that_are_refused(
    bigquery_fake: BigQueryFake, client: bigquery.Client, content_range: str, message: str
) -> None:
    where = begin(client, bigquery_fake.rest_url, 60)
    answer = client._http.put(where, data=ROW.encode(), headers={"Content-Range": content_range})
    assert (answer.status_code, message in answer.text) == (400, True), answer.text
    gone = client._http.put(where + "0", data=b"", headers={"Content-Range": "bytes */60"})
    assert gone.status_code == 404
    assert rows(client) == []


@pytest.mark.parametrize(
    ("kind", "content_type", "content", "message"),
    [
        ("multipart", "text/csv", b"1", "Invalid Content-Type"),
        ("multipart", "multipart/related; boundary=x", b"--x\r\n\r\n{}\r\n--x--", "has two parts"),
        ("multipart", "multipart/related; boundary=x", b"--x\r\n\r\n{\r\n--x\r\n\r\n1\r\n--x--", "not JSON"),
        ("multipart", "multipart/related; boundary=x", b"--x\r\n\r\n{}\r\n--x\r\n\r\n1\r\n--x--",
         "Only a load job has a file"),
        ("resumable", "application/json", b'{"configuration": {"query": {}}}', "Only a load job has a file"),
        ("resumable", "application/json", json.dumps(FROM_BUCKET).encode(), "must not specify source URIs"),
        ("media", "application/json", b"{}", "the upload type media"),
    ],
)  # fmt: skip
def test_uploads_that_are_refused(
    bigquery_fake: BigQueryFake,
    client: bigquery.Client,
    kind: str,
    content_type: str,
    content: bytes,
    message: str,
) -> None:
    url = f"{bigquery_fake.rest_url}{UPLOADS}?uploadType={kind}"
    answer = client._http.post(url, data=content, headers={"Content-Type": content_type})
    assert answer.status_code in {400, 501}
    assert message in answer.text


# CSV


def test_what_stands_in_a_csv_file(client: bigquery.Client) -> None:
    lines = [
        '-9223372036854775808,1e300,"a ""quoted"", é",2021-01-01 00:00:00,T,0001-01-01',
        ",,,,,2021-01-01",  # nothing is null
        '1,,"",2021-01-01T01:02:03.5,no,2021-01-01',  # and a quoted nothing is a text without letters
        '1,1,"two\nlines",,0,2021-01-01',
    ]
    assert load(client, "\n".join(lines).encode(), allow_quoted_newlines=True) == 4
    assert rows(client) == [
        (-(2**63), 1e300, 'a "quoted", é', MIDNIGHT, True, dt.date(1, 1, 1)),
        (None, None, None, None, None, JANUARY),
        (1, None, "", HALF_PAST, False, JANUARY),
        (1, 1.0, "two\nlines", None, False, JANUARY),
    ]


def test_a_header_and_a_null_marker_are_to_be_announced(client: bigquery.Client) -> None:
    content = ("a,b,c,d,e,f\n" + ROW + "\\N,\\N,,\\N,\\N,2021-01-01\n").encode()
    assert load(client, content, skip_leading_rows=1, null_marker="\\N") == 2
    assert rows(client) == [VALUES, (None, None, "", None, None, JANUARY)]


@pytest.mark.parametrize(
    ("content", "config", "message"),
    [
        ("zone,fare,note,pickup,shared,file_month\n" + ROW, {}, "int64: invalid value 'zone'"),
        (ROW + "1,1,x\n", {}, "Expected 6 columns, got 3"),
        (ROW + ROW.replace("\n", ",\n"), {}, "Expected 6 columns, got 7"),
        (ROW + "\n" + ROW, {}, "empty lines"),
        (ROW.replace("1,", "1.0,", 1), {}, "int64: invalid value '1.0'"),
        (ROW.replace("1,", "NA,", 1), {}, "int64: invalid value 'NA'"),
        (ROW.replace("2021-01-01 01", "2021-13-01 01"), {}, "invalid value '2021-13-01"),
        (ROW.replace(".456789", ".456789Z"), {}, "expected no zone offset"),
        (ROW.replace(",2021-01-01\n", ",\n"), {}, "Required field file_month cannot be null"),
        (ROW.replace("x", '"two\nlines"'), {}, "Missing close double quote"),
        (ROW.replace("1,", ",", 1), {"null_marker": "\\N"}, "int64: invalid value ''"),
        (ROW.replace("x", "\udcff"), {}, "invalid UTF8"),
        ("", {}, "an empty CSV file"),
        (ROW, {"schema": None}, "load jobs without a schema"),
        (ROW, {"schema": FIELDS[1:]}, "Expected 5 columns, got 6"),
        (ROW, {"schema": [bigquery.SchemaField("at", "TIMESTAMP"), *FIELDS]}, "the type of at"),
        (ROW, {"autodetect": True}, "autodetect"),
        (ROW, {"max_bad_records": 1}, "maxBadRecords of a load job of CSV"),
        (ROW, {"field_delimiter": ";"}, "fieldDelimiter of a load job of CSV"),
        (ROW, {"source_format": "PARQUET"}, "not a Parquet file"),
        (ROW, {"source_format": "PARQUET", "null_marker": "x"}, "nullMarker of a load job of PARQUET"),
        (ROW, {"source_format": "AVRO"}, "the source format AVRO"),
    ],
)  # fmt: skip
def test_csv_files_that_are_refused(
    client: bigquery.Client, content: str, config: dict[str, Any], message: str
) -> None:
    load(client, ROW.encode())
    with pytest.raises(google_errors.GoogleAPICallError, match=message):
        load(client, content.encode(errors="surrogateescape"), **config)
    assert rows(client) == [VALUES]


# From a frame

FRAME = pd.DataFrame(
    {
        "zone": [1, 2, 3],
        "fare": [0.1, None, 1 / 3],
        "note": ["x", None, 'é "," '],
        "pickup": [PICKUP, None, MIDNIGHT],
        "file_month": [JANUARY, JANUARY, None],
    }
)
IN_FRAME = [
    (1, 0.1, "x", PICKUP, JANUARY),
    (2, None, None, None, JANUARY),
    (3, 1 / 3, 'é "," ', MIDNIGHT, None),
]


@pytest.mark.parametrize(("method", "jobs"), [("load_csv", 2), ("load_parquet", 1)])
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_frame_by_pandas_gbq(
    bigquery_fake: BigQueryFake,
    client: bigquery.Client,
    method: str,
    jobs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pandas_gbq = pytest.importorskip("pandas_gbq")
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", bigquery_fake.rest_url)  # it makes a client of its own
    for times in (1, 2):
        pandas_gbq.to_gbq(
            FRAME,
            "trips.frame",
            project_id="taxi-test",
            bigquery_client=client,
            credentials=AnonymousCredentials(),
            chunksize=2 if method == "load_csv" else None,
            api_method=method,
            if_exists="append",
            progress_bar=False,
        )
        assert rows(client, "taxi-test.trips.frame") == IN_FRAME * times
        assert uploads(bigquery_fake).count("jobs.upload") == jobs * times


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_frame_by_the_client(client: bigquery.Client) -> None:
    client.load_table_from_dataframe(FRAME, "trips.frame").result()
    assert rows(client, "taxi-test.trips.frame") == IN_FRAME
