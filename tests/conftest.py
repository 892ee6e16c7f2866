"""Fixtures that every test may ask for."""

from __future__ import annotations

import pytest

pytest_plugins = [
    "support.web",
    "support.cli",
    "support.postgres",
    "support.prefect_server",
    "support.deployed",
    "support.browser",
    "support.dask_cluster",
    "support.pool_workers",
    "support.loaded",
    "support.gcs",
    "support.bigquery",
    "support.bqemulator",
]

STARTED_ONCE = ("prefect_server_url", "bqemulator", "own_server")
"""Servers that take long to start, or that a test kills: their tests stay in one process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = getattr(item, "fixturenames", ())
        if server := next((name for name in STARTED_ONCE if name in names), None):
            item.add_marker(pytest.mark.xdist_group(server))
