"""A reader that goes away, as `head` does, changes neither the work nor the exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.cli import ROOT
from support.trips import warehouse_rows

if TYPE_CHECKING:
    from pathlib import Path

LOAD = ["--color", "yellow", "--months", "1", "2", "--source", "synthetic", "--runner", "direct"]


def unread(command: list[str], *streams: str) -> tuple[int, str]:
    """Exit code and standard error of a command whose `streams` nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | dict.fromkeys(streams, writer)
    with os.fdopen(writer):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "TAXI_SYNTHETIC_ROWS": "1000"},
            text=True,
            check=False,
            timeout=100,
            **pipes,
        )
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["flows/status.py", "--color", "yellow", "--json"], 0),
        (["flows/status.py", "--color", "yellow"], 0),
        (["flows/status.py", "--color", "yellow", "--months", "1", "--json"], 1),
        (["flows/status.py", "--help"], 0),
        (["flows/blocks.py", "--help"], 0),
        (["flows/parent.py", "--version"], 0),
        (["flows/parent.py", *LOAD, "--dry-run"], 0),
    ],
)
def test_nothing_is_said_about_a_closed_pipe(tmp_path: Path, command: list[str], code: int) -> None:
    has_data = not {"--help", "--version"} & {*command} and "blocks" not in command[0]
    data = ["--data-dir", str(tmp_path / "data")] if has_data else []
    assert unread([*command, *data], "stdout") == (code, "")


@pytest.mark.parametrize("streams", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_the_months_are_loaded_all_the_same(tmp_path: Path, streams: tuple[str, ...]) -> None:
    code, said = unread(["flows/parent.py", *LOAD, "--data-dir", str(tmp_path)], *streams)
    assert code == 0, said
    assert "Broken" not in said
    assert warehouse_rows(tmp_path / "warehouse.duckdb", "SELECT count(*) FROM yellow_taxi_trips") == [
        (2000,)
    ]
