"""Benchmarks: our code and what a user would use instead, on the same file, in the same run.

`pytest benchmarks --rows 1440000` is the size that the README quotes; the default is small, for a first try.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inputs import MONTH, land_file, synthetic_file
from pairs import seconds_of
from results import Comparison, Group, save

from flows.staging import StagingOptions, stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from flows.sources import LandedFile
    from flows.staging import StagedMonth

pytest_plugins = ["support.postgres", "support.bqemulator", "support.prefect_server"]

LONGEST_SECONDS = 3_600  # of one benchmark: the suite's own limit is for tests
MEASURED = pytest.StashKey[dict[str, Group]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmarks")
    group.addoption("--rows", type=int, default=100_000, help="rows of the synthetic month that is measured")
    group.addoption("--file", type=Path, help="measure this yellow .csv or .csv.gz instead")
    group.addoption("--pairs", type=int, default=5, help="turns of ours and rival; 1: without a warm-up")
    group.addoption("--results", type=Path, default=Path(".benchmarks/results"), help="where the JSON goes")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(LONGEST_SECONDS))


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


@pytest.fixture
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
        benchmark: BenchmarkFixture,
        group_of: Callable[[str], Group],
        rows: int,
        pairs: int,
        settle: Callable[[], object],
    ) -> None:
        self._benchmark, self._group_of = benchmark, group_of
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
        ours_seconds: list[float] = []
        rival_seconds: list[float] = []
        rows = rows or self._rows
        self._benchmark.group = group

        def rivals_turn() -> None:
            self._settle()
            rival_seconds.append(seconds_of(theirs))
            self._settle()

        # pytest-benchmark times our side; the rival runs in the `setup` before each round.
        self._benchmark.pedantic(
            lambda: ours_seconds.append(seconds_of(ours)),
            setup=rivals_turn,
            rounds=rounds,
            warmup_rounds=int(self._pairs > 1),
        )
        seconds = ours_seconds[-rounds:], rival_seconds[-rounds:]
        comparison = Comparison(rival, what, rows, rival_rows or rows, *seconds, name, work_seconds)
        self._benchmark.extra_info.update(comparison.as_json())
        self._group_of(group).comparisons.append(comparison)
        return comparison


@pytest.fixture
def versus(
    request: pytest.FixtureRequest,
    benchmark: BenchmarkFixture,
    group_of: Callable[[str], Group],
    rows: int,
    pairs: int,
) -> Versus:
    def settle() -> None:
        # After a checkpoint the server no longer writes data of the previous turn, and its write-ahead log
        # has files that can be reused, as on a server that has been running for a while.
        if "postgres" in request.fixturenames:
            request.getfixturevalue("postgres").execute("CHECKPOINT")

    return Versus(benchmark, group_of, rows, pairs, settle)
