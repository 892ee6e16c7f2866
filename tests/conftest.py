"""What every test can use: the fixtures of tests/support, and the order in which the suite runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from flows.settings import _read_settings

# The groups of tests that share a server, a cluster or an emulator: pytest-xdist runs each in one process.
# The slowest come first, so that at the end the processes share the many short tests.
LONG_FIRST = (
    "deployments",
    "benchmarks",
    "kills",
    "strikes",
    "workers of a pool",
    "workers of dask",
    "the wheel",
    "bqemulator",
    "a deployment",
    "servers of our own",
    "a Postgres that is killed",
    "the image",
)

# A Prefect server on SQLite answers 503 when two writers meet, which tests in parallel make more likely.
os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "15")

# These helpers contain assert statements; pytest then explains their failures like those of a test.
pytest.register_assert_rewrite("support.landing", "support.destinations")

pytest_plugins = [
    "support.web",
    "support.cli",
    "support.disk",
    "support.postgres",
    "support.prefect_server",
    "support.deployed",
    "support.receiver",
    "support.browser",
    "support.terminal",
    "support.dask_cluster",
    "support.pool_workers",
    "support.loaded",
    "support.gcs",
    "support.bigquery",
    "support.bqemulator",
    "support.image",
]


@pytest.fixture(autouse=True)
def settings_are_read_anew() -> Iterator[None]:
    """What a test puts into the environment, or into the directory it changes to, is not for the next one."""
    yield
    _read_settings.cache_clear()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # in a process of pytest-xdist; otherwise the order of the files stays
        items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    group = item.get_closest_marker("xdist_group")
    return LONG_FIRST.index(group.args[0]) if group else len(LONG_FIRST)


def pytest_xdist_auto_num_workers() -> int | None:
    """`-n auto` is one process more than there are cores, because tests spend much of their time waiting."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist reads the variable itself
    return 1 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
