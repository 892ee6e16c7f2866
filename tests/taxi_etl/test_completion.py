"""Completion: the scripts are those of the parsers, and real shells complete with them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.completions import DIRECTORY, SHELLS, script_for

if TYPE_CHECKING:
    from pathlib import Path

BASH = """
source {script}
COMP_WORDS=({words}); COMP_CWORD={last}; COMP_LINE="{words}"; COMP_POINT=${{#COMP_LINE}}
_shtab_taxi_etl taxi-etl {word}
printf "%s\\n" "${{COMPREPLY[@]}}"
"""
FISH = """
source {script}
complete -C "{words}"
"""
CASES = {
    "taxi-etl st": ["status"],
    "taxi-etl load --co": ["--color", "--concurrency"],
    "taxi-etl load --color gr": ["green"],
    "taxi-etl gcs-to-bq --la": ["--latest"],
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_are_made_from_the_parsers(shell: str) -> None:
    assert (DIRECTORY / f"taxi-etl.{shell}").read_text() == script_for(shell), "make completions"


def ask(shell: str, script: str, tmp_path: Path) -> list[str]:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"needs {shell} on PATH")
    (tmp_path / "script").write_text(script)
    done = subprocess.run(
        [program, tmp_path / "script"], capture_output=True, text=True, timeout=30, check=True
    )
    return [line.partition("\t")[0].strip() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("words", CASES)
@pytest.mark.parametrize(("shell", "template"), [("bash", BASH), ("fish", FISH)], ids=["bash", "fish"])
def test_a_shell_completes_commands_options_and_values(
    shell: str, template: str, words: str, tmp_path: Path
) -> None:
    parts = words.split()
    script = template.format(
        script=DIRECTORY / f"taxi-etl.{shell}", words=words, last=len(parts) - 1, word=parts[-1]
    )
    assert ask(shell, script, tmp_path) == CASES[words]


def test_zsh_takes_the_script(tmp_path: Path) -> None:
    """What it completes needs a terminal; that the script is registered does not."""
    script = f"""
autoload -U compinit; compinit -D -u
eval "$(cat {DIRECTORY}/taxi-etl.zsh)"
print $_comps[taxi-etl]
"""
    assert ask("zsh", script, tmp_path) == ["_shtab_taxi_etl"]
