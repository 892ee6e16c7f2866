"""A pseudo-terminal with an emulator behind it: what a person sees of a command, now and above."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyte
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
LONGEST_WAIT_SECONDS = 120


class Terminal:
    """A command in a terminal of a given size.

    Attributes:
        screen: what the emulator shows, with what has scrolled away.
        raw: every byte that came.
    """

    def __init__(self, command: list[str], columns: int, lines: int, environment: dict[str, str]) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=0.5)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={"TERM": "xterm-256color", **environment},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
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
                    read = os.read(self._master, 65_536)
                except OSError:  # as Linux says that nobody has the other end open any more
                    return self.process.wait()
                self.raw += read
                self._stream.feed(read)
            if until():
                return None
        pytest.fail(f"the terminal shows: {self.text}")

    @property
    def text(self) -> str:
        """The screen without the blank lines below."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def scrolled(self) -> str:
        """What has left the screen at its top."""
        columns = range(self.screen.columns)
        return "\n".join(
            "".join(line[column].data for column in columns).rstrip() for line in self.screen.history.top
        )

    def close(self) -> None:
        """End the command, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


class Terminals:
    """Opens terminals; all are closed at the end of the test."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment, self.opened = environment, list[Terminal]()

    def __call__(self, *command: str, columns: int = 80, lines: int = 24, **environment: str) -> Terminal:
        terminal = Terminal([sys.executable, *command], columns, lines, {**self._environment, **environment})
        self.opened.append(terminal)
        return terminal


@pytest.fixture
def terminal(server_environment: dict[str, str]) -> Iterator[Terminals]:
    terminals = Terminals(server_environment)
    yield terminals
    for each in terminals.opened:
        each.close()
