"""Serve the deployments of `prefect.yaml` from this process, without a work pool and a worker.

    python flows/serve.py                        # all of them
    python flows/serve.py "Parameterized ETL"    # some of them

It needs a Prefect server that stays (`make server`), because a schedule lives there. Ctrl-C ends it and
pauses the schedules it served. What is deployed to a work pool already is refused: a worker would take its
runs too.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from prefect import serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Schedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types.entrypoint import EntrypointType

from flows.cli import OneLineParser, print_usage_error, server_defaults
from flows.errors import UsageError
from flows.settings import get_settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

DEPLOYMENTS = Path(__file__).parents[1] / "prefect.yaml"


def read_deployments(path: Path = DEPLOYMENTS) -> dict[str, dict[str, Any]]:
    """The deployments of a `prefect.yaml`, by name.

    Raises:
        UsageError: there is no such file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path} is not there; run this from a checkout of the project") from None
    return {entry["name"]: entry for entry in content["deployments"]}


def to_serve(entry: Mapping[str, Any]) -> RunnerDeployment:
    """One deployment as `serve` wants it: all that `prefect.yaml` says of it except the pool."""
    limit = entry.get("concurrency_limit")
    made: Any = _flow_of(entry).to_deployment(
        entry["name"],
        description=entry.get("description"),
        parameters=entry.get("parameters"),
        schedules=[Schedule(**schedule) for schedule in entry.get("schedules", ())],
        concurrency_limit=ConcurrencyLimitConfig(**limit) if limit else None,
        tags=entry.get("tags"),
        # By its module: a path would be this machine's own, kept on a server that others share.
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return made


def _flow_of(entry: Mapping[str, Any]) -> Flow[..., Any]:
    module, _, name = entry["entrypoint"].rpartition(".")
    flow: Flow[..., Any] = getattr(importlib.import_module(module), name)
    return flow


def parser() -> argparse.ArgumentParser:
    """Every option of `flows/serve.py`."""
    made = OneLineParser(
        prog="python flows/serve.py",
        description="Serve deployments of prefect.yaml from this process; needs a server: PREFECT_API_URL.",
        allow_abbrev=False,
    )
    names = made.add_argument("names", nargs="*", metavar="NAME", help="which deployments; default: all")
    names.default = []
    made.add_argument("--limit", type=int, default=2, metavar="N", help="runs at once; default: %(default)s")
    return made


def chosen(arguments: Sequence[str] | None = None) -> tuple[list[RunnerDeployment], int]:
    """The deployments that a call names, and how many runs may go on at once.

    Raises:
        UsageError: in one line, before anything is served.
    """
    given = parser().parse_args(arguments)
    entries = read_deployments()
    if unknown := [name for name in given.names if name not in entries]:
        raise UsageError(
            f"no deployment {', '.join(map(repr, unknown))}; prefect.yaml has {', '.join(entries)}"
        )
    if given.limit < 1:
        raise UsageError(f"--limit {given.limit}: at least 1 run at once")
    if not PREFECT_API_URL.value():
        raise UsageError(
            "no Prefect server; start one with `make server` and set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    get_settings()
    check_not_deployed(entries[name] for name in given.names or entries)
    return [to_serve(entries[name]) for name in given.names or entries], given.limit


def check_not_deployed(entries: Iterable[Mapping[str, Any]]) -> None:
    """Refuse to serve what a worker of a pool would take the runs of.

    Raises:
        UsageError: names the deployments and what to do.
    """
    deployed: list[str] = []
    with get_client(sync_client=True) as client:
        for entry in entries:
            name = f"{_flow_of(entry).name}/{entry['name']}"
            with contextlib.suppress(ObjectNotFound):
                if client.read_deployment_by_name(name).work_pool_name:
                    deployed.append(name)
    if deployed:
        raise UsageError(
            f"deployed to a work pool already: {', '.join(deployed)}; start a worker with `make worker`, or "
            f"take them away first: prefect deployment delete {deployed[0]!r}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; returns the exit code (0 ended by hand, 2 wrong usage)."""
    with temporary_settings(server_defaults()):
        try:
            deployments, limit = chosen(arguments)
        except UsageError as error:
            return print_usage_error(error)
        serve(*deployments, limit=limit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
