"""What was measured, as it stands in `benchmarks/results/{group}.json`.

A file holds one group of one session whole: what was measured on different days or machines is never mixed.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from pairs import Pairs

PACKAGES = (
    "polars", "duckdb", "pyarrow", "adbc-driver-postgresql", "pandas", "sqlalchemy", "psycopg2-binary",
    "psycopg", "pgpq", "dlt", "prefect", "pandas-gbq",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Ours and one rival, in turns.

    Attributes:
        rival: its short name, unique in the group.
        what: what it does, in a few words.
        rows: what we worked on.
        rival_rows: what the rival worked on; its time is extrapolated if they are fewer.
        ours_seconds, rival_seconds: as measured, pair by pair.
        ours: the short name of our side.
        work_seconds: of ours, what is not the overhead that is asked about; 0 in all other groups.
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
        """Of our seconds and the rival's for the same number of rows."""
        factor = self.rows / self.rival_rows
        return Pairs.of(self.ours_seconds, [seconds * factor for seconds in self.rival_seconds])

    @property
    def overhead_seconds(self) -> float:
        """What ours takes beyond its work and beyond the rival."""
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
    def from_json(cls, noted: dict[str, object]) -> Comparison:
        # The rest follows from the seconds.
        return cls(**{name: noted[name] for name in cls.__dataclass_fields__})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Size:
    """One month of so many rows, each run in a process of its own.

    Attributes:
        rows: of the month.
        seconds: from the landed file to Parquet and Postgres, run by run.
        stage_seconds: of these, the staging.
        peak_megabytes: of the whole process (most resident memory), run by run.
    """

    rows: int
    seconds: list[float]
    stage_seconds: list[float]
    peak_megabytes: list[float]


@dataclass
class Group:
    """What one session measured of one group."""

    group: str
    source: str
    date: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).date().isoformat())
    machine: dict[str, object] = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=lambda: versions())
    comparisons: list[Comparison] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)

    def as_text(self) -> str:
        noted = asdict(self) | {"comparisons": [found.as_json() for found in self.comparisons]}
        return json.dumps(noted, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Group:
        noted = json.loads(text)
        noted["comparisons"] = [Comparison.from_json(found) for found in noted["comparisons"]]
        noted["sizes"] = [Size(**found) for found in noted["sizes"]]
        return cls(**noted)

    def comparison(self, rival: str) -> Comparison | None:
        return next((found for found in self.comparisons if found.rival == rival), None)


def save(groups: list[Group], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for group in groups:
        name = group.group.replace(" ", "-")
        (directory / f"{name}.json").write_text(group.as_text())


def load(directory: Path) -> dict[str, Group]:
    """Every group that has been measured, by name."""
    found = [Group.from_text(path.read_text()) for path in sorted(directory.glob("*.json"))]
    return {group.group: group for group in found}


def machine() -> dict[str, object]:
    """What matters about the machine, and nothing by which it could be known."""
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
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
