"""The blocks on a real Prefect server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectAlreadyExists
from prefect_gcp import GcpCredentials, GcsBucket
from prefect_sqlalchemy import SqlAlchemyConnector
from pydantic import SecretStr

from flows.blocks import main, postgres_block
from flows.destinations.gcs.destination import Gcs
from flows.destinations.postgres.connection import PostgresAddress
from flows.gcp import google_credentials
from flows.request import BUCKET_BLOCK, CREDENTIALS_BLOCK, POSTGRES_BLOCK, with_blocks
from flows.request.read_blocks import postgres_url_from_block
from flows.settings import get_settings, override_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.gcs import ServiceAccount

URLS = [
    "postgresql://root:p%40ss%2Fw%3A%23%25@localhost:5432/ny_taxi",
    "postgresql://user@[::1]:6543/db?sslmode=require",
    "postgresql:///db?host=/var/run/postgresql",
    "postgresql://a:b@h1:1,h2:2/db?target_session_attrs=read-write",
]


@pytest.fixture(autouse=True)
def no_block(prefect_api_url: str, no_google_credentials: None) -> Iterator[None]:
    yield
    with get_client(sync_client=True) as client:
        for document in client.read_block_documents():
            if document.name in {POSTGRES_BLOCK, BUCKET_BLOCK, CREDENTIALS_BLOCK, "zoom-gcp-creds"}:
                client.delete_block_document(document.id)


@pytest.mark.parametrize("url", URLS)
def test_a_block_gives_back_the_server_it_was_made_from(url: str) -> None:
    postgres_block(SecretStr(url)).save(POSTGRES_BLOCK, overwrite=True)
    saved_url = postgres_url_from_block()
    assert saved_url
    assert (
        PostgresAddress.of_url(saved_url.get_secret_value()).parameters
        == PostgresAddress.of_url(url).parameters
    )


def test_a_block_made_as_in_the_tutorial_is_understood() -> None:
    SqlAlchemyConnector(connection_info="postgresql+psycopg2://root:root@localhost:5432/ny_taxi").save(
        POSTGRES_BLOCK, overwrite=True
    )
    saved_url = postgres_url_from_block()
    assert saved_url
    assert PostgresAddress.of_url(saved_url.get_secret_value()).parameters["dbname"] == "ny_taxi"


def test_a_type_that_another_run_registers_meanwhile_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    register, collisions = SqlAlchemyConnector.register_type_and_schema, iter(range(3))

    def collide(**options: Any) -> Any:  # noqa: ANN401 - of Prefect
        if next(collisions, None) is not None:
            raise ObjectAlreadyExists(http_exc=RuntimeError("409 Conflict"))
        return register(**options)

    monkeypatch.setattr(SqlAlchemyConnector, "register_type_and_schema", staticmethod(collide))
    with override_settings(postgres_url=SecretStr(URLS[0])):
        assert main() == 0
    assert next(collisions, None) is None


def test_blocks_are_saved_from_the_environment_idempotently(capsys: pytest.CaptureFixture[str]) -> None:
    for url in URLS[:2]:
        with override_settings(postgres_url=SecretStr(url)):
            assert main() == 0
            assert main() == 0
        saved_url = postgres_url_from_block()
        assert saved_url
        assert (
            PostgresAddress.of_url(saved_url.get_secret_value()).parameters
            == PostgresAddress.of_url(url).parameters
        )
    out = capsys.readouterr().out
    assert "postgres-connector: saved, localhost:5432/ny_taxi" in out
    assert "p@ss" not in out
    assert "p%40ss" not in out


def test_without_a_server_nothing_is_saved_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with override_settings(postgres_url=None):
        assert main() == 0
    assert "not saved, because TAXI_POSTGRES_URL" in capsys.readouterr().out
    assert postgres_url_from_block() is None


def test_the_environment_goes_before_the_block() -> None:
    postgres_block(SecretStr(URLS[0])).save(POSTGRES_BLOCK, overwrite=True)
    with override_settings(postgres_url=SecretStr(URLS[1])):
        url = with_blocks(get_settings(), ["postgres"]).postgres_url
        assert url
        assert url.get_secret_value() == URLS[1]
    with override_settings(postgres_url=None):
        url = with_blocks(get_settings(), ["postgres"]).postgres_url
        assert url
        assert "ny_taxi" in url.get_secret_value()
        assert with_blocks(get_settings(), ["duckdb"]).postgres_url is None


def test_the_password_is_kept_encrypted_and_shown_nowhere() -> None:
    postgres_block(SecretStr(URLS[0])).save(POSTGRES_BLOCK, overwrite=True)
    with get_client(sync_client=True) as client:
        shown = client.read_block_document_by_name(
            POSTGRES_BLOCK, SqlAlchemyConnector.get_block_type_slug(), include_secrets=False
        )
    assert "p@ss" not in str(shown)
    assert "p%40ss" not in str(shown)


# Google


def test_google_blocks_are_saved_idempotently_and_give_back_what_they_were_made_from(
    service_account: ServiceAccount, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for bucket in ("first-bucket", "second-bucket", "second-bucket"):
        with override_settings(
            gcs_bucket=bucket, gcs_folder="/zoomcamp/", gcp_key_file=service_account.key_file
        ):
            assert main() == 0
    out = capsys.readouterr().out
    assert "gcp-credentials: saved, the key " in out
    assert "de-gcs: saved, gs://second-bucket/zoomcamp/" in out
    assert service_account.secret not in out

    settings = with_blocks(get_settings(), ["gcs"])
    assert (settings.gcs_bucket, settings.gcs_folder) == ("second-bucket", "zoomcamp/")
    identity = google_credentials(settings)
    assert identity.credentials.service_account_email == service_account.email
    assert identity.project == service_account.project
    destination = Gcs.from_settings(tmp_path, settings)
    assert (destination.bucket, destination.folder) == ("second-bucket", "zoomcamp/")
    assert service_account.secret not in repr(settings) + repr(identity) + str(settings)


def test_prefects_own_classes_read_the_blocks_and_the_key_is_shown_nowhere(
    service_account: ServiceAccount,
) -> None:
    with override_settings(gcs_bucket="a-bucket", gcs_folder="x", gcp_key_file=service_account.key_file):
        assert main() == 0
    bucket = GcsBucket.load(BUCKET_BLOCK)
    assert (bucket.bucket, bucket.bucket_folder) == ("a-bucket", "x/")
    for credentials in (bucket.gcp_credentials, GcpCredentials.load(CREDENTIALS_BLOCK)):
        identity = credentials.get_credentials_from_service_account()
        assert identity.service_account_email == service_account.email
    # The key is kept encrypted, and shown nowhere.
    with get_client(sync_client=True) as client:
        shown = [
            client.read_block_document_by_name(CREDENTIALS_BLOCK, "gcp-credentials", include_secrets=False),
            client.read_block_document_by_name(BUCKET_BLOCK, "gcs-bucket", include_secrets=False),
        ]
    assert service_account.secret not in str(shown)


def test_a_bucket_made_by_hand_as_in_the_tutorial_is_understood(service_account: ServiceAccount) -> None:
    credentials = GcpCredentials(service_account_file=service_account.key_file)
    credentials.save("zoom-gcp-creds", overwrite=True)
    GcsBucket(bucket="prefect-de-zoomcamp", gcp_credentials=credentials).save(BUCKET_BLOCK, overwrite=True)
    settings = with_blocks(get_settings(), ["gcs"])
    assert (settings.gcs_bucket, settings.gcs_folder) == ("prefect-de-zoomcamp", "")
    assert google_credentials(settings).credentials.service_account_email == service_account.email


def test_the_environment_goes_before_googles_blocks(service_account: ServiceAccount) -> None:
    with override_settings(gcs_bucket="of-block", gcs_folder="f", gcp_key_file=service_account.key_file):
        assert main() == 0
    own = json.dumps({**json.loads(service_account.key_file.read_text()), "project_id": "own-project"})
    with override_settings(gcs_bucket="own-bucket", gcp_key_json=SecretStr(own)):
        settings = with_blocks(get_settings(), ["gcs", "bigquery"])
    assert (settings.gcs_bucket, settings.gcs_folder) == ("own-bucket", "")
    assert google_credentials(settings).project == "own-project"


def test_only_who_needs_google_asks_for_its_blocks(service_account: ServiceAccount) -> None:
    with override_settings(gcs_bucket="of-block", gcp_key_file=service_account.key_file):
        assert main() == 0
    assert with_blocks(get_settings(), ["duckdb"]) == get_settings()
    bigquery = with_blocks(get_settings(), ["bigquery"])
    assert bigquery.gcs_bucket is None
    assert bigquery.gcp_key_json
    with override_settings(storage_emulator_host="http://127.0.0.1:1"):
        emulated = with_blocks(get_settings(), ["gcs"])
    assert emulated.gcs_bucket == "of-block"
    assert emulated.gcp_key_json is None


def test_what_cannot_be_saved_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with override_settings(gcs_bucket="a-bucket"):
        assert main() == 0
    out = capsys.readouterr().out
    assert "gcp-credentials: not saved, because there are no Google credentials" in out
    assert "TAXI_GCP_KEY_FILE" in out
    assert "de-gcs: not saved, because it needs gcp-credentials" in out
    (tmp_path / "key.json").write_text('{"private_key": "do-not-tell"}')
    with override_settings(gcs_bucket="a-bucket", gcp_key_file=tmp_path / "key.json"):
        assert main() == 2
    err = capsys.readouterr().err
    assert "key.json: no type, client_email, token_uri" in err
    assert "do-not-tell" not in err
