"""From the arguments of a command that loads months to its exit code."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.cli.command_line import LoadCommand, parse_command
from flows.cli.console import console_output, run_command_line
from flows.cli.logs import read_log_options
from flows.cli.prefect_settings import import_flow, prefect_session
from flows.cli.signals import signals_deferred
from flows.month import MonthsFailed, RunSummary
from flows.request import LoadRequest, already_checked

logger = logging.getLogger(__name__)


def run_load_command(
    flow: str,
    arguments: Sequence[str] | None = None,
    parse: Callable[[Sequence[str]], LoadCommand] = parse_command,
    plan: Callable[[LoadRequest], int] | None = None,
) -> int:
    """Run a command that loads months.

    Args:
        flow: that does it, as `module:name`; imported only when it is run, because Prefect takes a second.
        arguments: of the call; None: this process's own.
        parse: reads and checks them.
        plan: prints what `--dry-run` would do and returns the exit code; None: that of a load.

    Returns:
        The exit code: 0 all published, 1 a month failed, 2 wrong usage.
    """

    def call() -> int:
        given = sys.argv[1:] if arguments is None else arguments
        read_log_options(given)
        command = parse(given)
        if command.dry_run:
            return (plan or _print_plan)(command.request)
        with console_output(command.request.directory, command.summary) as console:
            return console.conclude(lambda: _run(flow, command.request, console.server_log))

    return run_command_line(call, loads_months=True)


# What does the work is imported when it has to be done: `--help` and a wrong call do not wait for it.


def _print_plan(request: LoadRequest) -> int:
    with signals_deferred():
        from flows.cli.dry_run import print_plan
    return print_plan(request)


def _run(flow: str, request: LoadRequest, server_log: Path) -> RunSummary:
    try:
        if request.runner.name == "direct":
            logger.info("without Prefect: no history, no artifacts, no page in the UI")
            with signals_deferred():
                from flows.runners import run_request

                importlib.import_module("flows.runners.direct")
            return run_request(request)
        return _run_flow(flow, request, server_log)
    except MonthsFailed as error:
        return error.summary


def _run_flow(flow: str, request: LoadRequest, server_log: Path) -> RunSummary:
    with _landing_ahead(request), prefect_session(server_log) as api, already_checked(request):
        run = import_flow(flow)  # imports Prefect, while a temporary server starts
        with signals_deferred():
            importlib.import_module(f"flows.runners.{request.runner.name}")
        api.wait_until_ready()
        names = inspect.signature(run.fn).parameters
        return run(**{name: value for name, value in request.parameters().items() if name in names})


def _landing_ahead(request: LoadRequest) -> contextlib.AbstractContextManager[None]:
    """Begin with the downloads before Prefect is imported, if they are this machine's and known already."""
    if request.runner.is_remote or request.selection.is_open_ended:
        return contextlib.nullcontext()
    with signals_deferred():
        from flows.month import landing_ahead
    return landing_ahead(request.selection.known_months(request.color), request)
