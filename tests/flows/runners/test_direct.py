"""`--runner direct`: the same work and the same answers, without Prefect in the process."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.cli import ROOT, Cli, by_month, small_month

from flows.errors import DestinationBusy, LockTimeout, SchemaDrift, error_context
from flows.month import steps
from flows.month.steps import is_worth_retrying
from flows.runtime import RetryPolicy

if TYPE_CHECKING:
    from pathlib import Path

    from support.web import Web

SYNTHETIC = ("--color", "yellow", "--months", "1", "2", "--source", "synthetic")
NO_SERVER = {"TAXI_SYNTHETIC_ROWS": "500", "PREFECT_API_URL": "http://127.0.0.1:9/api"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([*SYNTHETIC, "--runner", "direct"], 0),
        ([*SYNTHETIC, "--dry-run"], 0),
        (["--help"], 0),
        (["--version"], 0),
        (["--color", "red"], 2),
        ([*SYNTHETIC, "--to", "postgres", "--runner", "direct"], 2),
    ],
    ids=["direct", "dry run", "help", "version", "wrong call", "a setting that a block could have"],
)
@pytest.mark.parametrize("script", ["parent", "web_to_gcs"])
def test_prefect_is_not_imported(
    cli_process: Cli, tmp_path: Path, script: str, arguments: list[str], code: int
) -> None:
    if script == "web_to_gcs":
        arguments = [argument for argument in arguments if argument not in ("--to", "postgres")]
        code = code if arguments[0] in ("--help", "--version") else 2  # there is no bucket
        if "--dry-run" in arguments:
            pytest.skip("asks for the block of the bucket")
    data_dir = [] if arguments[0] in ("--help", "--version") else ["--data-dir", str(tmp_path / "data")]
    process = subprocess.run(
        [sys.executable, "-X", "importtime", f"flows/{script}.py", *arguments, *data_dir],
        cwd=ROOT,
        env=cli_process.environment | NO_SERVER,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == code, process.stderr[-2000:]
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", process.stderr, re.MULTILINE))
    assert "flows.cli" in imported
    assert not [name for name in imported if name.partition(".")[0].startswith("prefect")]


@pytest.mark.parametrize("script", ["ingest", "gcs_to_bq", "status", "serve", "automations", "blocks"])
def test_the_help_of_the_other_commands_does_without_prefect(cli_process: Cli, script: str) -> None:
    process = subprocess.run(
        [sys.executable, "-X", "importtime", f"flows/{script}.py", "--help"],
        cwd=ROOT,
        env=cli_process.environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert "usage: python flows/" in process.stdout
    assert not re.search(r"\| +prefect", process.stderr)


def test_it_does_what_threads_do_and_says_what_is_missing(cli: Cli) -> None:
    environment = {"TAXI_SYNTHETIC_ROWS": "500", "TAXI_SYNTHETIC_BROKEN_ROWS": "3"}
    threads = cli(*SYNTHETIC, **environment)
    again = cli(*SYNTHETIC, "--runner", "direct", **environment)
    anew = cli(*SYNTHETIC, "--runner", "direct", "--force", **environment)
    assert (threads.code, again.code, anew.code) == (0, 0, 0)
    assert by_month(again, "status") == ["unchanged", "unchanged"]
    for key in ("status", "source_rows", "staged_rows", "rejected_rows"):
        assert by_month(anew, key) == by_month(threads, key)
    assert cli.count() == sum(by_month(threads, "staged_rows"))
    assert len(re.findall("without Prefect: no history", anew.err)) == 1
    assert "without Prefect" not in threads.err


def test_a_month_that_fails_does_not_stop_the_others(cli: Cli, web: Web) -> None:
    web.put("/2021-01.csv.gz", small_month(10))
    web.put("/2021-03.csv.gz", b"<html>Sorry</html>")
    result = cli(
        *("--color", "yellow", "--months", "1", "2", "3", "--runner", "direct"),
        *("--source", web.url + "/{year}-{month:02}.csv.gz"),
    )
    assert result.code == 1
    assert by_month(result, "status") == ["published", "failed", "failed"]
    assert result.err.count("failed: yellow 2021-02: ") == 1
    assert "Traceback" not in result.err


@pytest.fixture
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = RetryPolicy(attempts=steps.STEP_RETRIES.attempts, first_pause_seconds=0.01)
    monkeypatch.setattr(steps, "STEP_RETRIES", policy)


@pytest.mark.usefixtures("_short_pauses")
def test_a_destination_that_fails_does_not_stop_the_others(cli: Cli) -> None:
    result = cli(
        *("--color", "yellow", "--months", "1", "--source", "synthetic", "--runner", "direct"),
        *("--to", "postgres", "duckdb"),
        TAXI_POSTGRES_URL="postgresql://nobody@127.0.0.1:9/nowhere",
        TAXI_SYNTHETIC_ROWS="500",
    )
    assert result.code == 1
    [destinations] = by_month(result, "destinations")
    assert {name: one["status"] for name, one in destinations.items()} == {
        "postgres": "failed",
        "duckdb": "published",
    }
    assert cli.count() == 500
    (log,) = (cli.data_dir / "logs").glob("*.log")
    assert "Traceback" in log.read_text()
    assert "Traceback" not in result.err


@pytest.mark.usefixtures("_short_pauses")
def test_a_step_is_retried_as_prefect_would(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    publish, calls = steps.publish, []

    def busy_at_first(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) < 3:
            with error_context("yellow 2021-01"):
                raise DestinationBusy("somebody else is at it", "run it again later")
        return publish(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "publish", busy_at_first)
    result = cli(*SYNTHETIC[:4], "--source", "synthetic", "--runner", "direct", TAXI_SYNTHETIC_ROWS="500")
    assert result.code == 0, result.err
    assert len(calls) == 3
    assert result.err.count("yellow 2021-01: somebody else is at it. Trying again in") == 2


def test_a_lock_that_was_waited_for_is_not_retried() -> None:
    assert is_worth_retrying(DestinationBusy("busy"))
    assert not is_worth_retrying(LockTimeout("waited"))
    assert not is_worth_retrying(SchemaDrift("never"))


def test_blocks_are_not_read_and_the_message_says_what_to_set(cli: Cli) -> None:
    result = cli(*SYNTHETIC, "--to", "postgres", "--runner", "direct")
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "TAXI_POSTGRES_URL" in result.err


@pytest.mark.parametrize(("with_signal", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_is_one_line(
    cli_process: Cli, tmp_path: Path, web: Web, with_signal: signal.Signals, code: int
) -> None:
    web.put("/2021-01.csv.gz", small_month(10))
    web.put("/2021-02.csv.gz", small_month(10))
    web.misbehave("/2021-02.csv.gz", delay_seconds=3)
    process = subprocess.Popen(
        [
            *(sys.executable, "flows/parent.py", "--color", "yellow", "--months", "1", "2"),
            *("--source", web.url + "/{year}-{month:02}.csv.gz", "--runner", "direct"),
            *("--data-dir", str(tmp_path / "data")),
        ],
        cwd=ROOT,
        env=cli_process.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process, contextlib.suppress(ProcessLookupError):
        assert process.stderr
        said = [next(line for line in process.stderr if "published" in line)]
        process.send_signal(with_signal)
        said += process.stderr.readlines()
    assert process.returncode == code, said
    assert said[-1].startswith(("interrupted: ", "terminated: ")), said
    assert "Traceback" not in "".join(said)
