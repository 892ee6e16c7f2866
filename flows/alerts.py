"""One message when a run fails, through the Prefect notification block that `TAXI_ALERT_BLOCK` names.

    python flows/alerts.py    # sends a test message

Slack, Teams, e-mail and the rest are Prefect's own blocks, made once in the UI or in Python, see
docs/operations.md. A run never fails because of its alert: if it cannot be sent, the log says so.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from prefect.logging.loggers import flow_run_logger
from prefect.settings import temporary_settings
from prefect.utilities.urls import url_for

from flows.cli import print_usage_error, server_defaults
from flows.errors import TaxiError, Terminal, UsageError
from flows.month import MonthFailed, MonthsFailed, describe_error
from flows.settings import get_settings

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.blocks.abstract import NotificationBlock
    from prefect.client.schemas.objects import FlowRun, State

MOST_LINES = 20
"""Lines of one message; a chat cuts longer ones off."""


class AlertNotSent(Terminal):
    """A message did not leave; says why, without the address it was for."""


def alert_on_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook for `on_failure`: one message for the whole run, or nothing if no block is named.

    Never raises.
    """
    block = get_settings().alert_block
    if not block:
        return
    logger = flow_run_logger(flow_run, flow)
    try:
        send(block, *message(flow, flow_run, state))
    except Exception as error:  # noqa: BLE001 - an alert must not change what became of the run
        text = error.message if isinstance(error, AlertNotSent) else describe_error(error)
        logger.warning("%s; the run itself is not affected", text)
    else:
        logger.info("alert sent through %s", block)


def alert_on_crash(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook for `on_crashed`: the same for a run that was killed, which the worker that started it says.

    Only of a deployment: who ends a run at a terminal knows that it has ended.
    """
    if flow_run.deployment_id:
        alert_on_failure(flow, flow_run, state)


def message(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> tuple[str, str]:
    """Subject and body: which run, which months, why, and where to look."""
    error: Any = state.result(raise_on_failure=False)
    lines = [
        f"{flow.name} {flow_run.name}: {describe_error(error) if isinstance(error, BaseException) else error}"
    ]
    if state.is_crashed():  # told from outside the run; there is no log with more of it
        lines = [f"{flow.name} {flow_run.name}: {state.message}"]
    elif isinstance(error, MonthsFailed):
        lines = [f"{error.message}; the others are published"]
        lines += [str(outcome.error) for outcome in error.summary.failed]
    elif isinstance(error, MonthFailed):
        lines = [str(error.outcome.error)]
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"... and {len(lines) - MOST_LINES} more"]
    if page := url_for(flow_run):
        lines.append(page)
    return f"{flow.name} {flow_run.name} {'crashed' if state.is_crashed() else 'failed'}", "\n".join(lines)


def send(block: str, subject: str, body: str) -> None:
    """Send a message through a notification block.

    Args:
        block: its document name, `type/name`.
        subject: one line.
        body: plain text.

    Raises:
        AlertNotSent: there is no such block, or the other side did not take it.
    """
    loaded: Any = _load(block)
    try:
        loaded.notify(body, subject)
    except Exception as error:  # noqa: BLE001 - told as an error of ours
        # Not its text: that has the address, and the address of a webhook is its password.
        status: Any = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"{type(error).__name__}{f' {status}' if status else ''}"
        raise AlertNotSent(
            f"TAXI_ALERT_BLOCK={block}: the alert could not be sent ({reason}); "
            "`python flows/alerts.py` tries it again"
        ) from None


def _load(block: str) -> NotificationBlock:
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block

    # Registers Prefect's own types; imported here because it takes a quarter of a second.
    from prefect.blocks.notifications import SlackWebhook  # noqa: F401 # pyright: ignore[reportUnusedImport]

    try:
        loaded: Any = Block.load(block)
    except ValueError:  # how Prefect says that there is none
        raise AlertNotSent(
            f"TAXI_ALERT_BLOCK={block}: this Prefect server has no such block; make it in the UI under Blocks"
        ) from None
    if not isinstance(loaded, NotificationBlock):
        raise AlertNotSent(
            f"TAXI_ALERT_BLOCK={block} is no notification block; slack-webhook, ms-teams-webhook, "
            "sendgrid-email and custom-webhook are"
        )
    return loaded


def main() -> int:
    """Send a test message; returns the exit code (0 sent, 1 not sent, 2 no block is named)."""
    with temporary_settings(server_defaults()):
        try:
            block = get_settings().alert_block
            if not block:
                raise UsageError(
                    "TAXI_ALERT_BLOCK is not set; name a notification block, such as slack-webhook/taxi"
                )
            send(block, "taxi-etl", "A test message: alerts of taxi-etl arrive here.")
        except UsageError as error:
            return print_usage_error(error)
        except TaxiError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print(f"sent through {block}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
