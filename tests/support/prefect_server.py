"""One real Prefect server for the whole test session, on a database of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def prefect_api_url() -> Iterator[str]:
    """A running server's API; also what `PREFECT_API_URL` should be for a subprocess."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        url = PREFECT_API_URL.value()
        assert url
        yield url


@pytest.fixture
def server_environment(prefect_api_url: str, tmp_path: object) -> dict[str, str]:
    """The environment of a subprocess that is to use the session's server."""
    return {**os.environ, "PREFECT_API_URL": prefect_api_url, "PREFECT_HOME": f"{tmp_path}/prefect"}
