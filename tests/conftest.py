"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support import together

if TYPE_CHECKING:
    from xdist.remote import Producer

# A Prefect server on SQLite answers 503 when two writers meet, which side by side they do more often.
os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "15")

# Helpers with asserts of their own, which are to explain themselves.
pytest.register_assert_rewrite("support.landing", "support.destinations")

pytest_plugins = [
    "support.web",
    "support.cli",
    "support.disk",
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes; alone, the order is that of the files
        items.sort(key=lambda item: together.place(item.nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> together.UnitScheduling | None:
    return together.UnitScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_xdist_auto_num_workers() -> int | None:
    """For `-n auto` one process more than there are cores: half of its time a test waits for others."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist looks there
    return 1 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
