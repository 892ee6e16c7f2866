"""The main job and the servers that it talks to, struck at points spread over its life, and run again.

A point or two of each kind in `make test`, some six hundred in `make torture`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support import strikes
from support.bigquery_harness import BigQueryHarness
from support.destinations import DuckDBHarness, Harness
from support.gcs_harness import GcsHarness
from support.kill_matrix import KillMatrix, Undisturbed, points_in_time
from support.postgres_harness import PostgresHarness
from support.strikes import FAILED, KILLED, OwnPostgresHarness, Strike
from support.torture import TORTURE, note, share

if TYPE_CHECKING:
    from pathlib import Path

    from support.zygote import Zygote

RUNNERS = [*[("direct", "direct")] * 4, ("threads", "direct")]
"""Without Prefect a point takes a third of the time."""


@dataclass(frozen=True)
class Case:
    """One kind of strike.

    Attributes:
        what: it strikes.
        kinds: of destinations that the job loads into.
        points: in the long mode; in the short one there are `short_points`.
        strike: made from the destinations and the seconds to wait; None for those that strike the process
            at once, which then come at that moment of the run.
        codes: that the run may end with.
    """

    what: str
    kinds: tuple[type[Harness], ...]
    points: int
    short_points: int
    strike: Callable[[list[Harness], float], Strike]
    codes: Collection[int]
    is_at_once: bool = True


LOCAL, CRASHING = (DuckDBHarness, PostgresHarness), (DuckDBHarness, OwnPostgresHarness)
GOOGLE = (GcsHarness, BigQueryHarness)
CASES = [
    Case("process", LOCAL, 120, 0, lambda _, __: strikes.kill_process, KILLED),
    Case("whole group", LOCAL, 100, 0, lambda _, __: strikes.kill_group, KILLED),
    Case("copying process", LOCAL, 60, 1, lambda _, at: strikes.kill_copier(at), FAILED, False),
    Case(
        "backend terminated",
        LOCAL,
        60,
        1,
        lambda of, at: strikes.terminate_backend(of[1], at),
        FAILED,
        False,
    ),
    Case("backend crashed", CRASHING, 50, 1, lambda of, at: strikes.kill_backend(of[1], at), FAILED, False),
    Case("server stopped", CRASHING, 40, 1, lambda of, at: strikes.stop_server(of[1], at), FAILED, False),
    Case("process", GOOGLE, 80, 0, lambda _, __: strikes.kill_process, KILLED),
    Case("whole group", GOOGLE, 50, 0, lambda _, __: strikes.kill_group, KILLED),
    Case("emulators restarted", GOOGLE, 80, 1, lambda of, _: strikes.restart_emulators(of), FAILED),
]


def _name(case: Case) -> str:
    return f"{case.what}, {'gcs and bigquery' if case.kinds is GOOGLE else 'duckdb and postgres'}"


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=_name(case),
            marks=pytest.mark.xdist_group("strikes" if TORTURE and case.kinds is GOOGLE else "kills"),
        )
        for case in CASES
        if TORTURE or case.short_points
    ],
)
def test_struck_anywhere_and_run_again_is_as_if_nothing_had_been(
    case: Case,
    zygote: Zygote,
    undisturbed: dict[int, Undisturbed],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    data_dir = tmp_path / "data"
    harnesses = [kind(data_dir, request) for kind in case.kinds]
    matrix = KillMatrix(zygote, harnesses, tmp_path, undisturbed, RUNNERS)
    matrix.run(data_dir, 0, runner="direct")  # the first also makes tables, and takes longer
    started = time.monotonic()
    matrix.run(data_dir, 1, runner="direct")
    life = time.monotonic() - started
    count = share(case.points) if TORTURE else case.short_points
    # The others wait for what they strike; a single point comes early, so that there is something to strike.
    window = life / (1 if case.is_at_once else 2) / (1 if TORTURE else 2)
    for at, seconds in enumerate(points_in_time(count, window)):
        strike = case.strike(harnesses, seconds)
        matrix.kill_and_run_again(data_dir, at % 2, seconds if case.is_at_once else 0.0, strike, case.codes)
    figures = matrix.figures
    assert (figures.rows_lost, figures.rows_duplicated) == (0, 0)
    assert figures.struck > count / 2, "most strikes came while the job ran"
    note(f"kill matrix, {_name(case)}", figures)
