"""What is logged after the log file is closed, while the process ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ENDS = """
import logging, pathlib, sys
from flows.cli.logs import log_to
with log_to(pathlib.Path(sys.argv[1])):
    pass
logging.getLogger("prefect._internal").warning("Still processing items: 3 items remaining...")
logging.getLogger("prefect._internal").warning("something else")
"""


def test_no_message_of_prefects_end_comes_below_the_last_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDS, str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "something else\n"
