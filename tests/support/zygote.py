"""Runs the real command line in separate processes, without paying for the imports each time.

A zygote is a Python process that has imported `flows.parent` and waits; for each run it forks, so that a run
starts in a few milliseconds, is a real process with its own signals, locks and files, and can be killed like
one. It reads one JSON object a line on standard input and answers with one on standard output.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[2]


class Zygote:
    """The waiting process; it does one run at a time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        assert self._read_line() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.stdout.close()
            self._process.wait()

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        output: Path,
        *,
        kill_at: str | None = None,
        with_signal: signal.Signals = signal.SIGKILL,
        max_file_bytes: int | None = None,
        command: str = "flows.parent",
    ) -> int:
        """Start a run; returns its process id.

        Args:
            arguments: of the command.
            environment: added to the zygote's own.
            output: file for standard output and standard error.
            kill_at: `module.function:count:before` or `:after`: send itself a signal at that call.
            with_signal: the signal to send.
            max_file_bytes: no file can grow beyond this size, as on a full disk.
            command: the module whose `main` is run.
        """
        request = {
            "arguments": list(map(str, arguments)),
            "environment": dict(environment),
            "output": str(output),
            "kill_at": kill_at,
            "signal": int(with_signal),
            "max_file_bytes": max_file_bytes,
            "command": command,
        }
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._read_line())

    def wait(self) -> int:
        """The exit code of the run that was started; negative: the signal that ended it."""
        return int(self._read_line())

    def _read_line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the zygote is dead"
        return line.strip()


def _serve() -> None:
    destinations = [f"flows.destinations.{name}" for name in ("duckdb", "postgres", "iceberg")]
    for name in ("flows.parent", "flows.cli", "flows.runners", "flows.month", *destinations):
        module = importlib.import_module(name)  # what every run needs, imported once
        for exported in getattr(module, "__all__", ()):
            getattr(module, exported)

    _write_line("ready")
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
        _write_line(str(child))
        _, status = os.waitpid(child, 0)
        _write_line(str(os.waitstatus_to_exitcode(status)))


def _write_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _run(request: dict[str, Any]) -> None:
    """Run the command in this forked process; never returns."""
    os.setsid()  # a signal to this run must not reach the zygote
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(request["environment"])
    if max_bytes := request["max_file_bytes"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, resource.RLIM_INFINITY))
    if request["kill_at"]:
        kill_at(request["kill_at"], request["signal"])
    from flows.cli import exit_with

    exit_with(importlib.import_module(request["command"]).main(request["arguments"]))


def kill_at(step: str, with_signal: int) -> None:
    """Wrap a function so that this process sends itself a signal at the call that `step` names."""
    name, count, when = step.rsplit(":", 2)
    module_name, _, function_name = name.rpartition(".")
    module = importlib.import_module(module_name)
    wrapped: Callable[..., Any] = getattr(module, function_name)
    calls = 0

    def call_and_kill(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == int(count) and when == "before":
            os.kill(os.getpid(), with_signal)
        result = wrapped(*args, **kwargs)
        if calls == int(count) and when == "after":
            os.kill(os.getpid(), with_signal)
        return result

    setattr(module, function_name, call_and_kill)


if __name__ == "__main__":
    _serve()
