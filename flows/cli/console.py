"""What a run prints: live progress on a terminal, plain lines elsewhere, a table at the end.

Progress and messages go to standard error, the final table to standard output. Prefect's log and every
traceback go to a file below the data directory, so that an error is one line on the screen.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import sys
from collections.abc import Callable, Generator
from pathlib import Path

from rich.console import Console

from flows.cli.live_display import progress_on
from flows.cli.logs import log_options, log_to, messages_to, print_line
from flows.cli.paths import is_standard_output, remove_earlier_summary, write_summary
from flows.cli.pipes import quiet_after_closed_pipe
from flows.cli.prefect_settings import server_for_blocks
from flows.cli.process_time import seconds_since_start
from flows.cli.signals import interruptible, print_interrupted, received_interrupt
from flows.cli.summary_tables import summary_tables
from flows.errors import LocalStorageError, TaxiError, UsageError, error_context
from flows.month import RunSummary, describe_error
from flows.runtime import Layout, clear_stop, create_directory, request_stop

logger = logging.getLogger("flows.cli.console")

SUCCEEDED, FAILED, WRONG_USAGE = 0, 1, 2
"""Exit codes; `flows.cli.signals` has those of an interrupted command."""

KEPT_LOGS = 20
REFUSALS = {429, 502, 503, 504}
"""Answers after which Prefect's client tries again, and then gives up."""


def run_command_line(command: Callable[[], int], *, loads_months: bool = False) -> int:
    """Run a command and turn the way it ends into an exit code.

    Args:
        command: parses its options, does its work and returns its exit code.
        loads_months: an interruption is told with what it means for the months.

    Returns:
        The command's own exit code, or, after one line on standard error: 2 for wrong usage or an unusable
        local directory, 1 for any other `TaxiError` and for a Prefect server that does not answer, 130 for
        Ctrl-C, 143 for SIGTERM.
    """
    with quiet_after_closed_pipe(), interruptible(loads_months=loads_months):
        try:
            with server_for_blocks():
                return command()
        except KeyboardInterrupt as interrupt:
            return print_interrupted(interrupt, loads_months=loads_months)
        except Exception as error:
            if interrupt := received_interrupt():
                return print_interrupted(interrupt, loads_months=loads_months)
            text = str(error) if isinstance(error, TaxiError) else describe_prefect_error(error)
            if not text:
                raise
            print_line(f"error: {text}")
            return WRONG_USAGE if isinstance(error, (UsageError, LocalStorageError)) else FAILED


def table_console(*, on_stderr: bool = False) -> Console:
    """The console for tables: as wide as the terminal, or 160 columns in a file or a pipe.

    Args:
        on_stderr: standard output is for something else.
    """
    stream = sys.stderr if on_stderr else sys.stdout
    return Console(stderr=on_stderr, width=None if stream.isatty() else 160)


class RunConsole:
    """Reports the end of a run: table, summary file, exit code.

    Attributes:
        server_log: the file for what a temporary Prefect server reports.
    """

    def __init__(self, screen: Console, log: Path, summary_file: Path | None) -> None:
        """Note where the details of the run go.

        Args:
            screen: of standard error, for the progress.
            log: the log file, named in error messages.
            summary_file: receives the summary as JSON; None: no file.
        """
        self._screen, self._log, self._summary_file = screen, log, summary_file
        self.server_log = log.with_suffix(".server.log")

    def conclude(self, run: Callable[[], RunSummary]) -> int:
        """Do the run and report how it ended, whatever happens.

        Args:
            run: the work.

        Returns:
            The exit code: 0 if every month is published, 1 after a failure, 130 or 143 if interrupted.
        """
        try:
            with progress_on(self._screen):  # which is off the screen before anything else is printed
                summary = run()
        except KeyboardInterrupt as interrupt:
            request_stop()
            return print_interrupted(interrupt, loads_months=True)
        except Exception as error:
            if interrupt := received_interrupt():  # what the error comes from, see `flows.cli.signals`
                logger.debug("run interrupted", exc_info=error)
                return print_interrupted(interrupt, loads_months=True)
            return self._report_crash(error)
        if summary.failed and (interrupt := received_interrupt()):  # months were told to stop
            return print_interrupted(interrupt, loads_months=True)
        return self._report(summary)

    def _report(self, summary: RunSummary) -> int:
        self._print_table(summary)
        for outcome in summary.failed:
            print_line(f"failed: {outcome.error}")
        if summary.failed:
            print_line(f"log: {self._log}", logging.INFO)
        try:
            if self._summary_file:
                write_summary(self._summary_file, summary.to_json())
        except LocalStorageError as error:
            print_line(f"error: {error}")
            return FAILED
        return FAILED if summary.failed else SUCCEEDED

    def _print_table(self, summary: RunSummary) -> None:
        on_stderr = is_standard_output(self._summary_file)
        if log_options.is_quiet or (on_stderr and log_options.is_json):
            return
        out = table_console(on_stderr=on_stderr)
        out.print(summary_tables(summary, seconds_since_start(), out))

    def _report_crash(self, error: Exception) -> int:
        """Report an error of the run as a whole, in one line."""
        logger.debug("run failed", exc_info=error)
        text = describe_prefect_error(error) or describe_error(error)
        print_line(f"error: {text}")
        print_line(f"log: {self._log}", logging.INFO)
        return FAILED


def describe_prefect_error(error: Exception) -> str | None:
    """Say what to do about a Prefect server that does not answer.

    Prefect's client has tried again several times by then.

    Args:
        error: any error.

    Returns:
        One line, or None if that is not what has happened.
    """
    import httpx

    is_unreached = "Failed to reach API" in str(error)  # whatever the cause
    match error.__cause__ if is_unreached else error:
        case httpx.HTTPStatusError(response=response) if response.status_code in REFUSALS:
            answer = f"answers {response.status_code} {response.reason_phrase}"
        case httpx.TimeoutException():
            answer = "does not answer in time"
        case _ if is_unreached:
            answer = None
        case _:
            return None

    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not answer:
        return (
            f"no Prefect server answers at {url}; start it, or unset PREFECT_API_URL to use a temporary one"
        )
    return (
        f"the Prefect server at {url} {answer}. Run the command again; what is published stays. "
        "`taxi-etl server` handles more runs at once than Prefect's own command; --runner direct needs none"
    )


@contextlib.contextmanager
def console_output(data_dir: Path, summary_file: Path | None = None) -> Generator[RunConsole]:
    """Send log and progress of a run to their places, for as long as the block lasts.

        with console_output(data_dir) as console:
            exit_code = console.conclude(run)

    Args:
        data_dir: the log file goes below it.
        summary_file: receives the summary of the run as JSON; None: no file.

    Yields:
        What reports the end of the run.

    Raises:
        LocalStorageError: the directory for the log cannot be created.
    """
    logs = Layout(data_dir).logs
    with error_context(f"--data-dir {data_dir}"):
        create_directory(logs)
    log = logs / f"etl-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%fZ}.log"
    screen = Console(stderr=True)
    clear_stop()
    if summary_file:
        remove_earlier_summary(summary_file)
    with log_to(log), messages_to(screen, propagate=True):
        for old in sorted(logs.glob("etl-*.log"))[:-KEPT_LOGS]:
            old.unlink(missing_ok=True)
        yield RunConsole(screen, log, summary_file)
