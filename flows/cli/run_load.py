"""From the arguments of a command that loads months to its exit code."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flows.cli.command_line import LoadCommand, parse_command
from flows.cli.console import console_output, run_command_line
from flows.cli.dry_run import print_plan
from flows.month import MonthsFailed, RunSummary
from flows.request import LoadRequest, already_checked

if TYPE_CHECKING:
    from prefect import Flow


def run_load_command(
    flow: Flow[..., RunSummary],
    arguments: Sequence[str] | None = None,
    parse: Callable[[Sequence[str]], LoadCommand] = parse_command,
) -> int:
    """Run a command that loads months.

    Args:
        flow: that does it, on the server that is configured or a temporary one.
        arguments: of the call; None: this process's own.
        parse: reads and checks them.

    Returns:
        The exit code: 0 all published, 1 a month failed, 2 wrong usage.
    """

    def call() -> int:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        if command.dry_run:
            return print_plan(command.request)
        with console_output(command.request.directory, command.summary) as console:
            return console.conclude(lambda: _run(flow, command.request))

    return run_command_line(call, loads_months=True)


def _run(flow: Flow[..., RunSummary], request: LoadRequest) -> RunSummary:
    names = inspect.signature(flow.fn).parameters
    parameters = {name: value for name, value in request.parameters().items() if name in names}
    try:
        with already_checked(request):
            summary: Any = flow(**parameters)
    except MonthsFailed as error:
        return error.summary
    return summary
