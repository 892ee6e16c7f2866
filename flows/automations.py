"""Give the Prefect server what is in `automations/`: what it does when a run fails, crashes or vanishes.

    python flows/automations.py                       # runs whose machine has vanished have crashed
    python flows/automations.py slack-webhook/taxi    # and the server tells this block of every failed run

Called again, it replaces what it made.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli import OneLineParser, print_usage_error, server_defaults
from flows.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from prefect.client.orchestration import SyncPrefectClient

AUTOMATIONS = Path(__file__).parents[1] / "automations"
VANISHED, ALERT = "vanished-runs", "alert-on-failure"


def read_automations(name: str, **ids: str) -> list[AutomationCore]:
    """The automations of a file in `automations/`.

    Args:
        name: of the file, without its suffix.
        ids: what stands in it for an id that only a server knows, and the id.

    Raises:
        UsageError: there is no such file.
    """
    path = AUTOMATIONS / f"{name}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path} is not there; run this from a checkout of the project") from None
    for placeholder, known in ids.items():
        text = text.replace(placeholder, known)
    return [AutomationCore.model_validate(entry) for entry in yaml.safe_load(text)["automations"]]


def put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Create the automation, or replace those of its name."""
    there = client.read_automations_by_name(automation.name)
    for old in there:
        client.update_automation(old.id, automation)
    if not there:
        client.create_automation(automation)


def block_id(client: SyncPrefectClient, block: str) -> str:
    """The server's id of a block, `type/name`.

    Raises:
        UsageError: the server has no such block.
    """
    kind, _, name = block.partition("/")
    try:
        found: Any = client.read_block_document_by_name(name, kind, include_secrets=False)
    except ObjectNotFound:
        raise UsageError(
            f"no block {block} on this Prefect server; make it in the UI under Blocks, or name one as "
            "TYPE/NAME, such as slack-webhook/taxi"
        ) from None
    return str(found.id)


def parser() -> argparse.ArgumentParser:
    """Every option of `flows/automations.py`."""
    made = OneLineParser(
        prog="python flows/automations.py",
        description="Create or replace the automations of automations/ on the server of PREFECT_API_URL.",
        allow_abbrev=False,
    )
    made.add_argument(
        "block",
        nargs="?",
        metavar="TYPE/NAME",
        help="notification block to tell of failed runs; default: none",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Create or replace the automations; returns the exit code (0 done, 2 wrong usage)."""
    with temporary_settings(server_defaults()):
        try:
            block = parser().parse_args(arguments).block
            if not PREFECT_API_URL.value():
                raise UsageError(
                    "no Prefect server; start one with `make server` and set "
                    "PREFECT_API_URL=http://127.0.0.1:4200/api"
                )
            with get_client(sync_client=True) as client:
                wanted = read_automations(VANISHED)
                if block:
                    wanted += read_automations(ALERT, BLOCK_DOCUMENT_ID=block_id(client, block))
                for automation in wanted:
                    put(client, automation)
        except UsageError as error:
            return print_usage_error(error)
    print("\n".join(f"{automation.name}: {automation.description}" for automation in wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
