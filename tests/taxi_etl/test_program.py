"""The program `taxi-etl`: its table of commands, what it answers by itself, and the scripts behind it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import ROOT

import taxi_etl

PROGRAM = (sys.executable, "-m", "taxi_etl")
SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT / "flows", ROOT / "taxi_etl")
    for path in folder.glob("*.py")
    if "start_script()" in path.read_text() and path.name != "__init__.py"
)
HEAVY = {"prefect", "polars", "duckdb", "pyarrow", "pydantic"}


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=100, check=False
    )


def test_every_script_is_a_command_and_every_command_a_script() -> None:
    scripts = {script for script, _ in taxi_etl.COMMANDS.values()}
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
    assert {*SCRIPTS} <= scripts


@pytest.mark.parametrize(
    "arguments", [(), ("--help",), ("--version",), ("completion", "zsh"), ("nothing",)], ids=" ".join
)
def test_what_the_program_answers_by_itself_imports_next_to_nothing(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = run(sys.executable, "-X", "importtime", "-m", "taxi_etl", *arguments, cwd=tmp_path)
    assert done.returncode == (2 if arguments == ("nothing",) else 0), done.stderr[-2000:]
    imported = {name.partition(".")[0] for name in re.findall(r"\| +(\S+)$", done.stderr, re.MULTILINE)}
    assert "taxi_etl" in imported
    assert imported & HEAVY == set()


def test_no_command_imports_an_engine_or_prefect_for_its_help_or_version(tmp_path: Path) -> None:
    """In one fresh process for all of them, because none may import any."""
    program = """
import contextlib, os, runpy, sys
nothing = open(os.devnull, "w")
for script in sys.argv[1:]:
    for option in ("--help", "--version"):
        sys.argv = [script, option]
        with contextlib.redirect_stdout(nothing), contextlib.suppress(SystemExit):
            runpy.run_path(script, run_name="__main__")
    print(script, *{"prefect", "polars", "duckdb", "pyarrow"} & sys.modules.keys())
"""
    scripts = [str(ROOT / script) for script, _ in taxi_etl.COMMANDS.values()]
    done = run(sys.executable, "-c", program, *scripts, cwd=tmp_path)
    assert done.stdout.splitlines() == scripts, done.stderr


def test_help_names_every_command_and_gives_examples_that_parse() -> None:
    from flows.cli import load_parser

    shown = run(*PROGRAM, "--help").stdout
    assert [
        name for name in taxi_etl.COMMANDS if not re.search(rf"^ +{name}$| {name} ", shown, re.MULTILINE)
    ] == []
    examples = re.findall(r"taxi-etl load (.*?)(?:  |$)", shown, re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        load_parser().parse_args(example.split())


def test_an_unknown_command_is_one_line_with_the_legal_ones() -> None:
    done = run(*PROGRAM, "lode")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: argument COMMAND: invalid choice: 'lode'")
    assert all(name in line for name in taxi_etl.COMMANDS)


@pytest.mark.parametrize("name", ["status", "server"])
def test_a_command_has_the_help_of_its_script_under_its_own_name(name: str, tmp_path: Path) -> None:
    script, _ = taxi_etl.COMMANDS[name]
    ours = run(*PROGRAM, name, "--help", cwd=tmp_path, COLUMNS="500").stdout
    theirs = run(sys.executable, ROOT / script, "--help", cwd=tmp_path, COLUMNS="500").stdout
    assert ours.startswith(f"usage: taxi-etl {name} ")
    assert ours.partition("] ")[2] == theirs.partition("] ")[2]


def test_a_command_ends_with_the_exit_code_of_its_script(tmp_path: Path) -> None:
    done = run(*PROGRAM, "status", "--color", "mauve", cwd=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "'mauve'" in line


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script.startswith("flows/")])
def test_a_python_without_the_packages_is_told_where_they_are(script: str) -> None:
    """Without site-packages this Python has none; with the checkout on its path it finds `flows` alone."""
    for variables in ({}, {"PYTHONPATH": str(ROOT)}):
        done = run(sys.executable, "-S", script, "--help", **variables)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert ".venv/bin/python" in line
        assert "make setup" in line
