"""The installed program `taxi-etl`: one command for the scripts of the project.

Each subcommand is a script, run as `python flows/parent.py` runs it, with the same options and the same help.
Nothing is imported for it here, so `--help` and `--version` answer at once.

NOTE: the program is in a package of its own because its name is not taken by anybody else. `flows` and
`transforms` are, so it can tell whether it has found those of this project.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]

COMMANDS = {
    "load": ("flows/parent.py", "load months of a dataset into one or more destinations"),
    "status": ("flows/status.py", "say which months are loaded where, and what is missing"),
    "gates": ("taxi_etl/gates.py", "print the gates that a month has to pass, and what months measure"),
    "report": ("taxi_etl/report.py", "write a page of pictures of what a warehouse has"),
    "settings": ("taxi_etl/settings.py", "print every setting with its value and where it comes from"),
    "psql": ("taxi_etl/psql.py", "open the Postgres that months are loaded into"),
    "ingest": ("flows/ingest.py", "load one month from a URL into one Postgres table"),
    "web-to-gcs": ("flows/web_to_gcs.py", "bring months from the web into the bucket, as Parquet"),
    "gcs-to-bq": ("flows/gcs_to_bq.py", "load months from the bucket into BigQuery"),
    "maintain": ("taxi_etl/maintain.py", "remove expired snapshots of Iceberg tables, and files of no use"),
    "server": ("flows/cli/serve_api.py", "run a Prefect server with its UI, until Ctrl-C"),
    "deploy": ("taxi_etl/deploy.py", "bring all deployments to the Prefect server"),
    "worker": ("taxi_etl/worker.py", "work on what is deployed, until Ctrl-C"),
    "serve": ("flows/serve.py", "serve the deployments from this process, without a work pool"),
    "blocks": ("flows/blocks.py", "save Prefect blocks for what the settings configure"),
    "automations": ("flows/automations.py", "create Prefect automations for runs that fail or vanish"),
    "alerts": ("flows/alerts.py", "send a test message through the block for alerts"),
    "completion": ("taxi_etl/completion.py", "print the script for completion in bash, zsh or fish"),
}
"""By name: the script, below the folder of the packages, and what it does."""

EXAMPLES = """\
examples:
  taxi-etl load --color yellow --months 1 2 3 --source synthetic   without a network
  taxi-etl load --color yellow --months 1 2 3 --year 2021          into data/warehouse.duckdb
  taxi-etl load --color green --since 2020-01 --to duckdb postgres --dry-run
  taxi-etl status --color yellow

The options of a command: taxi-etl COMMAND --help
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a subcommand in this process, which ends with its exit code.

    Args:
        arguments: of the call; None: this process's own.

    Raises:
        SystemExit: at the end.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in COMMANDS:
        parser().parse_args(arguments or ["--help"])
    refuse_other_packages()
    import runpy  # not needed for what is answered above

    import flows

    name, *rest = arguments
    flows.subcommand, sys.argv[1:] = f"taxi-etl {name}", rest
    runpy.run_path(str(ROOT / COMMANDS[name][0]), run_name="__main__")
    raise SystemExit(0)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see taxi-etl --help\n")


class _PrintVersion(argparse.Action):
    def __call__(self, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"taxi-etl {version('taxi-etl')}")
        raise SystemExit(0)


def parser() -> argparse.ArgumentParser:
    """The parser of the program itself; each subcommand has its own."""
    made = _Parser(
        prog="taxi-etl",
        description="New York's taxi trip records, from the web into a warehouse.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--version", action=_PrintVersion, nargs=0, help="print the version and stop")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text)
    return made


def refuse_other_packages() -> None:
    """End the process if another distribution's `flows` or `transforms` would be used instead of ours.

    Raises:
        SystemExit: names the file that is in the way, and what to do.
    """
    for name in ("flows", "transforms"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        ours = (ROOT / name / "__init__.py").resolve()
        # The file may also have been overwritten by an installation that came later.
        if found != ours or (name == "flows" and not hasattr(__import__(name), "start_script")):
            _refuse(name, found)


def _refuse(name: str, found: Path | None) -> NoReturn:
    from importlib.metadata import packages_distributions

    owners = {*packages_distributions().get(name, ())} - {"taxi-etl"}
    owner = f" of {', '.join(sorted(owners))}" if owners else ""
    print(
        f"error: the package `{name}`{owner} ({found or 'a folder of that name'}) hides the one of taxi-etl; "
        "install taxi-etl into an environment of its own (uv tool install taxi-etl), without PYTHONPATH",
        file=sys.stderr,
    )
    raise SystemExit(2)
