"""Progress on a terminal: a bar for each month at work, and one for the run below them.

A finished month becomes a line above the bars. At the end of the run the bars vanish, so that what is printed
next, to whichever stream, begins on a line of its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from flows.cli.logs import log_options
from flows.runtime import FinishedMonth, LogProgress, set_progress_listener

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESHES_PER_SECOND = 5
LINES_KEPT_FREE = 3
"""Of the terminal's: for the bar of the run, the line above the bars, and the cursor."""

SPEED_PERIOD_SECONDS = 120
"""The time left is estimated from this period; a month with its steps is neither even nor short."""

SETTLED_SECONDS = 0.5
"""The speed of a phase is not shown before, because the first report may come at once."""

BEFORE_PUBLISHING = ("download", "stage")
SHARE_BEFORE = {"download": 0.0, "stage": 0.25}
"""Share of a month's work that is done when a phase begins; publishing is the second half."""
PUBLISHING_SHARE = 0.5


@contextlib.contextmanager
def progress_on(screen: Console) -> Generator[None]:
    """Show the progress of this process for as long as the block lasts: bars on a terminal, else lines.

    Args:
        screen: of standard error.
    """
    if log_options.is_quiet or log_options.is_json or not _takes_bars(screen):
        set_progress_listener(LogProgress())
        yield
        return
    display = LiveDisplay(screen)
    set_progress_listener(display)
    try:
        with display.bars:
            yield
    finally:
        set_progress_listener(LogProgress())


def _takes_bars(screen: Console) -> bool:
    """Whether lines can be drawn over; a CI job may have a terminal, but its log keeps every version."""
    return screen.is_interactive and sys.stderr.isatty() and not os.environ.get("CI")


@dataclass
class _Month:
    """A month at work.

    Attributes:
        bar: of the month.
        phases: amount done and total by phase; several destinations are published to side by side.
        since: when the current phases began.
    """

    bar: TaskID
    phases: dict[str, tuple[int, int | None]] = field(default_factory=dict[str, tuple[int, int | None]])
    since: float = field(default_factory=time.monotonic)

    def note(self, phase: str, done: int, total: int | None) -> None:
        """Take a report over; a phase ends the ones before it, publishing only those that are not."""
        if phase in BEFORE_PUBLISHING:
            kept = {phase} & self.phases.keys()
        else:
            kept = self.phases.keys() - set(BEFORE_PUBLISHING)
        if not kept:
            self.since = time.monotonic()
        self.phases = {name: amounts for name, amounts in self.phases.items() if name in kept}
        self.phases[phase] = done, total

    @property
    def phase(self) -> str:
        """Such as `stage`, or the destinations."""
        return ", ".join(self.phases)

    @property
    def done(self) -> int:
        """Bytes or rows, summed over the destinations."""
        return sum(done for done, _ in self.phases.values())

    @property
    def total(self) -> int | None:
        """Bytes or rows in all; None if unknown."""
        totals = [total for _, total in self.phases.values()]
        return None if None in totals else sum(filter(None, totals))

    @property
    def is_idle(self) -> bool:
        """Whether the file has landed ahead and waits for its turn."""
        return "download" in self.phases and self.total is not None and self.done >= self.total

    @property
    def share(self) -> float:
        """Of the month's work, roughly."""
        of_phase = min(self.done / self.total, 1.0) if self.total else 0.0
        [*_, last] = self.phases
        if last not in BEFORE_PUBLISHING:
            return PUBLISHING_SHARE + of_phase * (1 - PUBLISHING_SHARE)
        return SHARE_BEFORE[last] + of_phase * SHARE_BEFORE["stage"]

    @property
    def speed(self) -> str:
        """Such as `12.3 MB/s`."""
        seconds = time.monotonic() - self.since
        if seconds < SETTLED_SECONDS or (self.total is not None and self.done >= self.total):
            return ""
        rate = self.done / seconds
        return f"{rate / 1e6:,.1f} MB/s" if "download" in self.phases else f"{rate:,.0f} rows/s"


class _Bars(Progress):
    """Draws the months in their order, as many as there is room for, and the run below them."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """See `rich.progress.Progress`."""
        shown = [task for task in self.tasks if task.visible]
        months = [task for task in shown if not task.fields["is_run"]]
        months.sort(key=lambda task: task.description)
        if months:  # rich asks once before it has a console
            del months[max(self.console.height - LINES_KEPT_FREE, 1) :]
        yield self.make_tasks_table([*months, *(task for task in shown if task.fields["is_run"])])


class _Detail(ProgressColumn):
    """The speed of a month; of the run the rows so far and, once a month is finished, the time left."""

    def render(self, task: Task) -> Text:
        """See `rich.progress.ProgressColumn`."""
        detail: str = task.fields["detail"]
        if task.fields["is_run"] and detail and task.time_remaining is not None:
            minutes, seconds = divmod(int(task.time_remaining), 60)
            hours, minutes = divmod(minutes, 60)
            detail += f", {f'{hours}:{minutes:02}' if hours else minutes}:{seconds:02} left"
        return Text(detail)


class LiveDisplay:
    """Receives the progress of a run; see `flows.runtime.progress.RunListener`.

    Attributes:
        bars: shown while this context manager is entered.
    """

    def __init__(self, screen: Console) -> None:
        """Draw nothing yet.

        Args:
            screen: a terminal.
        """
        self.bars = _Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            _Detail(),
            console=screen,
            transient=True,
            redirect_stdout=False,  # which may be no terminal, or another one
            refresh_per_second=REFRESHES_PER_SECOND,
            speed_estimate_period=SPEED_PERIOD_SECONDS,
        )
        self._log = LogProgress()
        self._months: dict[str, _Month] = {}
        self._finished: set[str] = set()
        self._run = self.bars.add_task("starting", total=None, is_run=True, detail="")
        self._count = self._rows = 0
        self._width = len("2021-01  download")  # of the widest description so far: the bars stay in place
        self._lock = threading.Lock()

    def begin(self, months: int) -> None:
        """See `RunListener.begin`."""
        self._log.begin(months)
        with self._lock:
            self._count = months
            self.bars.update(self._run, total=months, visible=months > 1)
            self._show_run()

    def update(self, month: str, phase: str, done: int, total: int | None) -> None:
        """See `ProgressListener.update`."""
        with self._lock:
            if month in self._finished:
                return
            if month not in self._months:
                bar = self.bars.add_task("", total=None, is_run=False, detail="")
                self._months[month] = _Month(bar)
            at_work = self._months[month]
            phases_before = at_work.phase
            at_work.note(phase, done, total)
            # The dataset is the same in all lines of a run.
            description = f"{month.rpartition(' ')[2]}  {at_work.phase}"
            self._width = max(self._width, len(description))
            self.bars.update(
                at_work.bar,
                description=description.ljust(self._width),
                completed=at_work.done,
                total=at_work.total,
                detail=at_work.speed,
                visible=not at_work.is_idle,
            )
            self._show_run()
            if at_work.phase != phases_before:
                self.bars.refresh()  # a short phase is seen as well

    def finish(self, finished: FinishedMonth) -> None:
        """See `RunListener.finish`."""
        with self._lock:
            self._finished.add(finished.month)
            self._rows += finished.rows if finished.status == "published" else 0
            if at_work := self._months.pop(finished.month, None):
                self.bars.remove_task(at_work.bar)
            self._show_run()
        self._log.finish(finished)

    def _show_run(self) -> None:
        if not self._count:  # the number of months is not known yet
            return
        finished = len(self._finished)
        self.bars.update(
            self._run,
            description=f"{finished} of {self._count} months",
            completed=finished + sum(month.share for month in self._months.values()),
            detail=_rows(self._rows) if finished else "",
        )


def _rows(count: int) -> str:
    return f"{count / 1e6:,.1f} M rows" if count >= 1_000_000 else f"{count:,} rows"
