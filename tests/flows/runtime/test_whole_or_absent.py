"""Nothing that a run leaves is ever written under its own name: a kill finds it whole, or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.cli import Cli

IN_THE_MAKING = (".tmp", ".part", ".part.version")
"""How names end that no later run takes for whole."""
STEM = "yellow_tripdata_2021-01"
NEVER_TRUSTED = {".locks", "logs"}

opened_to_write: list[Path] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        opened_to_write.append(Path(arguments[0]))


def test_nothing_is_written_under_the_name_it_will_have(cli: Cli) -> None:
    sys.addaudithook(_listen)  # for good: Python lets nobody take one away
    for rows in ("500", "600"):
        opened_to_write.clear()
        result = cli(
            *("--color", "yellow", "--months", "1", "--source", "synthetic"),
            TAXI_SYNTHETIC_ROWS=rows,
            TAXI_SYNTHETIC_BROKEN_ROWS="3",
        )
        assert result.code == 0, result.err
        place = cli.data_dir.parent  # the summary is there too
        ours = [path for path in opened_to_write if path.is_relative_to(place)]
        committed = {path for path in ours if not NEVER_TRUSTED & set(path.parts)}
        names = {path.name.removeprefix(".").rsplit(".", 2)[0] for path in committed}
        ends = ("csv.gz.json", "parquet.crc32", "quality.json")  # Parquet is opened by libraries, unheard
        assert names >= {f"{STEM}.{end}" for end in ends}
        assert [name for name in names if name.startswith("summary")]
        assert not [path for path in committed if not path.name.endswith(IN_THE_MAKING)]
