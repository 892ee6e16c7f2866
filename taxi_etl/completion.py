"""`taxi-etl completion`: what a shell needs to complete commands and options.

The scripts are made from the parsers by `make completions`, so a shell that starts or completes a word does
not wait for Python.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SCRIPTS = Path(__file__).with_name("completions")
SHELLS = ("bash", "zsh", "fish")
USE = """\
bash: put this line into ~/.bashrc
  eval "$(taxi-etl completion bash)"
zsh: put this line into ~/.zshrc, after compinit
  eval "$(taxi-etl completion zsh)"
fish: once, and after an update
  taxi-etl completion fish > ~/.config/fish/completions/taxi-etl.fish
"""


def parser() -> argparse.ArgumentParser:
    """The options of `taxi-etl completion`."""
    made = argparse.ArgumentParser(
        prog="taxi-etl completion",
        description="Print the script with which a shell completes the commands and options of taxi-etl.",
        epilog=USE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("shell", choices=SHELLS, help="which shell; --help says where the script goes")
    return made


if __name__ == "__main__":
    print((SCRIPTS / f"taxi-etl.{parser().parse_args().shell}").read_text(encoding="utf-8"), end="")
