"""Fixtures of the torture tests: a process that forks runs of the command, and the jobs to be killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("support.kill_matrix")

from support.kill_matrix import KillMatrix, Undisturbed  # noqa: E402 - after its asserts are rewritten
from support.prefect_server import clean_environment  # noqa: E402
from support.zygote import Zygote  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PREFECT_HOME of the runs."""
    return tmp_path_factory.mktemp("torture") / "prefect"


@pytest.fixture(scope="session")
def zygote(prefect_server_url: str, prefect_home: Path) -> Iterator[Zygote]:
    """Runs the command against the session's server."""
    environment = clean_environment(
        PREFECT_API_URL=f"{prefect_server_url}/api", PREFECT_HOME=str(prefect_home)
    )
    with Zygote(environment) as process:
        yield process


@pytest.fixture(scope="session")
def undisturbed() -> dict[int, Undisturbed]:
    """The results of undisturbed runs, by seed; each seed runs only once."""
    return {}


@pytest.fixture
def matrix(
    zygote: Zygote, tmp_path: Path, undisturbed: dict[int, Undisturbed], request: pytest.FixtureRequest
) -> KillMatrix:
    """A job that loads into the destinations whose harnesses the test lists."""
    harnesses = [kind(tmp_path / "data", request) for kind in request.param]
    return KillMatrix(zygote, harnesses, tmp_path, undisturbed)
