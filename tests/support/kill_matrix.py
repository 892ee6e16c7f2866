"""The main job killed at a point of its life and run again, against an undisturbed run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.destinations import LEDGER
from flows.settings import Settings
from flows.staging.staged_month import checksum_matches
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from support.destinations import Harness
    from support.zygote import Zygote

COLOR, YEAR = "yellow", 2021
ROWS, BROKEN_ROWS = 4_000, 7
NEVER_COMPARED = ("logs", ".locks", "warehouse")  # what holds times, process ids or pages
OPTIONS = {"TAXI_SYNTHETIC_ROWS": str(ROWS), "TAXI_SYNTHETIC_BROKEN_ROWS": str(BROKEN_ROWS)}

# The steps of a month, in order; each once before it is done and once when it has just been done.
STEPS = [
    f"{function}:{when}"
    for function in (
        "flows.sources.download.open_source:1",
        "flows.sources.download.commit_file:1",  # the landed file gets its name
        "flows.runtime.files.commit_file:1",  # its record
        "flows.staging.stage_file.repair_csv:1",
        "flows.staging.stage_file.write_parquet:1",
        "flows.runtime.files.commit_file:2",  # the rejects
        "flows.runtime.files.commit_file:3",  # the staged file
        "flows.destinations.duckdb.destination.reconcile:1",
        "flows.destinations.postgres.destination.reconcile:1",
        "flows.month.tasks.configured_destination:1",
        "flows.month.tasks.configured_destination:2",
        "flows.runtime.files.commit_file:4",  # the quality report
    )
    for when in ("before", "after")
]


def rows_of_table(table: pa.Table) -> pa.Table:
    """The rows in one order, the columns in one order, whatever the metadata says."""
    names = sorted(table.column_names, key=str.lower)
    plain = table.select(names).replace_schema_metadata(None)
    return plain.sort_by([(name, "ascending") for name in names]).combine_chunks()


@dataclass
class Figures:
    """What a run of the matrix has counted."""

    kill_points: int = 0
    reruns: int = 0
    died: int = 0
    rows_checked: int = 0
    rows_lost: int = 0
    rows_duplicated: int = 0
    by_step: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Undisturbed:
    """What a run leaves that nobody has disturbed.

    Attributes:
        seconds: how long it took.
        files: every file of the data directory that is comparable.
        months: the rows of each month.
    """

    seconds: float
    files: dict[str, Any]
    months: dict[TripMonth, pa.Table]


class KillMatrix:
    """One job, to be killed over and over."""

    def __init__(
        self,
        zygote: Zygote,
        harnesses: Sequence[Harness],
        directory: Path,
        undisturbed: dict[int, Undisturbed],
    ) -> None:
        """Take what other jobs of the session have found of undisturbed runs, and add to it."""
        self.figures = Figures()
        self._zygote, self._harnesses, self._directory = zygote, harnesses, directory
        self._months = [TripMonth(COLOR, YEAR, 1)]
        self._undisturbed = undisturbed
        self._environment = OPTIONS | {
            name: value for harness in harnesses for name, value in environment_of(harness).items()
        }

    def undisturbed(self, seed: int) -> Undisturbed:
        """The job with this seed, in a directory of its own, into a local warehouse; made once."""
        if seed not in self._undisturbed:
            data_dir, seconds = self._directory / f"undisturbed-{seed}", []
            for _ in range(2):  # the first one starts cold
                shutil.rmtree(data_dir, ignore_errors=True)
                started = time.monotonic()
                code, said = self.run(data_dir, seed, to=["duckdb"])
                seconds.append(time.monotonic() - started)
                assert code == 0, said
                if seed:
                    break
            staged = {
                month: rows_of_table(pq.read_table(data_dir / COLOR / f"{month.stem}.parquet"))
                for month in self._months
            }
            self._undisturbed[seed] = Undisturbed(min(seconds), comparable(data_dir), staged)
        return self._undisturbed[seed]

    def arguments(self, data_dir: Path, to: Sequence[str]) -> list[str]:
        months = [str(month.month) for month in self._months]
        return [
            *("--color", COLOR, "--year", str(YEAR), "--months", *months, "--source", "synthetic"),
            *("--data-dir", str(data_dir), "--to", *to),
        ]

    def run(
        self,
        data_dir: Path,
        seed: int,
        *,
        to: Sequence[str] | None = None,
        kill_at: str | float | None = None,
        with_signal: signal.Signals = signal.SIGKILL,
        most_file_bytes: int | None = None,
    ) -> tuple[int, str]:
        """Run the job, and end it at a step or after so many seconds; exit code and what it said."""
        output = self._directory / "output.txt"
        to = to or [harness.place.name for harness in self._harnesses]
        pid = self._zygote.start(
            self.arguments(data_dir, to),
            self._environment | {"TAXI_SYNTHETIC_SEED": str(seed)},
            output,
            kill_at=kill_at if isinstance(kill_at, str) else None,
            with_signal=with_signal,
            most_file_bytes=most_file_bytes,
        )
        if isinstance(kill_at, float):
            time.sleep(kill_at)
            with contextlib.suppress(ProcessLookupError):  # it was faster
                os.kill(pid, with_signal)
        return self._zygote.wait(), output.read_text()

    def kill_and_run_again(self, data_dir: Path, seed: int, kill_at: str | float) -> None:
        """One point: killed there, nothing is half there; run again, everything is."""
        old, new = self.undisturbed(1 - seed), self.undisturbed(seed)
        code, said = self.run(data_dir, seed, kill_at=kill_at)
        assert code in (0, -signal.SIGKILL), said
        self.figures.kill_points += 1
        self.figures.died += code != 0
        assert code != 0 or isinstance(kill_at, float), f"{kill_at} was never reached"
        for harness in self._harnesses:
            harness.settle()
            self.assert_whole(harness, [old, new])
        code, said = self.run(data_dir, seed)
        assert code == 0, f"after {kill_at}: {said}"
        self.figures.reruns += 1
        found = comparable(data_dir)
        differ = [name for name in found.keys() | new.files.keys() if found.get(name) != new.files.get(name)]
        assert not differ, f"after {kill_at}: not as undisturbed: {differ}"
        for harness in self._harnesses:
            self.assert_holds(harness, new, kill_at)

    def assert_whole(self, harness: Harness, either: Sequence[Undisturbed]) -> None:
        """Each month is not there, or is one of these, every row; and the ledger knows which."""
        for month in self._months:
            found = self._rows(harness, month)
            assert any(found.equals(state.months[month]) for state in either) or not found.num_rows
            load = harness.make().loaded(month)
            assert (load.row_count if load else 0) == found.num_rows

    def assert_holds(self, harness: Harness, state: Undisturbed, kill_at: object) -> None:
        """The destination holds exactly the undisturbed months, and one line of the ledger for each."""
        for month in self._months:
            expected, found = state.months[month], self._rows(harness, month)
            self.figures.rows_checked += expected.num_rows
            self.figures.rows_lost += max(0, expected.num_rows - found.num_rows)
            self.figures.rows_duplicated += max(0, found.num_rows - expected.num_rows)
            assert found.equals(expected), f"{harness.place.name} after {kill_at}: other rows"
        loads = [load for load in harness.ledger() if load.dataset == COLOR]
        assert sorted(load.file_month for load in loads) == [month.first_day for month in self._months]
        assert {load.file_month: load.row_count for load in loads} == {
            month.first_day: rows.num_rows for month, rows in state.months.items()
        }
        tables = harness.tables()
        assert tables == {LEDGER, self._months[0].dataset.table}, f"after {kill_at}: {tables}"

    def _rows(self, harness: Harness, month: TripMonth) -> pa.Table:
        types = month.dataset.arrow_schema()
        if month.dataset.table not in harness.tables():
            return types.empty_table()
        found = harness.read(month.dataset.table)
        found = found.rename_columns(
            {harness.column_name(name): name for name in types.names}
            if harness.column_name("VendorID") != "VendorID"
            else found.column_names
        )
        of_month = pa.compute.equal(found["file_month"], pa.scalar(month.first_day))
        wanted = pa.schema(pa.field(name, types.field(name).type) for name in found.column_names)
        return rows_of_table(found.filter(of_month).cast(wanted))


def environment_of(harness: Harness) -> dict[str, str]:
    """The settings of a harness's place, as the environment of a command."""
    fields = Settings.model_fields
    return {
        str(fields[name].validation_alias or f"TAXI_{name.upper()}"): str(value)
        for name, value in harness.place.settings.items()
    }


def comparable(data_dir: Path) -> dict[str, Any]:
    """Every file below a data directory by name, with what is to be the same after any history."""
    found: dict[str, Any] = {}
    for path in sorted(data_dir.rglob("*")):
        name = str(path.relative_to(data_dir))
        if path.is_dir() or ".locks" in path.parts or name.startswith(NEVER_COMPARED):
            continue
        found[name] = content_of(path)
    return found


def content_of(path: Path) -> Any:  # noqa: ANN401 - compared, never looked into
    """What a file says, without the times it was made at."""
    if path.suffix == ".parquet":
        return rows_of_table(pq.read_table(path))
    if path.suffix == ".crc32":
        return checksum_matches(path.with_suffix("")) or path.read_text()
    if path.suffix != ".json":
        return path.read_bytes()
    said = json.loads(path.read_text())
    return {name: value for name, value in said.items() if name not in ("path", "modified_ns", "staged_at")}


def points_in_time(count: int, seconds: float) -> list[float]:
    """So many moments, evenly over the life of a run."""
    return [seconds * (at + 0.5) / count for at in range(count)]
