"""docs/reference/google.md: commands are understood, settings exist, a pattern finds our objects."""

from __future__ import annotations

import fnmatch
import re
import shlex
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from flows import gcs_to_bq, web_to_gcs
from flows.cli import parse_command
from flows.destinations.bigquery.connection import CONTACT_SECONDS
from flows.destinations.gcs import Gcs
from flows.destinations.gcs.connection import GcsAddress
from flows.gcp import google_credentials
from flows.gcp.credentials import SIGN_IN_SECONDS
from flows.settings import Settings, override_settings
from transforms.trip_month import TripMonth

DOCUMENT = (Path(__file__).parents[4] / "docs" / "reference" / "google.md").read_text()
COMMANDS = re.findall(
    r"^(?:    )?\.venv/bin/taxi-etl ((?:load|web-to-gcs|gcs-to-bq) .*)$", DOCUMENT, re.MULTILINE
)
SQL = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)
PARSERS = {
    "load": parse_command,
    "web-to-gcs": web_to_gcs.parse,
    "gcs-to-bq": gcs_to_bq.parse,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, *arguments = shlex.split(command)
    emulators = {
        "gcs_bucket": "my-taxi-bucket",
        "storage_emulator_host": "127.0.0.1:1",
        "gcp_project": "my-project",
        "bigquery_emulator_host": "127.0.0.1:1",
        "bigquery_storage_emulator_host": "127.0.0.1:2",
    }
    with override_settings(**emulators):
        assert PARSERS[name](arguments).request.color == "yellow"


def test_every_way_has_a_command() -> None:
    assert {command.split()[0] for command in COMMANDS} == set(PARSERS)


def test_every_setting_exists() -> None:
    named = set(re.findall(r"TAXI_[A-Z_]+|\b(?:STORAGE|BIGQUERY|BIGQUERY_STORAGE)_EMULATOR_HOST", DOCUMENT))
    legal = {f"TAXI_{name.upper()}" for name in Settings.model_fields}
    legal |= {str(field.validation_alias) for field in Settings.model_fields.values()}
    assert named - legal == set()
    google = {name for name in legal if re.match("TAXI_(GC|BIGQUERY)", name)}
    without_prefix = {"TAXI_BIGQUERY_EMULATOR_HOST", "TAXI_BIGQUERY_STORAGE_EMULATOR_HOST"}
    assert google - without_prefix - named == set()


def test_the_external_table_reads_the_objects_that_are_written() -> None:
    [statement] = map(sqlglot.parse_one, SQL, ["bigquery"] * len(SQL))
    assert isinstance(statement, exp.Create)
    uris = [found.this for found in statement.find_all(exp.Literal) if found.this.startswith("gs://")]
    assert len(uris) == 1
    identity = google_credentials(Settings(_env_file=None), emulator="nowhere")
    bucket = Gcs(GcsAddress(identity, "my-taxi-bucket"))
    months = [TripMonth("yellow", 2021, number) for number in range(1, 13)]
    ours = [f"gs://{bucket.bucket}/{bucket.object_name(month)}" for month in months]
    assert fnmatch.filter(ours, uris[0]) == ours


def test_it_says_seconds_and_means_it() -> None:
    assert "ends after some ten seconds" in " ".join(DOCUMENT.split())
    assert max(SIGN_IN_SECONDS, CONTACT_SECONDS) <= 10
