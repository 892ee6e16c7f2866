"""The tutorial's job, stopped at any step: one last line, its exit code, and an unchanged table."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from support.cli import small_month

if TYPE_CHECKING:
    from pathlib import Path

    from support.postgres import Database
    from support.zygote import Zygote

pytestmark = pytest.mark.xdist_group("kills")

NAME = "yellow_tripdata_2021-01.csv.gz"
TABLE = "yellow_taxi_trips"
STEPS = [
    ("flows.sources.download.open_source:1:before", signal.SIGINT),
    ("flows.staging.stage_file.write_parquet:1:before", signal.SIGTERM),
    ("flows.destinations.postgres.swap.reconcile:1:before", signal.SIGTERM),
]
ENDS = {signal.SIGINT: (130, "interrupted: "), signal.SIGTERM: (143, "terminated: ")}


def test_ctrl_c_and_sigterm_end_it_cleanly_wherever_it_is(
    zygote: Zygote, postgres: Database, tmp_path: Path
) -> None:
    source, data_dir, output = tmp_path / NAME, tmp_path / "data", tmp_path / "output.txt"
    environment = {"TAXI_POSTGRES_URL": postgres.url}

    def run(rows: int, kill_at: str | None = None, with_signal: signal.Signals = signal.SIGINT) -> int:
        source.write_bytes(small_month(rows))
        call = ["--url", str(source), "--data-dir", str(data_dir)]
        zygote.start(
            call, environment, output, kill_at=kill_at, with_signal=with_signal, command="flows.ingest"
        )
        return zygote.wait()

    assert run(7) == 0, output.read_text()
    for rows, (step, with_signal) in enumerate(STEPS, start=100):
        code, word = ENDS[with_signal]
        assert run(rows, step, with_signal) == code, f"at {step}: {output.read_text()}"
        printed = output.read_text()
        assert printed.splitlines()[-1].startswith(word), printed
        assert "Traceback" not in printed
        assert not [path for path in data_dir.rglob("*.tmp") if path.is_file()]
        assert postgres.value(f"SELECT count(*) FROM {TABLE}") == 7, f"at {step}"
    assert run(200) == 0, output.read_text()
    assert postgres.value(f"SELECT count(*) FROM {TABLE}") == 200
