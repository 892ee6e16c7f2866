"""The long mode of the suite (`make torture`), and the document that shows its figures."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import platform
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    import pytest

TORTURE = float(os.environ.get("TAXI_TEST_TORTURE") or 0)
"""The share of the long mode's points, files and reads to take; 0: the short mode."""

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "explanation"
FIGURES, DOCUMENT = DOCS / "reliability.json", DOCS / "reliability.md"
LOCK = Path(tempfile.gettempdir()) / "taxi-etl-reliability.lock"
BEGIN, END = "<!-- figures: written by make torture -->", "<!-- end of figures -->"


def share(count: int) -> int:
    """The share of a number in the long mode that is to be taken."""
    return max(1, round(count * TORTURE))


def note(what: str, figures: Any) -> None:  # noqa: ANN401 - a dataclass or a dictionary of numbers
    """Write the figures of one part of the long mode to the JSON file and the document."""
    if not TORTURE:
        return
    counted = dataclasses.asdict(figures) if dataclasses.is_dataclass(figures) else dict(figures)
    with FileLock(LOCK):  # other processes of the run have figures too
        parts = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        parts[what] = {name: value for name, value in counted.items() if not isinstance(value, dict)}
        parts[what]["made"] = made()
        FIGURES.write_text(json.dumps(parts, indent=2, sort_keys=True) + "\n")
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{table()}{END}{rest.partition(END)[2]}")


def made() -> str:
    """When, from what and on what the figures of a part are made."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    commit = git("rev-parse", "--short=10", "HEAD") or "of no commit"
    changed = " with changes" if git("status", "--porcelain", "--", "flows", "transforms", "tests") else ""
    python, cores = platform.python_version(), os.cpu_count()
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {commit}{changed}, Python {python}, {cores} cores"


def note_sum(
    what: str, figures: Mapping[str, int], shard: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Write the sum of the figures of all shards of this run so far, in whatever processes they ran."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    shards = directory / what
    shards.mkdir(exist_ok=True)
    (shards / f"{shard}.json").write_text(json.dumps(figures))
    total = Counter[str]()
    for path in shards.glob("*.json"):
        total.update(json.loads(path.read_text()))
    note(what, total)


def table() -> str:
    """The figures as a Markdown table, a row for each part."""
    rows: list[str] = []
    for what, figures in json.loads(FIGURES.read_text()).items():
        made = figures.pop("made", "")
        shown = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in figures.items())
        rows.append(f"| {what} | {shown} | {made} |")
    return "\n".join(["| part | figures | made |", "|---|---|---|", *rows]) + "\n"
