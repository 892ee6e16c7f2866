"""Who we are at Google: found in the right order, refused in one line, bounded in time, shown nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from google.auth.compute_engine import _metadata
from pydantic import SecretStr
from support.gcs import TOKEN

from flows.destinations.gcs.connection import GcsAddress
from flows.destinations.gcs.destination import Gcs
from flows.errors import DestinationRefused, SourceUnreachable, UsageError
from flows.gcp import credentials as module
from flows.gcp import google_credentials
from flows.settings import Settings
from flows.sources import SourceFile, land
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from support.destinations import Months
    from support.gcs import Bucket, ServiceAccount
    from support.web import Web

JANUARY = TripMonth("yellow", 2021, 1)


@pytest.fixture(autouse=True)
def nothing_else(no_google_credentials: None) -> None:
    pass


def settings_with(account: ServiceAccount, **changes: str) -> Settings:
    """A key like the account's, with other values in it."""
    key = {**json.loads(account.key_file.read_text()), **changes}
    return Settings(_env_file=None, gcs_bucket="a-bucket", gcp_key_json=SecretStr(json.dumps(key)))


# Where they come from


def test_a_key_file_names_account_and_project(service_account: ServiceAccount) -> None:
    settings = Settings(_env_file=None, gcp_key_file=service_account.key_file)
    identity = google_credentials(settings)
    assert identity.credentials.service_account_email == service_account.email
    assert identity.project == service_account.project
    assert google_credentials(settings.model_copy(update={"gcp_project": "other"})).project == "other"


def test_the_key_file_goes_before_the_key_and_both_before_the_default(
    service_account: ServiceAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = tmp_path / "default.json"
    default.write_text(json.dumps({**json.loads(service_account.key_file.read_text()), "project_id": "c"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(default))
    assert google_credentials(Settings(_env_file=None)).project == "c"
    key = settings_with(service_account, project_id="b")
    assert google_credentials(key).project == "b"
    both = key.model_copy(update={"gcp_key_file": service_account.key_file})
    assert google_credentials(both).project == service_account.project


def test_an_emulator_needs_none() -> None:
    identity = google_credentials(Settings(_env_file=None), emulator="http://127.0.0.1:1")
    assert identity.is_anonymous
    assert identity.project
    identity.sign_in()


def test_the_endpoint_of_the_emulator_has_googles_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9023")
    assert Settings(_env_file=None).storage_emulator_host == "http://127.0.0.1:9023"


# None, or wrong ones


def test_without_any_every_place_that_was_tried_is_listed(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        Gcs.from_settings(tmp_path, Settings(_env_file=None, gcs_bucket="a-bucket"))
    for place in (
        "TAXI_GCP_KEY_FILE",
        ".env",
        "gcp-credentials",
        "gcloud auth application-default login",
        "STORAGE_EMULATOR_HOST",
    ):
        assert place in refused.value.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("not json: do-not-tell", "not the JSON key of a service account"),
        ('["do-not-tell"]', "no type, client_email, private_key, token_uri"),
        ('{"private_key": "do-not-tell"}', "no type, client_email, token_uri"),
        (
            (
                '{"type": "service_account", "client_email": "a", "token_uri": "b", '
                '"private_key": "do-not-tell"}'
            ),
            "its private_key cannot be read",
        ),
        (b"\xff\xfedo-not-tell", "not a text file"),
    ],
)
def test_a_key_that_is_none_says_what_is_missing_and_not_what_is_there(
    tmp_path: Path, content: str | bytes | None, said: str
) -> None:
    key = tmp_path / "key.json"
    if content is not None:
        key.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as refused:
        google_credentials(Settings(_env_file=None, gcp_key_file=key))
    assert said in refused.value.message
    assert "key.json" in refused.value.message
    assert "do-not-tell" not in refused.value.message


# Signing in


def test_the_token_of_a_key_is_sent_and_shown_nowhere(
    bucket: Bucket, service_account: ServiceAccount, months: Months, caplog: pytest.LogCaptureFixture
) -> None:
    identity = google_credentials(settings_with(service_account, token_uri=bucket.front.url + "/token"))
    target = Gcs(GcsAddress(identity, bucket.name, emulator=bucket.front.url))
    with caplog.at_level("DEBUG"):
        assert target.publish(months.trips(JANUARY)).rows == 50
    sent = {request.headers.get("authorization") for request in bucket.front.requests[1:]}
    assert sent == {f"Bearer {TOKEN}"}
    assert bucket.front.kinds()[0] == "token"
    logged = [one.getMessage() for one in caplog.records if not one.name.startswith("gcp_storage_emulator")]
    assert "upload_id" not in "".join(logged)
    shown = caplog.text + repr(target) + repr(identity) + str(identity)
    assert TOKEN not in shown
    assert service_account.secret not in shown


def test_a_source_in_a_bucket_is_read_with_the_same_credentials(
    bucket: Bucket, service_account: ServiceAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.write("trips.csv", b"VendorID,tpep_pickup_datetime\n1,2021-01-01 00:00:00\n")
    monkeypatch.setattr("gcsfs.core._location", lambda *_: bucket.front.url)  # no emulator: Google
    settings = settings_with(service_account, token_uri=bucket.front.url + "/token")
    settings = settings.model_copy(update={"http_backoff_seconds": 0.01})
    landed = land(SourceFile(f"gs://{bucket.name}/trips.csv", "trips.csv"), tmp_path, settings)
    assert landed.path.read_bytes() == bucket.read("trips.csv")
    sent = {request.headers.get("authorization") for request in bucket.front.requests[1:]}
    assert sent == {f"Bearer {TOKEN}"}
    bucket.front.misbehave("token", status=400, body=b'{"error": "invalid_grant"}', times=9)
    with pytest.raises(SourceUnreachable, match="Google does not accept the key"):
        land(SourceFile(f"gs://{bucket.name}/trips.csv", "trips.csv"), tmp_path, settings, force=True)


def test_a_key_that_google_does_not_accept_is_one_line(
    bucket: Bucket, service_account: ServiceAccount, tmp_path: Path
) -> None:
    body = {"error": "invalid_grant", "error_description": "Invalid grant: account not found"}
    bucket.front.misbehave("token", status=400, body=json.dumps(body).encode())
    settings = settings_with(service_account, token_uri=bucket.front.url + "/token")
    with pytest.raises(DestinationRefused) as refused:
        Gcs.from_settings(tmp_path, settings).loaded(JANUARY)
    message = refused.value.message
    assert "Google does not accept the key in TAXI_GCP_KEY_JSON" in message
    assert "account not found" in message
    assert "TAXI_GCP_KEY_FILE" in message
    assert service_account.secret not in message


def test_no_network_is_one_line_within_seconds(service_account: ServiceAccount, tmp_path: Path) -> None:
    settings = settings_with(service_account, token_uri="https://oauth2.nowhere.invalid/token")
    started = time.monotonic()
    with pytest.raises(DestinationRefused) as refused:
        Gcs.from_settings(tmp_path, settings).loaded(JANUARY)
    assert time.monotonic() - started < 15
    assert "no connection to Google" in refused.value.message
    assert "STORAGE_EMULATOR_HOST" in refused.value.message


def test_a_google_that_never_answers_is_given_up(
    bucket: Bucket, service_account: ServiceAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.SIGN_IN_SECONDS < 15
    monkeypatch.setattr(module, "SIGN_IN_SECONDS", 0.5)
    bucket.front.misbehave("token", stall=True)
    settings = settings_with(service_account, token_uri=bucket.front.url + "/token")
    started = time.monotonic()
    with pytest.raises(DestinationRefused, match="no answer"):
        Gcs.from_settings(tmp_path, settings).loaded(JANUARY)
    assert time.monotonic() - started < 60


def test_a_metadata_server_that_never_answers_is_given_up(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", False)
    monkeypatch.setattr(_metadata, "_GCE_PRODUCT_NAME_FILE", "/nowhere")
    monkeypatch.setenv("GCE_METADATA_IP", web.url.removeprefix("http://"))
    monkeypatch.setattr(module, "SIGN_IN_SECONDS", 0.5)
    web.misbehave("/", delay_seconds=90)
    started = time.monotonic()
    with pytest.raises(UsageError, match="no Google credentials"):
        google_credentials(Settings(_env_file=None))
    assert time.monotonic() - started < 60
    assert len(web.requests) == 1, "asked, and not again once the time was over"


def test_nothing_of_gcsfs_that_probes_by_grpc_is_imported(tmp_path: Path) -> None:
    ask = (
        "import sys, flows.destinations.gcs, flows.sources; from flows.gcp import bucket_files; "
        "print(type(bucket_files(None)).__name__, 'gcsfs.extended_gcsfs' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=True, env={}, cwd=tmp_path
    )
    assert found.stdout.split() == ["GCSFileSystem", "False"]


def test_who_we_are_is_known_without_any_client() -> None:
    ask = "import sys, flows.gcp; print({'gcsfs', 'google.cloud.storage'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
