"""Writes `taxi_etl/completions/` from the parsers of the subcommands: `make completions`."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

import shtab

import taxi_etl
from flows.cli import load_parser

SHELLS = ("bash", "zsh", "fish")
DIRECTORY = Path(taxi_etl.__file__).with_name("completions")
PATHS = {"data_dir": shtab.DIRECTORY, "summary": shtab.FILE}


def whole_parser() -> argparse.ArgumentParser:
    """The program with the options of every subcommand, as a shell has to know it."""
    program = argparse.ArgumentParser(prog="taxi-etl")
    program.add_argument("--version", action="store_true", help="print the version and stop")
    commands = program.add_subparsers()
    for name, (script, text) in taxi_etl.COMMANDS.items():
        module = import_module(script.removesuffix(".py").replace("/", "."))
        parser = load_parser() if name == "load" else module.parser()
        commands.add_parser(name, parents=[parser], add_help=False, help=text)
        for action in parser._actions:
            action.help = brief(action.help)
            if kind := PATHS.get(action.dest):
                action.complete = kind  # type: ignore[attr-defined] # where shtab looks for it
    return program


def brief(text: str | None) -> str:
    """The first clause of a help text; defaults depend on the settings."""
    words = (text or "").partition(";")[0].partition(" (")[0]
    return "" if words.startswith("default:") else words


def script_for(shell: str) -> str:
    return str(shtab.complete(whole_parser(), shell=shell))


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for shell in SHELLS:
        (DIRECTORY / f"taxi-etl.{shell}").write_text(script_for(shell))
