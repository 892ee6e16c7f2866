"""PostgreSQL servers of other versions than the wheel's, from whatever is installed on this machine."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from support.postgres import Database, short_lived_directory
from support.prefect_server import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

NAMED = "TAXI_TEST_POSTGRES_BINARIES"
"""Variable that names further directories with `initdb` and `pg_ctl`, separated like those of PATH."""

DEBIAN = "/usr/lib/postgresql"
USERS = ("postgres", "nobody")
"""Who runs the server if the tests run as root, which PostgreSQL refuses."""


def installed() -> dict[str, Path]:
    """The directory of the programs by major version."""
    named = [Path(part) for part in os.environ.get(NAMED, "").split(os.pathsep) if part]
    directories = [path for path in [*Path(DEBIAN).glob("*/bin"), *named] if (path / "initdb").exists()]
    return {_major_version(path): path for path in directories}


def _major_version(programs: Path) -> str:
    said = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    return said.stdout.split()[2].partition(".")[0]


@contextlib.contextmanager
def server_of(programs: Path) -> Generator[Database]:
    """A server made with these programs, with PostgreSQL's own settings, for as long as the block."""
    user = next((name for name in USERS if _exists(name)), None) if os.geteuid() == 0 else None
    port = str(free_port())
    with short_lived_directory() as directory:
        if user:
            shutil.chown(directory, user)
        data, log = directory / "data", directory / "server.log"
        options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory}"

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [programs / program, "-D", data, *arguments],
                user=user,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                check=True,
            )

        run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
        run("pg_ctl", "start", "-w", "-l", str(log), "-o", options)
        try:
            yield Database(f"postgresql://postgres@127.0.0.1:{port}/postgres")
        finally:
            run("pg_ctl", "stop", "-w", "-m", "immediate")


def _exists(user: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(user))
    return False
