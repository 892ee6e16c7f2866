"""Serve the deployments of `prefect.yaml` from this process, without a work pool and a worker.

    python flows/serve.py                        # all of them
    python flows/serve.py "Parameterized ETL"    # some of them

It needs a permanent Prefect server (`make server`), which keeps the schedules. Ctrl-C ends it and pauses the
schedules it served. A deployment that already belongs to a work pool is refused: its workers would take the
same runs.
"""

from __future__ import annotations

try:
    from flows import start_script
except ImportError:
    raise SystemExit(
        "error: this Python has none of the project's packages; use .venv/bin/python (`make setup`)"
    ) from None

if __name__ == "__main__":
    start_script()  # first, because the imports below take a while

import argparse
import contextlib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from flows.cli import command_parser, exit_with, read_project_file, require_prefect_server, run_command_line
from flows.errors import UsageError
from flows.settings import get_settings

if TYPE_CHECKING:  # Prefect is imported late: a wrong call and --help need not wait for it
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment


def read_deployments() -> dict[str, dict[str, Any]]:
    """Read `prefect.yaml`.

    Returns:
        Its deployments as they are written there, by name.
    """
    content = yaml.safe_load(read_project_file("prefect.yaml"))
    return {entry["name"]: entry for entry in content["deployments"]}


def to_serve(entry: Mapping[str, Any]) -> RunnerDeployment:
    """Turn a deployment of `prefect.yaml` into one that `prefect.serve` accepts.

    Args:
        entry: the deployment; its work pool is ignored.

    Returns:
        The same deployment without a work pool.
    """
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.schedules import Schedule
    from prefect.types.entrypoint import EntrypointType

    limit = entry.get("concurrency_limit")
    deployment: Any = _flow_of(entry).to_deployment(
        entry["name"],
        description=entry.get("description"),
        parameters=entry.get("parameters"),
        schedules=[Schedule(**schedule) for schedule in entry.get("schedules", ())],
        concurrency_limit=ConcurrencyLimitConfig(**limit) if limit else None,
        tags=entry.get("tags"),
        # A path would be valid on this machine only, but the server may be shared with others.
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return deployment


def _flow_of(entry: Mapping[str, Any]) -> Flow[..., Any]:
    module, _, name = entry["entrypoint"].rpartition(".")
    flow: Flow[..., Any] = getattr(importlib.import_module(module), name)
    return flow


def parser() -> argparse.ArgumentParser:
    """The options of `flows/serve.py`."""
    parser = command_parser(
        "flows/serve.py",
        "Serve deployments of prefect.yaml from this process; needs a server: PREFECT_API_URL.",
    )
    add = parser.add_argument
    add("names", nargs="*", default=[], metavar="NAME", help="which deployments; default: all")
    add("--limit", type=int, default=2, metavar="N", help="runs at once; default: %(default)s")
    return parser


def _check_not_deployed(entries: Iterable[Mapping[str, Any]]) -> None:
    """Refuse deployments whose runs the workers of a pool would take."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    deployed: list[str] = []
    with get_client(sync_client=True) as client:
        for entry in entries:
            name = f"{_flow_of(entry).name}/{entry['name']}"
            with contextlib.suppress(ObjectNotFound):
                if client.read_deployment_by_name(name).work_pool_name:
                    deployed.append(name)
    if deployed:
        raise UsageError(
            f"deployed to a work pool already: {', '.join(deployed)}; start a worker with `taxi-etl worker`, "
            f"or take them away first: prefect deployment delete {deployed[0]!r}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        The exit code: 0 after Ctrl-C or SIGTERM while it serves, 2 for wrong usage.
    """

    def command() -> int:
        options = parser().parse_args(arguments)
        deployments = read_deployments()
        if unknown := [name for name in options.names if name not in deployments]:
            names = ", ".join(map(repr, unknown))
            raise UsageError(f"no deployment {names}; prefect.yaml has {', '.join(deployments)}")
        if options.limit < 1:
            raise UsageError(f"--limit {options.limit}: at least 1 run at once")
        require_prefect_server()
        from prefect import serve

        get_settings()  # a wrong setting is reported now, not by each run
        entries = [deployments[name] for name in options.names or deployments]
        _check_not_deployed(entries)
        serve(*map(to_serve, entries), limit=options.limit)
        return 0

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main())
