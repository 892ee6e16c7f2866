"""`taxi-etl settings`: every setting with its value, where that comes from, and what it means."""

from __future__ import annotations

from flows import start_script

if __name__ == "__main__":
    start_script()

import argparse
import json
from typing import Any

from pydantic import SecretStr
from rich.padding import Padding
from rich.text import Text

from flows.cli import command_parser, exit_with, run_command_line, table_console
from flows.settings import Settings, get_settings, setting_origins


def parser() -> argparse.ArgumentParser:
    """The options of `taxi-etl settings`."""
    made = command_parser(
        "taxi_etl/settings.py",
        "Print every setting with its value, where it comes from and what it means; secrets are hidden. "
        "The environment takes precedence over .env, that over taxi.toml (both in the current directory), "
        "and that over the default.",
    )
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def described() -> list[dict[str, Any]]:
    """Every setting: `name`, `value`, `origin`, `meaning`.

    Raises:
        UsageError: one is unknown or has an illegal value.
    """
    values, origins = get_settings(), setting_origins()
    return [
        {
            "name": str(field.validation_alias or f"TAXI_{name.upper()}"),
            "value": _shown(getattr(values, name)),
            "origin": origins[name],
            "meaning": " ".join((field.description or "").split()),
        }
        for name, field in Settings.model_fields.items()
    ]


def _shown(value: object) -> str | None:
    if isinstance(value, SecretStr):
        return str(value)  # asterisks
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value))
    return None if value is None else str(value)


def _print(settings: list[dict[str, Any]]) -> None:
    out = table_console()
    for setting in settings:
        value = "(not set)" if setting["value"] is None else setting["value"]
        out.print(
            Text.assemble((setting["name"], "bold"), f" = {value}  ", (f"[{setting['origin']}]", "dim"))
        )
        out.print(Padding(setting["meaning"], (0, 0, 0, 4), expand=False), highlight=False, markup=False)


def main() -> int:
    """Print the settings.

    Returns:
        The exit code: 0, or 2 if a setting is wrong.
    """

    def command() -> int:
        as_json: bool = parser().parse_args().json
        settings = described()
        if as_json:
            print(json.dumps(settings, indent=2))
        else:
            _print(settings)
        return 0

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main())
