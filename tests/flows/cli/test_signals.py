"""Ctrl-C and SIGTERM at any moment: one last line, the exit code of the signal, and an end within seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.cli import ROOT

from flows.cli.signals import Terminated, interruptible, signals_deferred
from flows.runtime import clear_stop

if TYPE_CHECKING:
    from pathlib import Path

ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
BOTH = pytest.mark.parametrize("number", [*ENDS], ids=["Ctrl-C", "SIGTERM"])
LOAD = ("--color", "yellow", "--months", "1-3", "--source", "synthetic")

ARMED = """
import atexit, os, runpy, signal, sys, time

number, module, where, script = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
sys.argv[:] = sys.argv[4:]
sys.path[0] = os.path.dirname(script)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            {action}

sys.meta_path.insert(0, Finder())
runpy.run_path(script, run_name="__main__")
"""
"""Runs a command of ours; does `action` when it first imports a module."""


def ended(
    command: list[str], *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=ROOT,
        env={**os.environ, "TAXI_SYNTHETIC_ROWS": "1000", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def signalled_at(
    module: str, number: int, script: str, *arguments: str, action: str = ""
) -> tuple[int, list[str]]:
    """Exit code and lines of a command that gets a signal when it first imports a module."""
    code = ARMED.format(action=action or "os.kill(os.getpid(), number)")
    done = ended(["-c", code, str(int(number)), module, "", f"flows/{script}.py"], *arguments)
    return done.returncode, done.stderr.splitlines()


@BOTH
@pytest.mark.parametrize(
    ("script", "module"),
    [
        ("parent", "flows.cli"),
        ("parent", "flows.request"),
        ("parent", "flows.settings"),
        ("ingest", "flows.settings"),
        ("web_to_gcs", "flows.cli"),
        ("gcs_to_bq", "flows.cli"),
        ("status", "rich.console"),
        ("serve", "prefect"),
        ("automations", "prefect"),
        ("blocks", "prefect_gcp"),
        ("alerts", "flows.month"),
    ],
)
def test_a_signal_during_the_imports_is_one_word(script: str, module: str, number: signal.Signals) -> None:
    code, word = ENDS[number]
    assert signalled_at(module, number, script) == (code, [word])


IN_A_CALLBACK = """
            from typing import Annotated
            from pydantic import PlainSerializer, TypeAdapter
            kill = PlainSerializer(lambda _: os.kill(os.getpid(), number) or time.sleep(0.1))
            TypeAdapter(Annotated[int, kill]).dump_python(1)
"""


@BOTH
@pytest.mark.parametrize("module", ["polars", "prefect", "prefect.main", "prefect.task_runners"])
def test_a_signal_while_the_engine_or_prefect_is_imported_is_one_line(
    server_environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    number: signal.Signals,
) -> None:
    """In a callback of pydantic, as there are in Prefect's settings: it makes an error of any exception."""
    for name, value in server_environment.items():
        monkeypatch.setenv(name, value)
    status, word = ENDS[number]
    arguments = (*LOAD, "--data-dir", str(tmp_path))
    code, lines = signalled_at(module, number, "parent", *arguments, action=IN_A_CALLBACK.strip())
    assert (code, lines[-1].partition(":")[0]) == (status, word), lines
    assert not [line for line in lines if "Traceback" in line or "rror" in line]


SWALLOWED = """
            sys.modules['flows.cli.signals'].LONGEST_STOP_SECONDS = 2
            try:
                os.kill(os.getpid(), number)
                time.sleep(1)
            except KeyboardInterrupt as error:
                {then}
"""


@BOTH
@pytest.mark.parametrize(
    "then",
    [
        "raise ValueError('Error calling function `_ser_model`: KeyboardInterrupt') from error",
        "pass",
        "time.sleep(99)",
    ],
    ids=["turned into an error", "forgotten", "stuck"],
)
def test_an_interruption_that_a_library_swallows_is_still_one(
    tmp_path: Path, number: signal.Signals, then: str
) -> None:
    """As pydantic does in a callback, a finalizer, and a lock that is never released."""
    action = SWALLOWED.format(then=then).strip()
    status, word = ENDS[number]
    arguments = ("--data-dir", str(tmp_path / "data"), "--runner", "direct")
    code, lines = signalled_at("flows.runners.direct", number, "parent", *LOAD, *arguments, action=action)
    assert (code, lines[-1].partition(":")[0]) == (status, word), lines
    assert not [line for line in lines if "Traceback" in line or "rror" in line]
    assert not (tmp_path / "data" / "warehouse.duckdb").exists()


@BOTH
def test_what_is_deferred_comes_once_the_block_is_over(number: signal.Signals) -> None:
    """So that no import is left half done."""
    done = list[str]()

    def deferring() -> None:
        with signals_deferred():
            os.kill(os.getpid(), number)
            done.append("the rest of the block")

    with interruptible(loads_months=True), pytest.raises(KeyboardInterrupt) as interrupt:
        deferring()
    clear_stop()
    assert done
    assert (interrupt.type is Terminated) == (number is signal.SIGTERM)
