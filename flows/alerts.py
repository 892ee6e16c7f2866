"""One message when a run fails, through the Prefect notification block that `TAXI_ALERT_BLOCK` names.

    python flows/alerts.py    # sends a test message

Slack, Teams, e-mail and the others are Prefect's own blocks, created once in the UI or in Python; see
docs/reference/operations.md. An alert that cannot be sent is a line in the log and never changes the run.
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
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flows.cli import command_parser, exit_with, prefect_session, run_command_line
from flows.errors import Terminal, UsageError
from flows.month import MonthFailed, MonthsFailed, describe_error
from flows.settings import get_settings

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.blocks.abstract import NotificationBlock
    from prefect.client.schemas.objects import FlowRun, State

MAX_LINES = 20
"""Lines in a message; chats truncate longer ones."""


class AlertNotSent(Terminal):
    """A message was not sent; the reason does not contain the address."""


def alert_on_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Prefect's `on_failure` hook: send one message for the whole run if a block is configured; never raises.

    Args:
        flow: the flow.
        flow_run: its failed run.
        state: the run's final state.
    """
    block = get_settings().alert_block
    if not block:
        return
    from prefect.logging.loggers import flow_run_logger

    logger = flow_run_logger(flow_run, flow)
    try:
        send(block, *message(flow, flow_run, state))
    except Exception as error:  # noqa: BLE001 - an alert must not change the outcome of the run
        text = error.message if isinstance(error, AlertNotSent) else describe_error(error)
        logger.warning("%s; the run itself is not affected", text)
    else:
        logger.info("alert sent through %s", block)


def alert_on_crash(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Prefect's `on_crashed` hook: the same for a run that was killed, as reported by its worker.

    Runs from a terminal send nothing: the person there has just ended the run.

    Args:
        flow: the flow.
        flow_run: its crashed run.
        state: the run's final state.
    """
    if flow_run.deployment_id:
        alert_on_failure(flow, flow_run, state)


def message(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> tuple[str, str]:
    """Write the message for a failed or crashed run.

    Args:
        flow: the flow.
        flow_run: its run.
        state: the run's final state.

    Returns:
        Subject and body: which run, which months, why, and a link to the run.
    """
    run = f"{flow.name} {flow_run.name}"
    error: Any = state.result(raise_on_failure=False)
    if state.is_crashed():  # reported from outside the run, which left no log of it
        lines = [f"{run}: {state.message}"]
    elif isinstance(error, MonthsFailed):
        failed = error.summary.failed
        others = "" if len(failed) == len(error.summary.months) else "; the others are published"
        lines = [f"{error.message}{others}", *(str(outcome.error) for outcome in failed)]
    elif isinstance(error, MonthFailed):
        lines = [str(error.outcome.error)]
    else:
        lines = [f"{run}: {describe_error(error) if isinstance(error, BaseException) else error}"]
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"... and {len(lines) - MAX_LINES} more"]
    from prefect.utilities.urls import url_for

    if link := url_for(flow_run):
        lines.append(link)
    return f"{run} {'crashed' if state.is_crashed() else 'failed'}", "\n".join(lines)


def send(block: str, subject: str, body: str) -> None:
    """Send a message through a notification block.

    Args:
        block: `type/name`.
        subject: one line.
        body: plain text.

    Raises:
        AlertNotSent: there is no such block, or its service refused the message.
    """
    notification: Any = _load(block)
    try:
        notification.notify(body, subject)
    except Exception as error:  # noqa: BLE001 - any error of any service
        # Without the error's text: it contains the address, and the address of a webhook is its password.
        status: Any = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"{type(error).__name__}{f' {status}' if status else ''}"
        raise AlertNotSent(
            f"TAXI_ALERT_BLOCK={block}: the alert could not be sent ({reason}); "
            "`taxi-etl alerts` tries it again"
        ) from None


def _load(block: str) -> NotificationBlock:
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block

    # Registers Prefect's own types; imported here because it takes a quarter of a second.
    from prefect.blocks.notifications import SlackWebhook  # noqa: F401 # pyright: ignore[reportUnusedImport]

    try:
        notification: Any = Block.load(block)
    except ValueError:  # Prefect's way to say that there is no such block
        raise AlertNotSent(
            f"TAXI_ALERT_BLOCK={block}: this Prefect server has no such block; make it in the UI under Blocks"
        ) from None
    if not isinstance(notification, NotificationBlock):
        raise AlertNotSent(
            f"TAXI_ALERT_BLOCK={block} is no notification block; slack-webhook, ms-teams-webhook, "
            "sendgrid-email and custom-webhook are"
        )
    return notification


def parser() -> argparse.ArgumentParser:
    """The options of `flows/alerts.py`: none of its own."""
    return command_parser(
        "flows/alerts.py", "Send a test message through the notification block that TAXI_ALERT_BLOCK names."
    )


def main(arguments: Sequence[str] = ()) -> int:
    """Send a test message.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code: 0 if it was sent, 1 if not, 2 if no block is configured.
    """

    def command() -> int:
        parser().parse_args(arguments)
        block = get_settings().alert_block
        if not block:
            raise UsageError(
                "TAXI_ALERT_BLOCK is not set; name a notification block, such as slack-webhook/taxi"
            )
        with prefect_session() as api:
            api.wait_until_ready()
            send(block, "taxi-etl", "A test message: alerts of taxi-etl arrive here.")
        print(f"sent through {block}")
        return 0

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main(sys.argv[1:]))
