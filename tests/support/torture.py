"""The long mode of the suite (`make torture`), and the document that shows its figures."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from pathlib import Path
from typing import Any

TORTURE = os.environ.get("TAXI_TEST_TORTURE", "") not in ("", "0")
"""Whether the long mode is on."""

DOCS = Path(__file__).parents[2] / "docs"
FIGURES, DOCUMENT = DOCS / "reliability.json", DOCS / "reliability.md"
BEGIN, END = "<!-- figures: written by make torture -->", "<!-- end of figures -->"


def note(what: str, figures: Any) -> None:  # noqa: ANN401 - a dataclass or a dictionary of numbers
    """Write the figures of one part of the long mode to the JSON file and the document."""
    if not TORTURE:
        return
    counted = dataclasses.asdict(figures) if dataclasses.is_dataclass(figures) else dict(figures)
    parts = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    parts[what] = {name: value for name, value in counted.items() if not isinstance(value, dict)}
    parts["made with"] = {"Python": platform.python_version(), "cores": os.cpu_count()}
    FIGURES.write_text(json.dumps(parts, indent=2, sort_keys=True) + "\n")
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table()}{END}{rest.partition(END)[2]}")


def table() -> str:
    """The figures as a Markdown table."""
    parts = json.loads(FIGURES.read_text())
    rows = [
        f"| {what} | {name.replace('_', ' ')} | {value:,} |"
        if isinstance(value, int)
        else f"| {what} | {name} | {value} |"
        for what, figures in parts.items()
        for name, value in figures.items()
    ]
    return "\n".join(["| part | figure | value |", "|---|---|---:|", *rows]) + "\n"
