"""Group `as typed`: whole processes from start to exit, ours and what a user would type instead, in turns.

The months come from an HTTP server on this machine, the Postgres is durable and has its default settings, and
every turn is a first load: into a new database or a new file, out of a new data directory.

Each test is one side of a part, such as `postgres-12-psql`. The first test of a part runs the sides that were
selected (`-k`), one after the other, in rounds; every test then shows its side.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from rivals import RIVALS, tutorial
from rows import add_row
from typed_place import DURABLE_SETTINGS, id_of, measured_process, source_of
from variants import DIRECT, FIRST, INTO_DUCKDB, MADE, NONE, OURS, PLAIN, OurSides
from whole_processes import run, source_contents

if TYPE_CHECKING:
    from collections.abc import Callable

    from contents import Contents
    from pytest_benchmark.fixture import BenchmarkFixture
    from results import Group, Process
    from typed_place import Place
    from whole_processes import Cost, Side

GROUP = "as typed"
DEFAULT_PREFECT_PORT = 4200
SHOWN_SETTINGS = ("server_version", *DURABLE_SETTINGS, "shared_buffers", "max_wal_size", "wal_level")
PARTS = {
    ("postgres", 1): ("psql", "dlt", "tutorial", "sling", PLAIN, MADE, NONE, FIRST, DIRECT),
    ("postgres", 3): ("psql", "dlt", PLAIN),
    ("postgres", 12): ("psql", "dlt", PLAIN, DIRECT),
    ("duckdb", 1): ("duckdb", PLAIN, MADE, NONE, FIRST, DIRECT),
    ("duckdb", 3): ("duckdb", PLAIN),
    ("duckdb", 12): ("duckdb", PLAIN, DIRECT),
    ("iceberg", 12): (INTO_DUCKDB, PLAIN, DIRECT),
}
NOTES = [
    "CPU seconds: of the command and what it waits for; without Postgres, a running Prefect server, the web",
    "before each turn the database or file is new and the server has written a checkpoint",
]


@dataclass
class Part:
    """The sides of one destination and number of months, run in turns.

    Attributes:
        processes: what was measured, by side.
        contents: what each side has loaded.
        expected: what the files say, for each number of rows that was loaded.
        missing: why a side was not run.
    """

    processes: dict[str, Process]
    contents: dict[str, Contents]
    expected: dict[int, Contents]
    missing: dict[str, str]


@pytest.fixture(scope="module")
def part_of(
    request: pytest.FixtureRequest, place: Place, group: Group, pairs: int
) -> Callable[[str, int], Part]:
    """Returns a part by destination and months; runs its selected sides when it is first asked for."""
    parts: dict[tuple[str, int], Part | None] = {}

    def part(to: str, months: int) -> Part:
        if (to, months) not in parts:
            parts[to, months] = None
            name = re.compile(rf"test_first_load\[{to}-{months}-(.+)\]")
            chosen = {found[1] for item in request.session.items if (found := name.fullmatch(item.name))}
            sides = [_side(side, place) for side in PARTS[to, months] if id_of(side) in chosen]
            parts[to, months] = _measure(sides, to, months, place, group, pairs)
        if (measured := parts[to, months]) is None:
            pytest.fail("a side of this part failed, see its first test")
        return measured

    return part


def _measure(sides: list[Side], to: str, months: int, place: Place, group: Group, pairs: int) -> Part:
    missing = {side.name: side.missing for side in sides if side.missing}
    group.notes += [
        note
        for note in (f"left out: {name}: {why}" for name, why in missing.items())
        if note not in group.notes
    ]
    sides = [side for side in sides if not side.missing]
    place.serve(months)
    for side in sides:
        if side.ours:
            place.prepare(side.name)
    rounds: dict[str, list[tuple[Cost, Cost | None]]] = {side.name: [] for side in sides}
    contents: dict[str, Contents] = {}
    # One uncounted turn of each, but of one month only: with more it would take minutes and change nothing.
    warm_up = int(pairs > 1 and months == 1)
    for number in range(warm_up + pairs):
        for side in sides:
            job, start = place.job(to, months), None
            if side.most_rows and side.most_rows < job.rows:
                start = run(tutorial(job, 1), job.directory)
                job = place.job(to, months)
            cost = run(side.command(job), job.directory)
            if number >= warm_up:
                rounds[side.name].append((cost, start))
            if number == warm_up + pairs - 1:
                contents[side.name] = side.contents(job)
    processes = {
        side.name: measured_process(side, to, months, place.rows, rounds[side.name]) for side in sides
    }
    group.processes.extend(processes.values())
    job = place.job("duckdb", months)
    counts = {(process.rows_loaded, process.extrapolated) for process in processes.values()}
    expected = {
        loaded: source_contents(job, place.files, loaded if fewer else None) for loaded, fewer in counts
    }
    return Part(processes, contents, expected, missing)


def _side(name: str, place: Place) -> Side:
    if name == INTO_DUCKDB:
        return OurSides(place.prefect_environment).into_duckdb()
    if name not in OURS:
        return next(side for side in RIVALS if side.name == name)
    side = OurSides(place.prefect_environment).side(name)
    if name in (NONE, FIRST) and _answers(DEFAULT_PREFECT_PORT):
        return replace(side, missing="a Prefect server runs at its default address, and would be used")
    return side


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def group(group_of: Callable[[str], Group], place: Place) -> Group:
    """The group's results; the first test that asks for them says what is true of all."""
    group = group_of(GROUP)
    group.source = source_of(place)
    group.settings.update({name: place.server.value(f"SHOW {name}") for name in SHOWN_SETTINGS})
    group.notes += NOTES
    return group


@pytest.mark.parametrize(
    ("to", "months", "side"),
    [
        pytest.param(to, months, side, id=f"{to}-{months}-{id_of(side)}")
        for (to, months), sides in PARTS.items()
        for side in sides
    ],
)
def test_first_load(
    to: str, months: int, side: str, part_of: Callable[[str, int], Part], benchmark: BenchmarkFixture
) -> None:
    part = part_of(to, months)
    if side in part.missing:
        pytest.skip(part.missing[side])
    measured = part.processes[side]
    _show(benchmark, measured)
    expected, loaded = part.expected[measured.rows_loaded], part.contents[side]
    if set(loaded) == {"rows"}:
        assert loaded["rows"] == (measured.rows,)
    else:
        assert loaded == expected


@pytest.mark.parametrize("variant", [PLAIN, DIRECT])
def test_twelve_months_that_are_unchanged(
    variant: str, place: Place, group: Group, pairs: int, benchmark: BenchmarkFixture
) -> None:
    side = _side(variant, place)
    if side.missing:
        pytest.skip(side.missing)
    place.serve(12)
    place.prepare(variant)
    job = place.job("duckdb", 12)
    run(side.command(job), job.directory)
    again = OurSides(place.prefect_environment).command(variant, job, force=False)
    costs = [run(again, job.directory) for _ in range(pairs)]
    measured = measured_process(side, "duckdb", 12, place.rows, [(cost, None) for cost in costs], "unchanged")
    group.processes.append(measured)
    _show(benchmark, measured)
    assert (job.directory / "output.log").read_text().count("unchanged") >= 12
    assert side.contents(job) == source_contents(job, place.files)


def _show(benchmark: BenchmarkFixture, measured: Process) -> None:
    fewer = f", {measured.rows_loaded:,} rows" if measured.extrapolated else ""
    together = f"{GROUP}: {measured.months} to {measured.to}, {measured.case}"
    add_row(benchmark, together, measured.side + fewer, measured.seconds, **measured.as_json())
