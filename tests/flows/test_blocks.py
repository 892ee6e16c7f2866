"""The blocks on a real Prefect server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prefect.client.orchestration import get_client
from prefect_sqlalchemy import SqlAlchemyConnector
from pydantic import SecretStr

from flows.blocks import POSTGRES_BLOCK, main, postgres_block, postgres_url_from_block, with_blocks
from flows.destinations.postgres_connection import Address
from flows.settings import get_settings, override_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

URLS = [
    "postgresql://root:p%40ss%2Fw%3A%23%25@localhost:5432/ny_taxi",
    "postgresql://user@[::1]:6543/db?sslmode=require",
    "postgresql:///db?host=/var/run/postgresql",
    "postgresql://a:b@h1:1,h2:2/db?target_session_attrs=read-write",
]


@pytest.fixture(autouse=True)
def no_block(prefect_api_url: str) -> Iterator[None]:
    yield
    with get_client(sync_client=True) as client:
        for document in client.read_block_documents():
            if document.name == POSTGRES_BLOCK:
                client.delete_block_document(document.id)


@pytest.mark.parametrize("url", URLS)
def test_a_block_gives_back_the_server_it_was_made_from(url: str) -> None:
    postgres_block(SecretStr(url)).save(POSTGRES_BLOCK, overwrite=True)
    found = postgres_url_from_block()
    assert found
    assert Address.of_url(found.get_secret_value()).parameters == Address.of_url(url).parameters


def test_a_block_made_as_in_the_tutorial_is_understood() -> None:
    SqlAlchemyConnector(connection_info="postgresql+psycopg2://root:root@localhost:5432/ny_taxi").save(
        POSTGRES_BLOCK, overwrite=True
    )
    found = postgres_url_from_block()
    assert found
    assert Address.of_url(found.get_secret_value()).parameters["dbname"] == "ny_taxi"


def test_blocks_are_saved_from_the_environment_idempotently(capsys: pytest.CaptureFixture[str]) -> None:
    for url in URLS[:2]:
        with override_settings(postgres_url=SecretStr(url)):
            assert main() == 0
            assert main() == 0
        found = postgres_url_from_block()
        assert found
        assert Address.of_url(found.get_secret_value()).parameters == Address.of_url(url).parameters
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
