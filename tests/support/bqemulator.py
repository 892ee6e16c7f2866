"""bqemulator, a BigQuery emulator, in an environment of its own; made at first use, in some ten seconds.

It shows the protocol as somebody else has understood it: the Storage Write API, scripts, queries. It is lax
about much of what BigQuery refuses; `support.bigquery_fake` is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Generator

REQUIREMENTS = Path(__file__).with_name("bqemulator-requirements.txt")
SERVER = Path(__file__).with_name("bqemulator_server.py")
ENVIRONMENT = Path(sys.prefix) / "bqemulator"
LONGEST_INSTALL_SECONDS = 240


@dataclass(frozen=True)
class BqEmulator:
    """A running one.

    Attributes:
        rest_url, grpc_address: where it listens.
    """

    rest_url: str
    grpc_address: str


class CannotBeHad(Exception):
    """There is no bqemulator on this machine; says why."""


def environment_python() -> Path:
    """The Python of an environment that has bqemulator, made if it is not there or not whole.

    Raises:
        CannotBeHad: a package is not available for this Python or platform, or there is no package index.
    """
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / ".installed"
    # NOTE: of another Python, or with other requirements, it is another environment.
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    with FileLock(f"{ENVIRONMENT}.lock"):
        if python.exists() and stamp.exists() and stamp.read_text() == wanted:
            return python
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        _install(python)
        stamp.write_text(wanted)
    return python


def _install(python: Path) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    make = [uv, "venv", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
    install = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    try:
        for call in ([*make, str(ENVIRONMENT)], [*install, "--quiet", "-r", str(REQUIREMENTS)]):
            subprocess.run(
                call,
                check=True,
                capture_output=True,
                text=True,
                timeout=LONGEST_INSTALL_SECONDS,
                env=os.environ | {"UV_PYTHON_DOWNLOADS": "never"},
            )
    except subprocess.CalledProcessError as error:
        raise CannotBeHad(" ".join(error.stderr.split())[-300:]) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBeHad(type(error).__name__) from None


@contextlib.contextmanager
def running() -> Generator[BqEmulator]:
    """Start one, empty, and stop it at the end of the block.

    Raises:
        CannotBeHad: it is not there, or does not start.
    """
    python = environment_python()
    with tempfile.TemporaryDirectory(prefix="taxi-test-bqemulator-") as directory:
        log = Path(directory) / "log"
        with log.open("w") as errors:
            # DuckDB keeps its extensions in HOME: not in the user's.
            process = subprocess.Popen(
                [str(python), "-P", str(SERVER)],  # -P: this directory has a module of the same name
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=directory,
                env=os.environ | {"HOME": directory},
            )
        with process:
            assert process.stdin
            assert process.stdout
            try:
                said = process.stdout.readline().split()
                while said and not said[0].startswith("http"):  # a line of its log
                    said = process.stdout.readline().split()
                if not said:
                    raise CannotBeHad(f"it does not start: {log.read_text()[-300:]}")
                yield BqEmulator(*said)
            finally:
                process.stdin.close()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


@pytest.fixture(scope="session")
def bqemulator() -> Generator[BqEmulator]:
    """A running bqemulator, shared by the whole session: give each test a dataset of its own."""
    try:
        with running() as emulator:
            yield emulator
    except CannotBeHad as error:
        pytest.skip(
            f"no bqemulator for this Python ({error}); try it by hand: python -m venv {ENVIRONMENT.name} && "
            f"{ENVIRONMENT.name}/bin/pip install -r {REQUIREMENTS.name}"
        )
