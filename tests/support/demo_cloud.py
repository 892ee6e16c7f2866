"""`make demo-cloud`: the whole cloud path on this machine, against a storage emulator and the BigQuery fake.

The commands are those that one would run against Google, and all they know of the emulators is the
environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from prefect.server.api.server import SubprocessASGIServer
from support.bigquery_fake import BigQueryFake
from support.gcs import StorageEmulator

if TYPE_CHECKING:
    from collections.abc import Generator

BUCKET, PROJECT, DATASET = "taxi-demo", "taxi-demo", "trips_data_all"
MONTHS = ["--months", "1", "2", "3"]
WHERE = ["--data-dir", "demo/cloud"]
MADE_HERE = ["--source", "synthetic"]
COMMANDS = [
    ["flows/web_to_gcs.py", "--color", "yellow", *MONTHS, *MADE_HERE, *WHERE],
    ["flows/gcs_to_bq.py", "--color", "yellow", *MONTHS, *WHERE],
    ["flows/parent.py", "--color", "green", *MONTHS, *MADE_HERE, *WHERE, "--to", "bigquery"],
]


def main() -> int:
    """Run the commands, and show what is there afterwards; returns the first exit code that is not 0."""
    storage = StorageEmulator()
    try:
        storage.create_bucket(BUCKET)
        with BigQueryFake(project=PROJECT, storage_url=storage.url) as fake, prefect_server() as api_url:
            environment = {
                "STORAGE_EMULATOR_HOST": storage.url,
                "TAXI_GCS_BUCKET": BUCKET,
                "BIGQUERY_EMULATOR_HOST": fake.rest_url,
                "BIGQUERY_STORAGE_EMULATOR_HOST": fake.grpc_address,
                "TAXI_GCP_PROJECT": PROJECT,
                "NO_PROXY": "127.0.0.1",
                "PREFECT_API_URL": api_url,
            }
            say("\n".join(f"export {name}={value}" for name, value in environment.items()))
            for command in COMMANDS:
                say(f"\n$ python {' '.join(command)}")
                code = subprocess.run(
                    [sys.executable, *command], env={**os.environ, **environment}, check=False
                ).returncode
                if code:
                    return code
            show(storage, fake)
    finally:
        storage.stop()
    return 0


@contextmanager
def prefect_server() -> Generator[str]:
    """The Prefect server that is configured, or one for all three commands; each would start its own."""
    if url := os.environ.get("PREFECT_API_URL"):
        yield url
        return
    say("starting a Prefect server")
    server = SubprocessASGIServer()
    server.start(timeout=120)
    try:
        yield server.api_url
    finally:
        server.stop()


def show(storage: StorageEmulator, fake: BigQueryFake) -> None:
    """Objects, tables and counts, as the official client sees them."""
    say(f"\ngs://{BUCKET}:")
    for name in sorted(storage.names(BUCKET)):
        say(f"  {name}")
    options = {"api_endpoint": fake.rest_url}
    with closing(bigquery.Client(PROJECT, AnonymousCredentials(), client_options=options)) as client:
        for color in ("yellow", "green"):
            table = f"{PROJECT}.{DATASET}.{color}_taxi_trips"
            say(f"\n{table}, rows by month, and what the ledger says:")
            counted = client.query_and_wait(
                f"SELECT t.file_month, count(*), max(l.row_count) FROM `{table}` t "
                f"JOIN `{PROJECT}.{DATASET}.taxi_loads` l ON l.file_month = t.file_month "
                f"WHERE l.dataset = '{color}' GROUP BY t.file_month ORDER BY t.file_month"
            )
            for month, rows, noted in counted:
                say(f"  {month:%Y-%m}  {rows:>9,}  {noted:>9,}")


def say(text: str) -> None:
    """Print at once, so that it stands before what a command says."""
    print(text, flush=True)


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    sys.exit(main())
