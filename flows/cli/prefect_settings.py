"""The Prefect side of a command: settings, the check for a server, and the Prefect files of the checkout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
)

from flows.errors import UsageError

PROJECT_ROOT = Path(__file__).parents[2]


def server_defaults() -> dict[Any, Any]:
    """The project's own defaults for Prefect.

    Returns:
        Values by setting, for `prefect.settings.temporary_settings`; without those that the environment sets.
    """
    defaults = {
        # A fresh database takes 16 s to set up on a small machine; Prefect gives up after 20.
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
        # Every flow would wait up to a second at its end for the thread that sends heartbeats.
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    return {setting: value for setting, value in defaults.items() if setting.name not in os.environ}


def require_prefect_server() -> None:
    """Refuse a command that needs a permanent Prefect server when none is configured.

    Raises:
        UsageError: `PREFECT_API_URL` is not set.
    """
    if not PREFECT_API_URL.value():
        raise UsageError(
            "no Prefect server; start one with `make server` and set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )


def read_project_file(name: str) -> str:
    """Read a text file of the checkout.

    Args:
        name: its path below the root of the project, such as `prefect.yaml`.

    Returns:
        Its content.

    Raises:
        UsageError: the file does not exist, because the package is installed without its checkout.
    """
    path = PROJECT_ROOT / name
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path} is not there; run this from a checkout of the project") from None
