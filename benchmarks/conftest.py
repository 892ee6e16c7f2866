"""Benchmarks: our code and what a user would use instead, on the same file, in the same run.

`pytest benchmarks --rows 1440000` is the size that the README quotes; the default is small, for a first try.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inputs import MONTH, land_file, synthetic_file
from pairs import seconds_of
from pytest_benchmark.plugin import benchmark as rival_benchmark  # noqa: F401 - a second row for a test
from results import Comparison, Group, save
from rows import CLOCK, add_row

from flows.staging import StagingOptions, stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from flows.sources import LandedFile
    from flows.staging import StagedMonth

pytest_plugins = [
    "support.postgres",
    "support.bqemulator",
    "support.gcs",
    "support.prefect_server",
    "typed_place",
]

LONGEST_SECONDS = 3_600  # of one benchmark: the suite's own limit is for tests
MEASURED = pytest.StashKey[dict[str, Group]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmarks")
    group.addoption("--rows", type=int, default=100_000, help="rows of the synthetic month that is measured")
    group.addoption("--file", type=Path, help="measure this yellow .csv or .csv.gz instead")
    group.addoption("--pairs", type=int, default=5, help="turns of every side; 1: without a warm-up")
    group.addoption("--results", type=Path, default=Path(".benchmarks/results"), help="where the JSON goes")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(LONGEST_SECONDS))
            item.add_marker(pytest.mark.benchmark(timer=CLOCK))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    groups = list(config.stash[MEASURED].values())
    if not groups:
        return
    save(groups, config.getoption("--results"))
    terminalreporter.section("ours against each rival, in turns")
    for group in groups:
        for comparison in group.comparisons:
            note = f", extrapolated from {comparison.rival_rows:,} rows" if comparison.extrapolated else ""
            terminalreporter.write_line(f"{group.group}, {comparison.rival}: {comparison.pairs}{note}")
        for size in group.sizes:
            took = f"{min(size.seconds):.2f} s, {max(size.peak_megabytes):.0f} MB"
            terminalreporter.write_line(f"{group.group}, {size.rows:,} rows: {took}")
        for process in group.processes:
            what = f"{process.months} to {process.to}, {process.case}, {process.side}"
            took = f"{statistics.median(process.full_seconds):.2f} s"
            cpu = f"{statistics.median(process.cpu_seconds):.2f} CPU s"
            terminalreporter.write_line(f"{group.group}, {what}: {took}, {cpu}")
    terminalreporter.write_line(f"written to {config.getoption('--results')}")


@pytest.fixture(scope="session")
def landed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LandedFile:
    """The month that is measured, as a verified .csv.gz file."""
    directory = tmp_path_factory.mktemp("landed")
    file: Path | None = request.config.getoption("--file")
    if file is None:
        return synthetic_file(directory, request.config.getoption("--rows"))
    return land_file(file.resolve(), directory)


@pytest.fixture(scope="session")
def rows(landed: LandedFile) -> int:
    assert landed.census, "--file takes a CSV file"
    return landed.census.lines - 1


@pytest.fixture(scope="session")
def pairs(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--pairs")


@pytest.fixture(scope="session")
def staged(landed: LandedFile, tmp_path_factory: pytest.TempPathFactory) -> StagedMonth:
    return stage(landed, MONTH, tmp_path_factory.mktemp("staged"), StagingOptions())


@pytest.fixture(scope="session")
def group_of(request: pytest.FixtureRequest) -> Callable[[str], Group]:
    """Returns a group by its name; a test adds its measurements to it."""
    measured = request.config.stash[MEASURED]
    file: Path | None = request.config.getoption("--file")

    def named(name: str) -> Group:
        return measured.setdefault(name, Group(name, file.name if file else "synthetic"))

    return named


class Versus:
    """Runs our code and a rival in turns and records the times of both; see `__call__`."""

    def __init__(
        self,
        rows_of: Callable[[str], BenchmarkFixture],
        group_of: Callable[[str], Group],
        rows: int,
        pairs: int,
        settle: Callable[[], object],
    ) -> None:
        self._rows_of, self._group_of = rows_of, group_of
        self._rows, self._pairs, self._settle = rows, pairs, settle

    def __call__(
        self,
        group: str,
        rival: str,
        what: str,
        *,
        ours: Callable[[], object],
        theirs: Callable[[], object],
        rival_rows: int | None = None,
        rows: int | None = None,
        at_most_pairs: int | None = None,
        name: str = "taxi-etl",
        work_seconds: float = 0.0,
    ) -> Comparison:
        """Measure both sides. Comparing their results is the test's job.

        Args:
            group: name of the group.
            rival: its short name.
            what: the rival does, in a few words.
            ours, theirs: do the work. They are called in turns, the rival first.
            rival_rows: rows that `theirs` processes, if it is too slow for all of them.
            rows: rows that `ours` processes, if not one month.
            at_most_pairs: fewer pairs, for slow rivals.
            name: of our side.
            work_seconds: see `Comparison`.
        """
        rounds = min(self._pairs, at_most_pairs or self._pairs)
        rows = rows or self._rows

        def turn(call: Callable[[], object]) -> float:
            self._settle()
            return seconds_of(call)

        timed = [(turn(theirs), turn(ours)) for _ in range(int(self._pairs > 1) + rounds)][-rounds:]
        rival_seconds, ours_seconds = ([pair[side] for pair in timed] for side in (0, 1))
        comparison = Comparison(
            rival, what, rows, rival_rows or rows, ours_seconds, rival_seconds, name, work_seconds
        )
        self._group_of(group).comparisons.append(comparison)
        together, of_fewer = f"{group}: {rival}", f", {comparison.rival_rows:,} rows"
        add_row(
            self._rows_of("benchmark"),
            together,
            name,
            ours_seconds,
            rows=rows,
            comparison=comparison.as_json(),
        )
        add_row(
            self._rows_of("rival_benchmark"),
            together,
            rival + (of_fewer if comparison.extrapolated else ""),
            rival_seconds,
            rows=comparison.rival_rows,
        )
        return comparison


@pytest.fixture
def versus(
    request: pytest.FixtureRequest,
    group_of: Callable[[str], Group],
    rows: int,
    pairs: int,
) -> Versus:
    def settle() -> None:
        # After a checkpoint the server no longer writes data of the previous turn, and its write-ahead log
        # has files that can be reused, as on a server that has been running for a while.
        if "postgres" in request.fixturenames:
            request.getfixturevalue("postgres").execute("CHECKPOINT")

    return Versus(request.getfixturevalue, group_of, rows, pairs, settle)
