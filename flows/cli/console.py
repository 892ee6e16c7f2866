"""What a person sees: live progress on a terminal, plain lines elsewhere, a table at the end.

Progress and messages go to standard error, the final table to standard output. Prefect's own log and
every traceback go to a file under the data directory, so that an error here is one line.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import sys
import time
from typing import TYPE_CHECKING

from prefect.logging.formatters import PrefectFormatter
from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table

from flows.cli.log_file import LogFile
from flows.cli.prefect_settings import server_defaults
from flows.cli.signals import print_interrupted, raise_on_sigterm
from flows.errors import LocalStorageError, UsageError, error_context
from flows.month import describe_error
from flows.runtime import Layout, LogProgress, atomic_write, clear_stop, request_stop, set_progress_listener

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from flows.errors import TaxiError
    from flows.month import MonthOutcome, RunSummary

logger = logging.getLogger("flows.cli.console")

PUBLISHED, FAILED, WRONG_USAGE = 0, 1, 2
"""Exit codes; `flows.cli.signals` has two more."""

KEPT_LOGS = 20


def run_command_line(command: Callable[[], int]) -> int:
    """Run a command with our defaults of Prefect's settings; returns its exit code, or that of how it ended.

    Wrong usage is 2 and one line; Ctrl-C and SIGTERM, before the run or while its end is said, are one line
    and a code of their own.
    """
    with temporary_settings(server_defaults()), raise_on_sigterm():
        try:
            return command()
        except (UsageError, LocalStorageError) as error:
            return print_usage_error(error)
        except KeyboardInterrupt as interrupt:
            return print_interrupted(interrupt)


def print_usage_error(error: TaxiError) -> int:
    """One line on standard error; returns the exit code."""
    print(f"error: {error}", file=sys.stderr)
    return WRONG_USAGE


class _OneLine(logging.Formatter):
    """A message without its traceback, which is in the log file."""

    def format(self, record: logging.LogRecord) -> str:
        clock = self.formatTime(record, "%H:%M:%S")
        return f"{clock} {record.getMessage()}"


class TerminalProgress:
    """A line for each month: what it is at, how far, how fast."""

    def __init__(self, live: Progress) -> None:
        """Draw into a running rich display."""
        self._live = live
        self._lines: dict[str, TaskID] = {}
        self._phase: dict[str, tuple[str, float]] = {}

    def update(self, month: str, phase: str, done: int, total: int | None) -> None:
        """See `flows.runtime.progress.ProgressListener`."""
        now = time.monotonic()
        if month not in self._lines:
            self._lines[month] = self._live.add_task(month, total=None, speed="", phase="")
        if self._phase.get(month, ("", now))[0] != phase:
            self._phase[month] = (phase, now)
            self._live.reset(self._lines[month], total=total)
        rate = done / max(now - self._phase[month][1], 0.001)
        speed = f"{rate / 1e6:,.1f} MB/s" if phase == "download" else f"{rate:,.0f} rows/s"
        finished = total is not None and done >= total
        self._live.update(
            self._lines[month],
            completed=done,
            total=total,
            phase=phase,
            speed="" if finished else speed,
        )


class RunConsole:
    """The end of a run: table, summary file, exit code."""

    def __init__(self, log: Path, summary_file: Path | None) -> None:
        """Remember where the log is and where the summary is to go."""
        self._log, self._summary_file = log, summary_file

    def conclude(self, run: Callable[[], RunSummary]) -> int:
        """Run, and say how it ended, whatever happened; returns the exit code."""
        try:
            summary = run()
        except KeyboardInterrupt as interrupt:
            request_stop()
            return print_interrupted(interrupt)
        except Exception as error:  # noqa: BLE001 - the last resort: one line, traceback in the log
            return self._crashed(error)
        return self._finish(summary)

    def _finish(self, summary: RunSummary) -> int:
        """Print the table and the headlines, write the summary file; returns the exit code."""
        out = Console(width=None if sys.stdout.isatty() else 160)
        out.print(summary_table(summary))
        for outcome in summary.months:
            if outcome.quality:
                out.print(f"{outcome.month.label}: {escape(outcome.quality)}", highlight=False)
        for outcome in summary.failed:
            print(f"failed: {outcome.error}", file=sys.stderr)
        if summary.failed:
            print(f"log: {self._log}", file=sys.stderr)
        try:
            self._write(summary)
        except LocalStorageError as error:
            print(f"error: {error}", file=sys.stderr)
            return FAILED
        return FAILED if summary.failed else PUBLISHED

    def _write(self, summary: RunSummary) -> None:
        if self._summary_file:
            path = self._summary_file.absolute()
            with error_context(f"--summary {path}"), atomic_write(path) as temporary:
                temporary.write_text(json.dumps(summary.to_json(), indent=2) + "\n")

    def _crashed(self, error: Exception) -> int:
        """One line for an error that is not a month's."""
        logger.debug("run failed", exc_info=error)
        text = describe_error(error)
        if "Failed to reach API" in text:
            text = (
                f"no Prefect server answers at {PREFECT_API_URL.value()}; start it, or unset PREFECT_API_URL "
                "to use a temporary one"
            )
        print(f"error: {text}\nlog: {self._log}", file=sys.stderr)
        return FAILED


@contextlib.contextmanager
def console_output(data_dir: Path, summary_file: Path | None = None) -> Generator[RunConsole]:
    """Show a run to a person: logging and progress for as long as the block lasts.

    Args:
        data_dir: the log goes below it.
        summary_file: where the run's JSON goes; None: nowhere.

    Raises:
        LocalStorageError: nothing can be written there.
    """
    logs = Layout(data_dir).logs
    with error_context(f"--data-dir {data_dir}"):
        logs.mkdir(parents=True, exist_ok=True)
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    log = logs / f"etl-{stamp}.log"
    screen = Console(stderr=True)
    clear_stop()
    if summary_file:
        summary_file.unlink(missing_ok=True)  # an old one would speak of another run
    with _logging_to(log, screen):
        _remove_old_logs(logs)
        if not PREFECT_API_URL.value():
            logger.info("starting a temporary Prefect server; with PREFECT_API_URL set, one of yours is used")
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
        set_progress_listener(TerminalProgress(live))
        try:
            yield
        finally:
            set_progress_listener(LogProgress())


@contextlib.contextmanager
def _logging_to(log: Path, screen: Console) -> Generator[None]:
    """Everything to the file; of our own loggers, one line each to the screen."""
    root, ours = logging.getLogger(), logging.getLogger("flows")
    before = root.handlers[:], ours.handlers[:], ours.level
    file = LogFile(log, encoding="utf-8", delay=True)
    file.setFormatter(
        PrefectFormatter(
            "%(asctime)s %(levelname)s %(name)s: %(message)s",
            flow_run_fmt="%(asctime)s %(levelname)s %(flow_run_name)s: %(message)s",
            task_run_fmt="%(asctime)s %(levelname)s %(task_run_name)s: %(message)s",
        )
    )
    lines = _ScreenHandler(screen)
    lines.setFormatter(_OneLine())
    root.handlers[:], ours.handlers[:] = [file], [lines]
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:], ours.handlers[:] = before[:2]
        for handler in root.handlers:
            handler.addFilter(_is_not_goodbye)
        ours.setLevel(before[2])
        file.close()


def _is_not_goodbye(record: logging.LogRecord) -> bool:
    """Not what Prefect says when the process ends: it sends its last events, stops the temporary server."""
    said = record.getMessage()
    return "Stopping temporary server" not in said and "Still processing items" not in said


class _ScreenHandler(logging.Handler):
    """Prints above the live display instead of into it."""

    def __init__(self, screen: Console) -> None:
        super().__init__(logging.INFO)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


def _remove_old_logs(directory: Path) -> None:
    for old in sorted(directory.glob("etl-*.log"))[:-KEPT_LOGS]:
        old.unlink(missing_ok=True)


def summary_table(summary: RunSummary) -> Table:
    """The run as a table, one row a month."""
    loaded = [o.staged.rows for o in summary.months if o.staged and o.status == "published"]
    rate = f" ({sum(loaded) / summary.seconds:,.0f} rows/s)" if loaded and summary.seconds else ""
    table = Table(
        title=f"{summary.label}: {sum(loaded):,} rows loaded in {summary.seconds:.1f} s{rate}",
        title_justify="left",
    )
    table.add_column("month")
    has_dropped = any(outcome.staged and outcome.staged.dropped_rows for outcome in summary.months)
    dropped = ["dropped"] if has_dropped else []
    for name in ("source rows", "staged", "rejected", *dropped, "seconds", "rows/s"):
        table.add_column(name, justify="right")
    table.add_column("destinations")
    for outcome in summary.months:
        table.add_row(
            *_cells(outcome, has_dropped=has_dropped), style="red" if outcome.status == "failed" else None
        )
    return table


def _cells(outcome: MonthOutcome, *, has_dropped: bool) -> list[str]:
    staged = outcome.staged
    counts: list[int | None] = (
        [staged.source_rows, staged.rows, staged.rejected_rows] if staged else [None] * 3
    )
    if has_dropped:
        counts.append(staged.dropped_rows if staged else None)
    # Nothing was loaded when nothing had changed, so there is no speed to speak of.
    loaded = staged if outcome.status == "published" else None
    rate = f"{loaded.rows / outcome.seconds:,.0f}" if loaded and outcome.seconds else "-"
    numbers = ["-" if count is None else f"{count:,}" for count in counts]
    numbers += [f"{outcome.seconds:.1f}", rate]
    done = [f"{name}: {receipt.status}" for name, receipt in outcome.receipts.items()]
    failed = [f"{name}: failed" for name in outcome.failures]
    return [outcome.month.iso, *numbers, ", ".join(done + failed) or "failed"]
