"""`taxi-etl psql`: the embedded server, or the one that the settings name."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from flows.destinations.postgres.embedded_server import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path


def psql(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith(("TAXI_", "PG"))}
    return subprocess.run(
        [sys.executable, "-m", "taxi_etl", "psql", *arguments],
        env=others | variables,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_embedded_server_runs_until_psql_ends(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "postgres")
    server.start()
    server.stop()
    done = psql("--data-dir", tmp_path, "-Atc", "SELECT 6 * 7")
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("psql postgresql://postgres@/postgres?host=")
    assert not server.is_running()
    assert psql("--data-dir", tmp_path, "-c", "SELECT nothing").returncode == 1


def test_without_any_server_the_next_step_is_named(tmp_path: Path) -> None:
    done = psql("--data-dir", tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "TAXI_POSTGRES_URL is not set" in line
    assert "--data-dir" in line


def test_the_password_is_not_on_the_command_line(tmp_path: Path) -> None:
    program = tmp_path / "psql"
    program.write_text('#!/bin/sh\necho "$@"\necho "password $PGPASSWORD" >&2\n')
    program.chmod(0o755)
    url = "postgresql+psycopg2://me:s%40cret@db.example:5433/ny_taxi?sslmode=require"
    done = psql("-c", "SELECT 1", TAXI_POSTGRES_URL=url, PATH=f"{tmp_path}:{os.environ['PATH']}")
    shown = "postgresql://me@/ny_taxi?host=db.example&port=5433&sslmode=require"
    assert done.stdout == f"{shown} -c SELECT 1\n"
    assert done.stderr == f"psql {shown}\npassword s@cret\n"


def test_without_psql_the_package_is_named(tmp_path: Path) -> None:
    done = psql(TAXI_POSTGRES_URL="postgresql://me@localhost/db", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "no program psql on PATH" in done.stderr
