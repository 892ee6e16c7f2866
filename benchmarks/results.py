"""Measurements, and the files `benchmarks/results/{group}.json` that keep them.

A file holds one whole group of one session: measurements of different days or machines are never mixed.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from pairs import Pairs

PACKAGES = (
    "polars", "duckdb", "pyarrow", "adbc-driver-postgresql", "pandas", "sqlalchemy", "psycopg2-binary",
    "psycopg", "pgpq", "dlt", "sling-linux-amd64", "prefect", "pandas-gbq",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Our time and that of one rival, measured in turns.

    Attributes:
        rival: its short name, unique in the group.
        what: the rival does, in a few words.
        rows: that we processed.
        rival_rows: that the rival processed; its time is extrapolated if they are fewer.
        ours_seconds, rival_seconds: as measured, pair by pair.
        ours: the short name of our side.
        work_seconds: the part of our time that is not overhead; 0 in every group but `fixed overhead`.
    """

    rival: str
    what: str
    rows: int
    rival_rows: int
    ours_seconds: list[float]
    rival_seconds: list[float]
    ours: str = "taxi-etl"
    work_seconds: float = 0.0

    @property
    def extrapolated(self) -> bool:
        return self.rival_rows != self.rows

    @property
    def pairs(self) -> Pairs:
        """Our seconds and the rival's, for the same number of rows."""
        factor = self.rows / self.rival_rows
        return Pairs.of(self.ours_seconds, [seconds * factor for seconds in self.rival_seconds])

    @property
    def overhead_seconds(self) -> float:
        """Our seconds beyond our work and beyond the rival's seconds."""
        return self.pairs.ours_seconds - self.work_seconds - self.pairs.rival_seconds

    def as_json(self) -> dict[str, object]:
        pairs = self.pairs
        return asdict(self) | {
            "extrapolated": self.extrapolated,
            "ours_median": round(pairs.ours_seconds, 4),
            "rival_median": round(pairs.rival_seconds, 4),
            "ratio": round(pairs.ratio, 4),
            "ratio_lowest": round(pairs.lowest, 4),
            "ratio_highest": round(pairs.highest, 4),
        }

    @classmethod
    def from_json(cls, content: dict[str, object]) -> Comparison:
        # The other values are computed from the seconds.
        return cls(**{name: content[name] for name in cls.__dataclass_fields__})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Process:
    """A command as somebody types it, ours or another tool's, timed from start to exit, round by round.

    In each round every side of the same `to`, `months` and `case` runs once, in turns.

    Attributes:
        side: its short name, unique among those.
        what: it does, in a few words.
        ours: whether it is a way to run this project.
        to: `postgres` or `duckdb`.
        months: how many.
        case: `first load`, or `unchanged`: everything has been loaded before.
        rows: in all months.
        rows_loaded: fewer if the side is too slow for all of them; its time is extrapolated then.
        seconds: from start to exit.
        cpu_seconds: of the process and of all that it has waited for; not of a server.
        start_seconds: of the same with one row, if the time is extrapolated: these are counted once.
        peak_megabytes: the most that the process and its children had in memory together, if it was measured.
    """

    side: str
    what: str
    ours: bool
    to: str
    months: int
    case: str
    rows: int
    rows_loaded: int
    seconds: list[float]
    cpu_seconds: list[float]
    start_seconds: list[float] = field(default_factory=list)
    peak_megabytes: list[int] = field(default_factory=list)

    @property
    def extrapolated(self) -> bool:
        return self.rows_loaded != self.rows

    @property
    def full_seconds(self) -> list[float]:
        """For all rows."""
        if not self.extrapolated:
            return self.seconds
        factor = self.rows / self.rows_loaded
        pairs = zip(self.seconds, self.start_seconds, strict=True)
        return [start + (seconds - start) * factor for seconds, start in pairs]

    def against(self, rival: Process) -> Pairs:
        """Our seconds and the rival's, round by round."""
        return Pairs.of(self.full_seconds, rival.full_seconds)

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {
            "extrapolated": self.extrapolated,
            "median": round(statistics.median(self.full_seconds), 4),
            "cpu_median": round(statistics.median(self.cpu_seconds), 4),
        }

    @classmethod
    def from_json(cls, content: dict[str, object]) -> Process:
        return cls(**{name: content[name] for name in cls.__dataclass_fields__ if name in content})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Size:
    """Runs of a month with this number of rows, each in a new process.

    Attributes:
        rows: of the month.
        seconds: from the landed file to Parquet and Postgres, run by run.
        stage_seconds: of these, the staging.
        peak_megabytes: highest resident memory of the whole process, run by run.
    """

    rows: int
    seconds: list[float]
    stage_seconds: list[float]
    peak_megabytes: list[float]

    @property
    def peak(self) -> float:
        """Megabytes, the highest of all runs."""
        return max(self.peak_megabytes)

    @property
    def pace(self) -> float:
        """Seconds per million rows, median."""
        return statistics.median(self.seconds) / self.rows * 1e6


@dataclass
class Group:
    """All measurements of one group in one session.

    Attributes:
        group: its name.
        source: where the rows come from: `real`, `synthetic`, or the name of a file.
        date, machine, versions: of the session.
        comparisons, sizes, processes: what was measured.
        settings: of the servers, where they matter.
        notes: what is not in the numbers.
    """

    group: str
    source: str
    date: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).date().isoformat())
    machine: dict[str, object] = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=lambda: versions())
    comparisons: list[Comparison] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_text(self) -> str:
        content = asdict(self) | {
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
            "processes": [process.as_json() for process in self.processes],
        }
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Group:
        content = json.loads(text)
        content["comparisons"] = [Comparison.from_json(one) for one in content["comparisons"]]
        content["sizes"] = [Size(**size) for size in content["sizes"]]
        content["processes"] = [Process.from_json(one) for one in content.get("processes", [])]
        return cls(**content)

    def comparison(self, rival: str) -> Comparison | None:
        return next((comparison for comparison in self.comparisons if comparison.rival == rival), None)

    def process(self, side: str, to: str, months: int, case: str = "first load") -> Process | None:
        wanted = (side, to, months, case)
        return next(
            (one for one in self.processes if (one.side, one.to, one.months, one.case) == wanted), None
        )


def save(groups: list[Group], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for group in groups:
        name = group.group.replace(" ", "-")
        (directory / f"{name}.json").write_text(group.as_text())


def load(directory: Path) -> dict[str, Group]:
    """Every group that has been measured, by name."""
    groups = [Group.from_text(path.read_text()) for path in sorted(directory.glob("*.json"))]
    return {group.group: group for group in groups}


def machine() -> dict[str, object]:
    """The facts about the machine that matter for speed, and none that identify it."""
    facts = _facts("/proc/cpuinfo")
    memory = _facts("/proc/meminfo").get("MemTotal", "0 kB").split()[0]
    return {
        "cpu": facts.get("model name") or platform.machine(),
        "cores": os.cpu_count() or 0,
        "memory_gigabytes": round(int(memory) / 2**20),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _facts(path: str) -> dict[str, str]:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
