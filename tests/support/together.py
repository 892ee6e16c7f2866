"""Which tests go to one process of the suite, and which of them go first.

The files that need the same server with its workers, cluster or emulator are one unit of work, so that it
is started once; every other test is a unit of its own. The long units go first, and whoever is through with
them shares the many short ones.

NOTE: it is a scheduler of ours because `--dist loadgroup` of pytest-xdist 3.8 groups nothing with pytest 9.2,
and does not say so: https://github.com/pytest-dev/pytest-xdist/issues/1386
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

TOGETHER: dict[str, tuple[str, ...]] = {
    "deployments": (
        "tests/flows/test_alerts.py",
        "tests/flows/test_deployments.py",
        "tests/flows/test_deployments_served.py",
        "tests/flows/test_ui.py",
    ),
    "benchmarks": ("tests/test_benchmarks.py",),
    "kills": (
        "tests/torture/test_kill_matrix.py",
        "tests/torture/test_faults.py",
        "tests/torture/test_secrets.py",
        "tests/torture/test_ingest_stopped.py",
    ),
    "workers of a pool": ("tests/flows/runners/test_deployment.py",),
    "workers of dask": ("tests/flows/runners/test_dask.py",),
    "bqemulator": ("tests/flows/destinations/bigquery/test_destination.py",),
    "a deployment": ("tests/flows/test_backfill.py",),
    "a Postgres that is killed": ("tests/flows/destinations/postgres/test_failures.py",),
}
"""The files of each unit, in the order in which the units are handed out."""


def unit(nodeid: str) -> str:
    """The unit that a test belongs to: one of `TOGETHER`, or the test itself."""
    file = nodeid.partition("::")[0]
    return next((name for name, files in TOGETHER.items() if file in files), nodeid)


def place(nodeid: str) -> int:
    """Where the unit of a test comes in the order."""
    order = list(TOGETHER)
    name = unit(nodeid)
    return order.index(name) if name in order else len(order)


class UnitScheduling(LoadScopeScheduling):
    """Hands out the units in the order of the tests that were collected."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # else by the number of tests, which says little of their time

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
