"""The program as a user who is not root: what a suite that runs as root, as in containers, cannot show."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
from support.cli import ROOT
from support.postgres import short_lived_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., subprocess.CompletedProcess[str]]

USER = "nobody"
NEEDED = "import flows.parent, polars, pytest"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the whole suite runs as a user who is not root")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory of the user's own; its path is short enough for a socket."""
    with short_lived_directory() as directory:
        shutil.chown(directory, USER)
        yield directory


@pytest.fixture(scope="module")
def python(home: Path) -> Run:
    """Runs a Python of the user: this one, or a copy if this one lies in a directory closed to others."""
    own = functools.partial(_run_python, sys.executable, home, {})
    with contextlib.suppress(PermissionError):
        if own("-c", NEEDED).returncode == 0:
            return own
    version, prefix = f"python{sysconfig.get_python_version()}", home / "python"
    stdlib = prefix / "lib" / version
    left_out = shutil.ignore_patterns("site-packages", "test")
    shutil.copytree(sysconfig.get_path("stdlib"), stdlib, ignore=left_out, symlinks=True)
    (stdlib / "site-packages").symlink_to(sysconfig.get_path("purelib"))
    for library in Path(sysconfig.get_config_var("LIBDIR")).glob("libpython*.so*"):
        shutil.copy2(library, prefix / "lib")
    program = prefix / "bin" / version
    program.parent.mkdir()
    shutil.copy2(Path(sys.executable).resolve(), program)
    copy = functools.partial(_run_python, str(program), home, {"LD_LIBRARY_PATH": f"{prefix}/lib"})
    tried = copy("-c", NEEDED)
    if tried.returncode:
        pytest.skip(f"{USER} cannot run a Python here: {tried.stderr.strip().splitlines()[-1]}")
    return copy


def _run_python(
    program: str, home: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    entry = pwd.getpwnam(USER)
    own = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "TAXI_SYNTHETIC_ROWS": "500",
        "TAXI_POSTGRES_URL": "embedded",
    }
    others = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PREFECT_"))
    }
    return subprocess.run(
        [program, *arguments],
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=[],
        cwd=ROOT,
        env=others | own | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_load_into_the_local_warehouse_and_an_embedded_postgres(python: Run, home: Path) -> None:
    call = ["flows/parent.py", "--color", "yellow", "--months", "1", "--source", "synthetic"]
    call += ["--to", "duckdb", "postgres", "--runner", "direct", "--data-dir", str(home / "data")]
    for status in ("published", "unchanged"):
        done = python(*call)
        assert done.returncode == 0, done.stderr
        assert status in done.stdout
    with duckdb.connect(home / "data" / "warehouse.duckdb", read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM yellow_taxi_trips").fetchall() == [(500,)]
    assert {path.owner() for path in (home / "data").rglob("*")} == {USER}


def test_what_root_may_do_anyway(python: Run, home: Path) -> None:
    """Those tests that are skipped for root."""
    tests = "tests/flows/destinations/duckdb/test_destination.py"
    options = ["-n0", "-q", "-p", "no:cacheprovider", "--basetemp", str(home / "pytest")]
    done = python("-B", "-m", "pytest", tests, "-k", "may_not_be_written_to", *options)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
