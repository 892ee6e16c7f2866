"""Writes the pages of `docs/reference/` that the code is the source of: `make reference`."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic_core import PydanticUndefined
from support import reference_words as words

import taxi_etl
from flows import INTERRUPTED, TERMINATED
from flows.cli import load_parser
from flows.destinations import Load
from flows.destinations.ledger import REJECT_COLUMNS, SQL_TYPES
from flows.errors import TaxiError, Terminal, Transient, UsageError
from flows.month import MonthFailed, MonthsFailed
from flows.settings import Settings, override_settings
from transforms.column import Column, ColumnType
from transforms.dataset import FILE_MONTH_COLUMN, Dataset
from transforms.datasets import DATASETS
from transforms.dimensions import Dimension, dimensions
from transforms.views import View, taxi_views

DIRECTORY = Path(__file__).parents[2] / "docs" / "reference"
HEAD = "<!-- Made from the code by `make reference`; a test compares them. -->\n"
OF_MONTHS = (MonthFailed, MonthsFailed)
EVERYWHERE = ("--help", "--version", "--quiet", "--verbose", "--log-format")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


# --- commands ---


def module_of(script: str) -> ModuleType:
    return import_module(script.removesuffix(".py").replace("/", "."))


def parser_of(name: str) -> argparse.ArgumentParser:
    """The options of a command with the defaults of a machine without settings."""
    defaults = {
        key: field.get_default(call_default_factory=True)
        for key, field in Settings.model_fields.items()
        if key != "concurrency"
    }
    with override_settings(**defaults, concurrency="TAXI_CONCURRENCY"):
        return plain_parser(name)


def plain_parser(name: str) -> argparse.ArgumentParser:
    """The options of a command."""
    script, _ = taxi_etl.COMMANDS[name]
    return load_parser() if name == "load" else module_of(script).parser()


def options_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        words = (action.help or "") % {**vars(action), "prog": parser.prog}
        text = f"{words} (required)" if action.required and action.option_strings else words
        if action.help != argparse.SUPPRESS:
            yield _spelled(action), text


def _spelled(action: argparse.Action) -> str:
    """An option as a reader types it, with what follows it."""
    name = next((name for name in action.option_strings if name.startswith("--")), "")
    values = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    if isinstance(values, tuple):
        values = " ".join(values)
    if action.nargs == 0:
        return f"`{name}`"
    more = f" [{values} ...]" if action.nargs in ("+", "*") and name else ""
    return f"`{f'{name} {values}{more}'.strip()}`"


def commands_page() -> str:
    parsers = {name: parser_of(name) for name in taxi_etl.COMMANDS}
    shared = [row for row in options_of(parsers["load"]) if row[0].strip("`").split()[0] in EVERYWHERE]
    listed = [
        (f"[`{name}`](#{name})", text, f"`{script}`") for name, (script, text) in taxi_etl.COMMANDS.items()
    ]
    parts = [words.COMMANDS, table(("command", "what it does", "its script"), listed)]
    parts += ["## Options of every command\n", table(("option", "meaning"), shared), words.SHARED]
    for name, parser in parsers.items():
        known = {row[0] for row in shared} | {"`--help`"}
        rows = [row for row in options_of(parser) if row[0] not in known]
        parts += [f"## {name}\n", f"{parser.description}\n"]
        parts += [table(("option", "meaning"), rows)] if rows else []
        parts += [f"{group.description}\n" for group in parser._action_groups if group.description]
    return "\n".join(parts)


# --- settings ---


def settings_page() -> str:
    rows: list[tuple[str, str, str]] = []
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"TAXI_{name.upper()}")
        meaning = " ".join((field.description or "").split())
        rows.append((f"`{variable}`", _default(name, field.get_default()), meaning))
    return words.SETTINGS + table(("setting", "default", "meaning"), rows)


def _default(name: str, value: object) -> str:
    if name == "concurrency":
        return "see there"
    if value is PydanticUndefined or value is None or value in ("", {}):
        return "not set"
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{text.lower() if isinstance(value, bool) else text}`"


# --- data ---


def _lifetime(column: Column) -> str:
    first = f"since {column.since}" if column.since else ""
    return f"{first} {f'until {column.until}' if column.until else ''}".strip()


def _columns(columns: Iterable[Column]) -> str:
    rows = [
        (f"`{c.name}`", c.type.label, c.unit or "", c.description, _lifetime(c), code(c.aliases))
        for c in columns
    ]
    return table(("column", "type", "unit", "meaning", "in the files", "other spellings"), rows)


def _dataset(dataset: Dataset) -> str:
    historic = (
        f"\nOld files have these as well; a month has them if its file does:\n\n{_columns(dataset.historic)}"
        if dataset.historic
        else ""
    )
    return (
        f"## {dataset.name}: `{dataset.table}`\n\n{dataset.title}, from {dataset.first_month} on. "
        f"A trip begins at `{dataset.pickup}` and ends at `{dataset.dropoff}`.\n\n"
        f"{_columns((*dataset.columns, FILE_MONTH_COLUMN))}{historic}"
    )


def data_page() -> str:
    types = [
        (kind.label, *(f"`{name}`" for name in (kind.arrow, kind.duckdb, kind.postgres, kind.bigquery)))
        for kind in ColumnType
    ]
    head = ("type", "Arrow and Parquet", "DuckDB", "Postgres", "BigQuery")
    items = [*taxi_views({}), *dimensions()]
    return "\n".join(
        [words.DATA, table(head, types), *map(_dataset, DATASETS.values()), words.VIEWS, *map(_view, items)]
    )


def _view(item: View | Dimension) -> str:
    rows = [(f"`{c.name}`", c.type.label, c.unit or "", c.description) for c in item.columns]
    columns = table(("column", "type", "unit", "meaning"), rows)
    return f"### {item.name}\n\n{item.description}.\n\n{columns}"


# --- ledger ---


def ledger_page() -> str:
    types = get_type_hints(Load)
    ledger = [
        (f"`{f.name}`", *_types(SQL_TYPES[types[f.name]]), f.metadata["description"]) for f in fields(Load)
    ]
    rejects = [(f"`{name}`", *_types(kind), text) for name, (kind, text) in REJECT_COLUMNS.items()]
    head = ("column", "DuckDB", "Postgres", "BigQuery", "meaning")
    return "".join(
        [
            words.LOADS_INTRO,
            table(head, ledger),
            words.LOADS_NOTES,
            words.REJECTS_INTRO,
            table(head, rejects),
            words.REJECTS_NOTES,
        ]
    )


def _types(kind: Any) -> tuple[str, ...]:  # noqa: ANN401 - a column's type, or one that no trip column has
    return tuple(f"`{name}`" for name in (kind.duckdb, kind.postgres, kind.bigquery))


# --- exit codes and errors ---


GENERAL = (
    ("0", "everything that was asked for is done; of a load: every month is published or unchanged"),
    ("1", "at least one month failed; the others are done"),
    ("2", "the call or a setting is wrong; nothing was started"),
    (str(INTERRUPTED), "interrupted, by Ctrl-C"),
    (str(TERMINATED), "terminated, by SIGTERM"),
)


def exit_codes_page() -> str:
    rows = [(f"`{name}`", _exit_codes(script)) for name, (script, _) in taxi_etl.COMMANDS.items()]
    general = table(("code", "meaning"), GENERAL)
    return f"# Exit codes\n\n{general}{words.HEAD_MAY_CLOSE}{table(('command', 'exit codes'), rows)}"


def _exit_codes(script: str) -> str:
    """What the docstring of a command's `main` says."""
    documented = inspect.getdoc(getattr(module_of(script), "main", None)) or ""
    found = re.search(r"Returns:\n(.*?)(\n\n|$)", documented, re.DOTALL)
    text = " ".join(found[1].split()).removeprefix("The exit code").lstrip(":, ") if found else ""
    return text or "0, or 2 for wrong usage."


KINDS = {UsageError: "nothing was started", Transient: "retried", Terminal: "not retried"}


def errors_page() -> str:
    parts = [words.ERRORS]
    for kind, what in KINDS.items():
        rows = [(f"`{one.__name__}`", *cause_and_cure(one)) for one in errors_below(kind)]
        parts += [f"## {kind.__name__}: {what}\n", table(("error", "cause", "cure"), rows)]
    return "\n".join(parts)


def errors_below(kind: type[TaxiError]) -> list[type[TaxiError]]:
    """The error classes that a run can end with; packages have more specific ones of their own."""
    if kind is UsageError:
        return [kind]
    public = [one for one in kind.__subclasses__() if one.__module__ == "flows.errors" or one in OF_MONTHS]
    return [each for one in public for each in (one, *errors_below(one))]


def cause_and_cure(kind: type[TaxiError]) -> tuple[str, str]:
    """The paragraphs of a class's docstring that say so; empty where it does not."""
    cause, *rest = (inspect.getdoc(kind) or "").split("\n\n")
    cures = [" ".join(text.removeprefix("Cure: ").split()) for text in rest if text.startswith("Cure: ")]
    return " ".join(cause.split()), cures[0][0].upper() + cures[0][1:] if cures else ""


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "settings.md": settings_page,
    "data-dictionary.md": data_page,
    "ledger.md": ledger_page,
    "exit-codes.md": exit_codes_page,
    "errors.md": errors_page,
}


def page(name: str) -> str:
    return f"{HEAD}\n{PAGES[name]()}"


if __name__ == "__main__":
    for each in PAGES:
        (DIRECTORY / each).write_text(page(each))
