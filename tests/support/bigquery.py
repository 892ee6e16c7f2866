"""A strict BigQuery for tests, empty for each, and the official client to look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from support.bigquery_fake import BigQueryFake

if TYPE_CHECKING:
    from collections.abc import Generator

DATASET = "trips_data_all"


@pytest.fixture(scope="session")
def _bigquery_server() -> Generator[BigQueryFake]:
    with BigQueryFake() as server:
        yield server


@pytest.fixture
def bigquery_fake(_bigquery_server: BigQueryFake) -> Generator[BigQueryFake]:
    """A strict BigQuery, empty."""
    _bigquery_server.reset()
    yield _bigquery_server
    _bigquery_server.reset()


def settings_for(rest_url: str, grpc_address: str, project: str = "taxi-test") -> dict[str, Any]:
    """What a user would set to work with an emulator."""
    return {
        "gcp_project": project,
        "bigquery_emulator_host": rest_url,
        "bigquery_storage_emulator_host": grpc_address,
        "lock_timeout_seconds": 30,
    }


def client_of(rest_url: str, project: str = "taxi-test") -> bigquery.Client:
    """The official client, past the code under test."""
    return bigquery.Client(
        project,
        AnonymousCredentials(),
        client_options={"api_endpoint": rest_url},
        default_query_job_config=bigquery.QueryJobConfig(default_dataset=f"{project}.{DATASET}"),
    )
