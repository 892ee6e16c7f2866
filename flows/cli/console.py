"""What a run prints: live progress on a terminal, plain lines elsewhere, a table at the end.

Progress and messages go to standard error, the final table to standard output. Prefect's log and every
traceback go to a file below the data directory, so that an error is one line on the screen.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table

from flows.cli.logs import log_to, messages_to
from flows.cli.paths import is_standard_output, remove_earlier_summary, write_summary
from flows.cli.pipes import quiet_after_closed_pipe
from flows.cli.prefect_settings import server_for_blocks
from flows.cli.process_time import seconds_since_start
from flows.cli.signals import interruptible, print_interrupted, received_interrupt
from flows.errors import LocalStorageError, TaxiError, UsageError, error_context
from flows.month import MonthOutcome, RunSummary, describe_error
from flows.runtime import (
    Layout,
    LogProgress,
    clear_stop,
    create_directory,
    request_stop,
    set_progress_listener,
)

logger = logging.getLogger("flows.cli.console")

SUCCEEDED, FAILED, WRONG_USAGE = 0, 1, 2
"""Exit codes; `flows.cli.signals` has those of an interrupted command."""

KEPT_LOGS = 20


def run_command_line(command: Callable[[], int], *, loads_months: bool = False) -> int:
    """Run a command and turn the way it ends into an exit code.

    Args:
        command: parses its options, does its work and returns its exit code.
        loads_months: an interruption is told with what it means for the months.

    Returns:
        The command's own exit code, or, after one line on standard error: 2 for wrong usage or an unusable
        local directory, 1 for any other `TaxiError`, 130 for Ctrl-C, 143 for SIGTERM.
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
            if not isinstance(error, TaxiError):
                raise
            print(f"error: {error}", file=sys.stderr)
            return WRONG_USAGE if isinstance(error, (UsageError, LocalStorageError)) else FAILED


def table_console(*, on_stderr: bool = False) -> Console:
    """The console for tables: as wide as the terminal, or 160 columns in a file or a pipe.

    Args:
        on_stderr: standard output is for something else.
    """
    stream = sys.stderr if on_stderr else sys.stdout
    return Console(stderr=on_stderr, width=None if stream.isatty() else 160)


class _TerminalProgress:
    """Progress as one line per month: its phase, how far it is, and how fast."""

    def __init__(self, live: Progress) -> None:
        self._live = live
        self._tasks: dict[str, TaskID] = {}
        self._phases: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def update(self, month: str, phase: str, done: int, total: int | None) -> None:
        # Destinations are published to side by side: a line for each.
        name = month if phase in ("download", "stage") else f"{month} -> {phase}"
        with self._lock:
            self._update(name, phase, done, total)

    def _update(self, name: str, phase: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if name not in self._tasks:
            self._tasks[name] = self._live.add_task(name, total=None, speed="", phase="")
        if self._phases.get(name, ("", now))[0] != phase:
            self._phases[name] = (phase, now)
            self._live.reset(self._tasks[name], total=total)
        rate = done / max(now - self._phases[name][1], 0.001)
        speed = f"{rate / 1e6:,.1f} MB/s" if phase == "download" else f"{rate:,.0f} rows/s"
        if total is not None and done >= total:
            speed = ""
        self._live.update(self._tasks[name], completed=done, total=total, phase=phase, speed=speed)


class RunConsole:
    """Reports the end of a run: table, summary file, exit code.

    Attributes:
        server_log: the file for what a temporary Prefect server reports.
    """

    def __init__(self, log: Path, summary_file: Path | None) -> None:
        """Note where the details of the run go.

        Args:
            log: the log file, named in error messages.
            summary_file: receives the summary as JSON; None: no file.
        """
        self._log, self._summary_file = log, summary_file
        self.server_log = log.with_suffix(".server.log")

    def conclude(self, run: Callable[[], RunSummary]) -> int:
        """Do the run and report how it ended, whatever happens.

        Args:
            run: the work.

        Returns:
            The exit code: 0 if every month is published, 1 after a failure, 130 or 143 if interrupted.
        """
        try:
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
        out = table_console(on_stderr=is_standard_output(self._summary_file))
        out.print(_summary_table(summary))
        for outcome in summary.months:
            if outcome.quality:
                out.print(f"{outcome.month.label}: {escape(outcome.quality)}", highlight=False)
        for outcome in summary.failed:
            print(f"failed: {outcome.error}", file=sys.stderr)
        if summary.failed:
            print(f"log: {self._log}", file=sys.stderr)
        try:
            if self._summary_file:
                write_summary(self._summary_file, summary.to_json())
        except LocalStorageError as error:
            print(f"error: {error}", file=sys.stderr)
            return FAILED
        return FAILED if summary.failed else SUCCEEDED

    def _report_crash(self, error: Exception) -> int:
        """Report an error of the run as a whole, in one line."""
        logger.debug("run failed", exc_info=error)
        text = describe_error(error)
        if "Failed to reach API" in text:
            from prefect.settings import PREFECT_API_URL

            text = (
                f"no Prefect server answers at {PREFECT_API_URL.value()}; start it, or unset PREFECT_API_URL "
                "to use a temporary one"
            )
        print(f"error: {text}\nlog: {self._log}", file=sys.stderr)
        return FAILED


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
        with _live_progress(screen):
            yield RunConsole(log, summary_file)


@contextlib.contextmanager
def _live_progress(screen: Console) -> Generator[None]:
    if not screen.is_terminal:
        set_progress_listener(LogProgress())
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        TextColumn("{task.fields[phase]:>9}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}"),
    )
    with Progress(*columns, console=screen) as live:
        set_progress_listener(_TerminalProgress(live))
        try:
            yield
        finally:
            set_progress_listener(LogProgress())


def _summary_table(summary: RunSummary) -> Table:
    """One row per month; the column `dropped` only if row transforms dropped any rows."""
    loaded = [o.staged.rows for o in summary.months if o.staged and o.status == "published"]
    seconds = seconds_since_start()
    rate = f" ({sum(loaded) / seconds:,.0f} rows/s)" if loaded else ""
    table = Table(
        title=f"{summary.label}: {sum(loaded):,} rows loaded in {seconds:.1f} s{rate}",
        title_justify="left",
    )
    table.add_column("month")
    has_dropped = any(outcome.staged and outcome.staged.dropped_rows for outcome in summary.months)
    dropped = ["dropped"] if has_dropped else []
    for name in ("source rows", "staged", "rejected", *dropped, "seconds", "rows/s"):
        table.add_column(name, justify="right")
    table.add_column("destinations")
    for outcome in summary.months:
        style = "red" if outcome.status == "failed" else None
        table.add_row(*_cells(outcome, has_dropped=has_dropped), style=style)
    return table


def _cells(outcome: MonthOutcome, *, has_dropped: bool) -> list[str]:
    staged = outcome.staged
    counts: list[int | None] = [None] * 4
    if staged:
        counts = [staged.source_rows, staged.rows, staged.rejected_rows, staged.dropped_rows]
    numbers = ["-" if count is None else f"{count:,}" for count in counts[: 4 if has_dropped else 3]]
    # An unchanged month was not loaded, so it has no speed.
    loaded = staged if outcome.status == "published" else None
    rate = f"{loaded.rows / outcome.seconds:,.0f}" if loaded and outcome.seconds else "-"
    published = [f"{name}: {receipt.status}" for name, receipt in outcome.receipts.items()]
    failed = [f"{name}: failed" for name in outcome.failures]
    destinations = ", ".join(published + failed) or "failed"
    return [outcome.month.iso, *numbers, f"{outcome.seconds:.1f}", rate, destinations]
