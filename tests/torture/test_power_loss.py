"""The power is lost while the main job runs: what no fsync has forced to the disk is forgotten, all or parts.

Everything that a run changes in its data directory, the local warehouse included, is recorded once; then the
directory is made what a machine may find after any of these changes.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import duckdb
import pytest
from support.cli import ROOT
from support.destinations import DuckDBHarness
from support.kill_matrix import KillMatrix, Undisturbed, comparable
from support.power_loss import FORGETS, Recording
from support.prefect_server import clean_environment
from support.torture import TORTURE, note, share

if TYPE_CHECKING:
    from pathlib import Path

    from support.zygote import Zygote

pytestmark = pytest.mark.xdist_group("kills")


DAMAGE = {"Corrupt WAL file": "commits left in parts", "Corrupt database file": "refused by DuckDB"}
"""What DuckDB says of its file: our next run mends the first; after the second it is to be moved away."""


def _damage(harness: DuckDBHarness) -> str:
    """Why DuckDB does not open the warehouse; empty if it does."""
    try:
        harness.tables()
    except duckdb.Error as error:
        for words, damage in DAMAGE.items():
            if words in str(error):
                return damage
        raise
    return ""


POINTS = share(100) if TORTURE else 3


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", ["a first load", "a replacement"])
def test_after_a_loss_of_power_each_month_is_whole_and_the_next_run_goes_well(
    zygote: Zygote,
    undisturbed: dict[int, Undisturbed],
    tmp_path: Path,
    what: str,
    request: pytest.FixtureRequest,
) -> None:
    disk, data_dir = tmp_path / "disk", tmp_path / "disk" / "data"
    harness = DuckDBHarness(data_dir, request)
    matrix = KillMatrix(zygote, [harness], tmp_path, undisturbed)
    old, new = matrix.undisturbed(0), matrix.undisturbed(1)
    disk.mkdir()
    if what == "a replacement":
        assert matrix.run(data_dir, 0, runner="direct")[0] == 0
    recording = Recording(disk, tmp_path / "power.log")
    call = [sys.executable, "flows/parent.py", *matrix.arguments(data_dir, ["duckdb"], "direct")]
    environment = clean_environment(**matrix._environment, **recording.environment(), TAXI_SYNTHETIC_SEED="1")
    subprocess.run(call, cwd=ROOT, env=environment, check=True, capture_output=True)
    recording.finish()

    recording.restore(len(recording.events), "everything")
    found = comparable(data_dir)  # and what was removed may be there again
    assert {name: found.get(name) for name in new.files} == new.files, "not all is on the disk"
    matrix.assert_holds(harness, new, "a loss of power after the end")

    tried = Counter[str]()
    for point in range(POINTS):
        count, forgets = len(recording.events) * point // POINTS, FORGETS[point % len(FORGETS)]
        where = f"{what}: {forgets} after {count} of {len(recording.events)} changes"
        recording.restore(count, forgets)
        if damage := _damage(harness):
            tried[damage] += 1
        else:
            matrix.assert_whole(harness, [old, new])
        code, output = matrix.run(data_dir, 1, runner="direct")
        if damage == "refused by DuckDB":
            assert code == 1, where
            assert "move it away" in output
            harness.path.unlink()
            code, output = matrix.run(data_dir, 1, runner="direct")
        assert code == 0, f"{where}: {output}"
        assert "Traceback" not in output
        assert comparable(data_dir) == new.files, where
        matrix.assert_holds(harness, new, where)
        tried[f"forgot {forgets}"] += 1
    figures = {"kill_points": POINTS, "changes recorded": len(recording.events), **tried}
    lost = {"rows_lost": matrix.figures.rows_lost, "rows_duplicated": matrix.figures.rows_duplicated}
    note(f"kill matrix, loss of power during {what}", {**figures, **lost})
