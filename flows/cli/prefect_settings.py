"""The Prefect side of a command: settings, the check for a server, and the Prefect files of the checkout."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pkgutil
import tempfile
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

from flows.cli.prefect_server import PrefectApi, prefect_api
from flows.cli.signals import signals_deferred
from flows.errors import UsageError
from flows.request import before_reading_blocks
from flows.runtime import is_temporary_server

logger = logging.getLogger(__name__)

PROJECT_FILES = Path(__file__).with_name("project")
"""Links to `prefect.yaml` and `automations/`; a wheel has the files themselves."""


@contextlib.contextmanager
def prefect_session(server_log: Path | None = None) -> Generator[PrefectApi]:
    """Run the flows of the block on the server that is configured, one that runs here, or a temporary one.

    No flow waits up to a second at its end for the thread that sends its heartbeats, unless Prefect's
    settings say how often they are sent. (There, it cannot be switched off.)

    Args:
        server_log: the file for what a temporary server reports; None: one in the temporary directory.

    Yields:
        The server; import the flow, then wait until it is ready.
    """
    server_log = server_log or Path(tempfile.gettempdir()) / f"prefect-server-{os.getpid()}.log"
    with prefect_api(server_log) as api:
        if api.message:
            logger.info(api.message)
        with signals_deferred():
            from prefect.settings import (
                PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
                get_current_settings,
                temporary_settings,
            )

        is_set = "heartbeat_frequency" in get_current_settings().flows.model_fields_set
        with temporary_settings({} if is_set else {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield api


@contextlib.contextmanager
def server_for_blocks() -> Generator[None]:
    """Have a server ready, chosen as for a run, before the first Prefect block is read in this context."""
    with contextlib.ExitStack() as stack:
        lock, sessions = threading.Lock(), list[PrefectApi]()

        def start() -> None:
            with lock:
                if not sessions:
                    sessions.append(stack.enter_context(prefect_session()))
                    sessions[0].wait_until_ready()

        with before_reading_blocks(start):
            yield


def import_flow(name: str) -> Any:  # noqa: ANN401 - a flow; Prefect's types are not imported yet
    """Import a flow, and Prefect with it; a signal that arrives meanwhile raises afterwards.

    What is imported stays, so no garbage is looked for, which saves a sixth of the second that it takes.

    Args:
        name: as `module:name`.

    Returns:
        The flow.
    """
    gc.disable()
    try:
        with signals_deferred():
            return pkgutil.resolve_name(name)
    finally:
        gc.freeze()
        gc.enable()


def require_prefect_server() -> None:
    """Refuse a command that needs a permanent Prefect server when none is configured.

    Raises:
        UsageError: `PREFECT_API_URL` is not set.
    """
    from prefect.settings import PREFECT_API_URL

    if is_temporary_server(PREFECT_API_URL.value()):
        raise UsageError(
            "no Prefect server; start one with `taxi-etl server` and set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )


def read_project_file(name: str) -> str:
    """Read one of the files that describe deployments and automations.

    Args:
        name: such as `prefect.yaml`.

    Returns:
        Its content.
    """
    return (PROJECT_FILES / name).read_text(encoding="utf-8")
