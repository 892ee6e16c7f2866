"""docs/reference/iceberg.md: its commands and programs do what it says, and print what it shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import taxi_etl.maintain

ROOT = Path(__file__).parents[4]
TEXT = (ROOT / "docs" / "reference" / "iceberg.md").read_text()
FENCED = re.findall(r"^```(sh|python|)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_programs_print_what_the_document_shows(tmp_path: Path) -> None:
    [commands] = [block for kind, block in FENCED if kind == "sh"]
    commands = commands.replace(".venv/bin/taxi-etl", f"{shlex.quote(sys.executable)} -m taxi_etl")
    commands = commands.replace("--to iceberg", "--to iceberg --runner direct")  # without a Prefect server
    subprocess.run(["bash", "-ec", commands], cwd=tmp_path, capture_output=True, check=True)
    program = "".join(block for kind, block in FENCED if kind == "python")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "".join(block for kind, block in FENCED if not kind), done.stderr


def test_every_option_of_maintain_is_documented() -> None:
    options = {option for action in taxi_etl.maintain.parser()._actions for option in action.option_strings}
    of_all_commands = {"--help", "--version", "--quiet", "--verbose", "--log-format"}
    ours = {option for option in options if option.startswith("--")} - of_all_commands
    assert [option for option in sorted(ours) if option not in TEXT] == []
