"""Create the Prefect automations in `automations/`: what the server does when a run fails, crashes, vanishes.

    python flows/automations.py                       # mark runs whose machine has vanished as crashed
    python flows/automations.py slack-webhook/taxi    # and notify this block of every failed run

Called again, it replaces the automations it created.
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
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from flows.cli import command_parser, exit_with, read_project_file, require_prefect_server, run_command_line
from flows.errors import UsageError

if TYPE_CHECKING:  # Prefect is imported late: a wrong call and --help need not wait for it
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore


def _read_automations(name: str, **ids: str) -> list[AutomationCore]:
    """Read `automations/{name}.yaml`, its placeholders replaced by ids that only the server knows."""
    from prefect.events.schemas.automations import AutomationCore

    text = read_project_file(f"{name}.yaml")
    for placeholder, server_id in ids.items():
        text = text.replace(placeholder, server_id)
    return [AutomationCore.model_validate(entry) for entry in yaml.safe_load(text)["automations"]]


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    existing = client.read_automations_by_name(automation.name)
    for old in existing:
        client.update_automation(old.id, automation)
    if not existing:
        client.create_automation(automation)


def _block_id(client: SyncPrefectClient, block: str) -> str:
    from prefect.exceptions import ObjectNotFound

    kind, _, name = block.partition("/")
    try:
        document: Any = client.read_block_document_by_name(name, kind, include_secrets=False)
    except ObjectNotFound:
        raise UsageError(
            f"no block {block} on this Prefect server; make it in the UI under Blocks, or name one as "
            "TYPE/NAME, such as slack-webhook/taxi"
        ) from None
    return str(document.id)


def parser() -> argparse.ArgumentParser:
    """The options of `flows/automations.py`."""
    parser = command_parser(
        "flows/automations.py",
        "Create or replace the automations of automations/ on the server of PREFECT_API_URL.",
    )
    parser.add_argument(
        "block",
        nargs="?",
        metavar="TYPE/NAME",
        help="notification block to tell of failed runs; default: none",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Create or replace the automations, and print them.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        The exit code: 0 when they are on the server, 2 for wrong usage.
    """

    def command() -> int:
        block = parser().parse_args(arguments).block
        require_prefect_server()
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            automations = _read_automations("vanished-runs")
            if block:
                automations += _read_automations(
                    "alert-on-failure", BLOCK_DOCUMENT_ID=_block_id(client, block)
                )
            for automation in automations:
                _put(client, automation)
        print("\n".join(f"{automation.name}: {automation.description}" for automation in automations))
        return 0

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main())
