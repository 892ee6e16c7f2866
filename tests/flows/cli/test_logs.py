"""The log of a command: what is shown, how, and what comes after the log file is closed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from flows.cli import messages_to

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.cli import Cli, Result

ENDS = """
import logging, pathlib, sys
from flows.cli.logs import log_to
with log_to(pathlib.Path(sys.argv[1])):
    pass
logging.getLogger("prefect._internal").warning("Still processing items: 3 items remaining...")
logging.getLogger("prefect._internal").warning("something else")
"""


def test_no_message_of_prefects_end_comes_below_the_last_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDS, str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "something else\n"


SYNTHETIC = ("--color", "yellow", "--source", "synthetic", "--runner", "direct")


@pytest.fixture
def run(cli: Cli) -> Callable[..., Result]:
    return lambda *arguments, **variables: cli(
        *SYNTHETIC, *arguments, **{"TAXI_SYNTHETIC_ROWS": "300", **variables}
    )


def objects(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_log_in_json_is_one_object_a_line(run: Callable[..., Result]) -> None:
    result = run("--months", "1", "--log-format", "json")
    entries = objects(result.err)
    assert {"time", "level", "logger", "message"} == set(entries[0])
    assert any(entry["message"].startswith("yellow 2021-01: published 300 rows in") for entry in entries)
    assert {entry["level"] for entry in entries} == {"info"}
    assert "published" in result.out


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["--months", "13"], {}, "months are 1 to 12, not 13"),
        (["--months", "1", "--nothing"], {}, "unrecognized arguments: --nothing"),
        (["--months", "1"], {"TAXI_SYNTHETIC_ROWS": "-1"}, "TAXI_SYNTHETIC_ROWS"),
        (["--months", "1"], {"TAXI_SYNTHETIC_BROKEN_ROWS": "200"}, "failed: yellow 2021-01"),
    ],
    ids=["a value", "an option", "a setting", "a month that fails"],
)
def test_errors_are_objects_too(
    run: Callable[..., Result], arguments: list[str], variables: dict[str, str], message: str
) -> None:
    errors = [
        entry["message"]
        for entry in objects(run("--log-format", "json", *arguments, **variables).err)
        if entry["level"] == "error"
    ]
    assert any(message in error for error in errors), errors


def test_quiet_prints_nothing_but_what_went_wrong(run: Callable[..., Result]) -> None:
    done = run("--months", "1", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    failed = run("--months", "2", "--quiet", TAXI_SYNTHETIC_BROKEN_ROWS="200")
    assert failed.out == ""
    assert "failed: yellow 2021-02" in failed.err
    assert "download" not in failed.err


def test_verbose_prints_details_and_tracebacks(
    run: Callable[..., Result], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "event=staged" not in run("--months", "1").err
    assert "event=staged" in run("--months", "2", "--verbose").err
    with messages_to(Console(stderr=True)):
        logging.getLogger("flows").debug("what went wrong", exc_info=ValueError("in full"))
    assert "ValueError: in full" in capsys.readouterr().err
