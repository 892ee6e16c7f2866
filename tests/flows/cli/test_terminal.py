"""What a person sees of a run in a terminal, while it is at work and at its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.cli import small_month
from support.terminal import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from support.terminal import TerminalCommand, Terminals

LOAD = ("flows/parent.py", "--color", "yellow", "--runner", "direct", "--concurrency", "2")
SYNTHETIC = (*LOAD, "--source", "synthetic")
BAR = "━"
MOVES = re.compile(rb"\x1b\[[0-9;?]*[A-HJKhl]")
COLOURS = re.compile(rb"\x1b\[(?:[0-9]+;)*(?:3[0-9]|9[0-7])(?:;[0-9]+)*m")

ORDINARY_END = """
HH:MM:SS without Prefect: no history, no artifacts, no page in the UI
HH:MM:SS 3 months, 2 at once; --concurrency changes it
HH:MM:SS yellow 2021-0N: published 2,000 rows in N.N s (1 of 3 months)
HH:MM:SS yellow 2021-0N: published 2,000 rows in N.N s (2 of 3 months)
HH:MM:SS yellow 2021-0N: published 2,000 rows in N.N s (3 of 3 months)
unusual rows, loaded all the same  rows   share  most in
────────────────────────────────────────────────────────────────
pickup_outside_month                  6  0.100%  2021-01, 0.100%
dropoff_before_pickup                 3  0.050%  2021-01, 0.050%
zero_passengers                      57  0.950%  2021-01, 0.950%
zero_distance                        30  0.500%  2021-01, 0.500%
negative_fare                        12  0.200%  2021-01, 0.200%
exact_duplicates                      3  0.050%  2021-01, 0.050%

yellow 2021: 6,000 rows loaded in N.N s (N rows/s)
month    source rows  staged  rejected  seconds  rows/s  duckdb
──────────────────────────────────────────────────────────────────
2021-01        2,000   2,000         0      N.N  N       published
2021-02        2,000   2,000         0      N.N  N       published
2021-03        2,000   2,000         0      N.N  N       published
"""


def without_times(lines: list[str]) -> list[str]:
    """The lines with fixed text for what differs from run to run."""
    text = "\n".join(lines)
    text = re.sub(r"^\d\d:\d\d:\d\d ", "HH:MM:SS ", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=^HH:MM:SS yellow 2021-0)\d", "N", text, flags=re.MULTILINE)
    text = re.sub(r"\d+\.\d s", "N.N s", text)
    text = re.sub(r" +\d+\.\d +[\d,]+ +(?=published$)", "      N.N  N       ", text, flags=re.MULTILINE)
    return re.sub(r"\([\d,]+ rows/s\)", "(N rows/s)", text).split("\n")


@pytest.mark.parametrize("columns", [80, 160])
def test_the_end_of_a_run_is_its_lines_and_its_tables(
    terminal: Terminals, tmp_path: Path, columns: int
) -> None:
    arguments = ("--months", "1", "2", "3", "--data-dir", str(tmp_path))
    run = terminal(*SYNTHETIC, *arguments, columns=columns, TAXI_SYNTHETIC_ROWS="2000")
    assert run.wait() == 0
    rule = re.compile("─+")
    shown = [rule.sub("─", line) for line in without_times(run.lines)]
    assert shown == [rule.sub("─", line) for line in ORDINARY_END.strip().split("\n")]
    assert not run.scrolled
    assert not run.screen.cursor.hidden
    assert BAR.encode() in run.raw  # there were bars while it was at work


def picture(run: TerminalCommand, name: str) -> None:
    """Keep what is seen, if pictures are asked for."""
    if where := os.environ.get("TAXI_TEST_PICTURES"):
        run.picture(ROOT / where / f"{name}.svg", "taxi-etl")


def test_twelve_months_at_work_and_at_their_end(terminal: Terminals, tmp_path: Path) -> None:
    rows = "200000" if os.environ.get("TAXI_TEST_PICTURES") else "10000"
    arguments = ("--months", "1-12", "--data-dir", str(tmp_path))
    run = terminal(*SYNTHETIC, *arguments, columns=88, lines=28, TAXI_SYNTHETIC_ROWS=rows)

    def is_at_work() -> bool:
        bars = [line for line in run.lines if BAR in line]
        finished = re.match(r"(\d+) of 12 months .* rows, \d+:\d\d left", run.lines[-1])
        return bool(finished) and int(finished[1]) >= 4 and len(bars) >= 3

    assert run.wait(is_at_work) is None
    shown = run.lines
    finished = [line for line in shown if "published" in line]
    assert [f"({number} of 12 months)" in line for number, line in enumerate(finished, 1)] == [True] * len(
        finished
    )
    assert shown[:2] == [line for line in shown if "at once" in line or "without Prefect" in line]
    assert len([line for line in shown if BAR in line]) == len(shown) - len(finished) - 2
    picture(run, "terminal-at-work")
    assert run.wait() == 0
    assert not any(BAR in line for line in run.lines)
    table = run.lines[-15:]
    assert table[0].startswith(f"yellow 2021: {12 * int(rows):,} rows loaded in ")
    assert [line[:7] for line in table[3:]] == [f"2021-{month:02}" for month in range(1, 13)]
    picture(run, "terminal-at-the-end")


def test_a_failed_month_says_why_and_where_the_log_is_once(terminal: Terminals, tmp_path: Path) -> None:
    (tmp_path / "yellow_tripdata_2021-01.csv.gz").write_bytes(small_month(100))
    source = f"{tmp_path}/{{color}}_tripdata_{{year}}-{{month:02}}.csv.gz"
    data = tmp_path / "data"
    run = terminal(*LOAD, "--source", source, "--months", "1", "2", "--data-dir", str(data), columns=160)
    assert run.wait() == 1
    text = "\n".join(run.lines)
    assert re.search(r"^2021-01 +100 +100 +0 +[\d.]+ +[\d,]+ +published$", text, flags=re.MULTILINE)
    assert re.search(r"^2021-02 +- +- +- +[\d.]+ +- +failed$", text, flags=re.MULTILINE)
    end = text[text.index("\nfailed: ") :].replace("\n", "")
    assert re.fullmatch(r"failed: yellow 2021-02: .*log: .*/data/logs/etl-\w+\.\w+\.log", end), end
    assert text.count("/logs/") == 1
    assert not any(BAR in line for line in run.lines)


def test_ctrl_c_leaves_one_line_and_no_bars(terminal: Terminals, tmp_path: Path) -> None:
    arguments = ("--months", "1-12", "--data-dir", str(tmp_path))
    run = terminal(*SYNTHETIC, *arguments, TAXI_SYNTHETIC_ROWS="100000")
    assert run.wait(lambda: "0 of 12 months" in run.lines[-1]) is None
    run.type(b"\x03")
    assert run.wait() == 130
    assert not any(BAR in line for line in run.lines)
    assert " ".join(run.lines[-2:]) == (
        "interrupted: every month is either wholly published or as it was before; the same command goes on "
        "where this one stopped"
    )
    assert max(map(len, run.lines)) <= 80
    assert not run.screen.cursor.hidden


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"CI": "true"}])
def test_where_nothing_can_be_drawn_over_there_are_lines_alone(
    terminal: Terminals, tmp_path: Path, environment: dict[str, str]
) -> None:
    arguments = ("--months", "1", "2", "--data-dir", str(tmp_path))
    run = terminal(*SYNTHETIC, *arguments, **environment, TAXI_SYNTHETIC_ROWS="500")
    assert run.wait() == 0
    assert not MOVES.search(run.raw)
    assert BAR.encode() not in run.raw
    assert "(2 of 2 months)" in "\n".join(run.lines)


def test_no_color_has_bars_without_colours(terminal: Terminals, tmp_path: Path) -> None:
    arguments = ("--months", "1", "2", "--data-dir", str(tmp_path))
    run = terminal(*SYNTHETIC, *arguments, NO_COLOR="1", TAXI_SYNTHETIC_ROWS="500")
    assert run.wait() == 0
    assert BAR.encode() in run.raw
    assert not COLOURS.search(run.raw)


def test_the_table_goes_where_standard_output_goes(terminal: Terminals, tmp_path: Path) -> None:
    arguments = ("--months", "1", "--data-dir", str(tmp_path / "data"))
    table = tmp_path / "table"
    run = terminal(
        "-c",
        f"import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:], stdout=open({str(table)!r}, 'w')))",
        *(sys.executable, *SYNTHETIC, *arguments),
        TAXI_SYNTHETIC_ROWS="500",
    )
    assert run.wait() == 0
    assert "500 rows loaded" in table.read_text()
    assert BAR.encode() in run.raw
    assert "rows loaded" not in "\n".join(run.lines)
    assert "\x1b" not in table.read_text()


def test_a_forced_colour_draws_no_bars_into_a_pipe(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *SYNTHETIC, "--months", "1", "--data-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "FORCE_COLOR": "1", "TAXI_SYNTHETIC_ROWS": "500"},
        capture_output=True,
        check=True,
    )
    assert not MOVES.search(done.stderr)
    assert b"published 500 rows" in done.stderr


def test_prefects_notice_about_telemetry_does_not_show(terminal: Terminals, tmp_path: Path) -> None:
    run = terminal("-c", "import flows.serve; print('end')", PREFECT_HOME=str(tmp_path))
    assert run.wait() == 0
    assert run.lines == ["end"]


STUCK = """
import os, signal, time
from rich.console import Console
from flows.cli import signals
from flows.cli.live_display import progress_on

signals.LONGEST_STOP_SECONDS = 0.1
with signals.interruptible(loads_months=True), progress_on(Console(stderr=True)):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(9)
    except KeyboardInterrupt:
        time.sleep(99)
"""


def test_a_run_that_has_to_be_ended_gives_the_cursor_back(terminal: Terminals) -> None:
    run = terminal("-c", STUCK)
    assert run.wait() == 130
    assert b"\x1b[?25l" in run.raw  # it was hidden
    assert not run.screen.cursor.hidden
