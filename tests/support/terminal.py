"""A terminal with an emulator behind it: what a person sees of a command, and what has scrolled away."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pyte
import pytest
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyte.screens import Char

ROOT = Path(__file__).parents[2]
LONGEST_WAIT_SECONDS = 120
NOT_A_PERSONS = ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PREFECT_API_URL")
"""Variables that a person's shell does not have."""


class Terminal:
    """An emulated terminal.

    Attributes:
        screen: what it shows, with what has scrolled away.
        raw: every byte that came.
    """

    def __init__(self, columns: int, lines: int) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=0.5)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)

    def feed(self, content: bytes) -> None:
        self.raw += content
        self._stream.feed(content)

    @property
    def lines(self) -> list[str]:
        """The screen without the blank lines below."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    @property
    def scrolled(self) -> list[str]:
        """What has left the screen at its top."""
        columns = range(self.screen.columns)
        return ["".join(line[column].data for column in columns).rstrip() for line in self.screen.history.top]

    def picture(self, path: Path, title: str) -> None:
        """Save the screen as SVG."""
        console = Console(record=True, width=self.screen.columns, file=io.StringIO(), force_terminal=True)
        for number, shown in enumerate(self.lines):
            line = self.screen.buffer[number]
            characters = [line[column] for column in range(len(shown))]
            parts = [("".join(c.data for c in same), style) for style, same in groupby(characters, _style)]
            console.print(Text.assemble(*parts, no_wrap=True))
        svg = console.export_svg(title=title, theme=SVG_EXPORT_THEME, unique_id=path.stem)
        # Without the fonts that would come from another machine: whoever shows it has one.
        path.write_text(re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL))


def _style(char: Char) -> Style:
    name = {"default": None, "brown": "yellow"}.get(char.fg, char.fg)
    colour = f"#{name}" if name and re.fullmatch("[0-9a-f]{6}", name) else name
    return Style(color=colour, bold=char.bold, reverse=char.reverse)


class TerminalCommand(Terminal):
    """A command in a terminal of its own."""

    def __init__(self, command: list[str], columns: int, lines: int, environment: dict[str, str]) -> None:
        super().__init__(columns, lines)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C becomes a signal
        )
        os.close(slave)

    def wait(self, until: Callable[[], bool] = lambda: False) -> int | None:
        """Show what comes until the condition holds or the command ends.

        Returns:
            The exit code; None if the command is still running.
        """
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while time.monotonic() < deadline:
            if select.select([self._master], [], [], 0.2)[0]:
                try:
                    self.feed(os.read(self._master, 65_536))
                except OSError:  # as Linux says that nobody has the other end open any more
                    return self.process.wait()
            if until():
                return None
        pytest.fail("\n".join(["the terminal shows:", *self.lines]))

    def type(self, keys: bytes) -> None:
        """Press keys, such as Ctrl-C, which is `\\x03`."""
        os.write(self._master, keys)

    def close(self) -> None:
        """End the command, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


class Terminals:
    """Opens terminals; all are closed at the end of the test."""

    def __init__(self) -> None:
        self.opened: list[TerminalCommand] = []

    def __call__(
        self, *command: str, columns: int = 80, lines: int = 24, **environment: str
    ) -> TerminalCommand:
        """Run a command of Python's, such as a script with its arguments."""
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_A_PERSONS}
        variables = {**inherited, "TERM": "xterm-256color", **environment}
        self.opened.append(TerminalCommand([sys.executable, *command], columns, lines, variables))
        return self.opened[-1]


@pytest.fixture
def terminal() -> Iterator[Terminals]:
    terminals = Terminals()
    yield terminals
    for each in terminals.opened:
        each.close()
