"""Prefect settings for a run from the command line."""

from __future__ import annotations

import os
from typing import Any

from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
)


def server_defaults() -> dict[Any, Any]:
    """Overrides for `temporary_settings`; what the environment sets stays as it is."""
    wanted = {
        # A fresh database takes 16 s to set up on a small machine; Prefect gives up after 20.
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
        # Every flow would wait a second at its end for the thread that sends heartbeats.
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    return {setting: value for setting, value in wanted.items() if setting.name not in os.environ}
