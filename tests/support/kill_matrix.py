"""Kills the main job at a chosen point, runs it again, and compares the result with an undisturbed run."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from support.strikes import KILLED, Strike, kill_process

from flows.destinations import LEDGER, REJECTS
from flows.settings import Settings
from flows.staging.staged_month import checksum_matches
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from support.destinations import Harness
    from support.zygote import Zygote

COLOR, YEAR = "yellow", 2021
ROWS, BROKEN_ROWS = 4_000, 7
NEVER_COMPARED = (
    "logs",
    ".locks",
    "warehouse",
    "iceberg",
)  # these contain times, process ids or database pages
OPTIONS = {"TAXI_SYNTHETIC_ROWS": str(ROWS), "TAXI_SYNTHETIC_BROKEN_ROWS": str(BROKEN_ROWS)}

# The steps of a month, in order; the job is killed just before and just after each of them.
STEPS = [
    f"{function}:{when}"
    for function in (
        "flows.sources.download.open_source:1",
        "flows.sources.download.commit_file:1",  # the landed file gets its name
        "flows.runtime.files.commit_file:1",  # its record
        "flows.staging.stage_file.repair_csv:1",
        "flows.staging.stage_file.write_parquet:1",
        "flows.staging.rejects.commit_file:1",
        "flows.runtime.files.commit_file:2",  # the staged file
        "flows.runtime.files.commit_file:3",  # its checksum
        "flows.destinations.duckdb.destination.reconcile:1",
        "flows.destinations.postgres.swap.reconcile:1",
        "flows.month.steps.configured_destination:1",
        "flows.month.steps.configured_destination:2",
        "flows.runtime.files.commit_file:4",  # the quality report
    )
    for when in ("before", "after")
]


def rows_of_table(table: pa.Table) -> pa.Table:
    """The table with sorted columns and rows and without metadata, so that equal data compares equal."""
    names = sorted(table.column_names, key=str.lower)
    plain = table.select(names).replace_schema_metadata(None)
    return plain.sort_by([(name, "ascending") for name in names]).combine_chunks()


@dataclass
class Figures:
    """The counts of all kills of one matrix."""

    kill_points: int = 0
    reruns: int = 0
    died: int = 0
    struck: int = 0
    rows_checked: int = 0
    rows_lost: int = 0
    rows_duplicated: int = 0
    by_step: dict[str, int] = field(default_factory=dict)
    by_runner: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Undisturbed:
    """The result of an undisturbed run.

    Attributes:
        seconds: how long it took.
        files: the files of the data directory by name, without what differs from run to run.
        months: the rows of each month.
    """

    seconds: float
    files: dict[str, Any]
    months: dict[TripMonth, pa.Table]


class KillMatrix:
    """One job, to be killed and run again many times."""

    def __init__(
        self,
        zygote: Zygote,
        harnesses: Sequence[Harness],
        directory: Path,
        undisturbed: dict[int, Undisturbed],
        runners: Sequence[tuple[str, str]] = (("threads", "direct"), ("direct", "threads")),
    ) -> None:
        """Prepare the job.

        Args:
            zygote: runs it.
            harnesses: where it loads.
            directory: for its files.
            undisturbed: shared by all jobs of the session: each seed runs undisturbed only once.
            runners: pairs that take turns: who works when it is struck, and who heals.
        """
        self.figures = Figures()
        self._zygote, self._harnesses, self._directory = zygote, harnesses, directory
        self._months = [TripMonth(COLOR, YEAR, 1)]
        self._undisturbed = undisturbed
        self._runners = itertools.cycle(runners)
        self._environment = OPTIONS | {
            name: value for harness in harnesses for name, value in environment_of(harness).items()
        }

    def undisturbed(self, seed: int) -> Undisturbed:
        """The undisturbed result of this seed, from a run into a separate data directory and DuckDB file."""
        if seed not in self._undisturbed:
            data_dir, seconds = self._directory / f"undisturbed-{seed}", []
            for _ in range(2):  # the first one starts cold
                shutil.rmtree(data_dir, ignore_errors=True)
                started = time.monotonic()
                code, output = self.run(data_dir, seed, to=["duckdb"])
                seconds.append(time.monotonic() - started)
                assert code == 0, output
                if seed:
                    break
            staged = {
                month: rows_of_table(pq.read_table(data_dir / COLOR / f"{month.stem}.parquet"))
                for month in self._months
            }
            self._undisturbed[seed] = Undisturbed(min(seconds), comparable(data_dir), staged)
        return self._undisturbed[seed]

    def arguments(self, data_dir: Path, to: Sequence[str], runner: str) -> list[str]:
        months = [str(month.month) for month in self._months]
        return [
            *("--color", COLOR, "--year", str(YEAR), "--months", *months, "--source", "synthetic"),
            *("--data-dir", str(data_dir), "--to", *to, "--runner", runner),
        ]

    def run(
        self,
        data_dir: Path,
        seed: int,
        *,
        to: Sequence[str] | None = None,
        runner: str = "threads",
        kill_at: str | float | None = None,
        with_signal: signal.Signals = signal.SIGKILL,
        max_file_bytes: int | None = None,
        strike: Strike = kill_process,
    ) -> tuple[int, str]:
        """Run the job, and kill it at a step or strike after some seconds; returns exit code and output."""
        log = self._directory / "output.txt"
        to = to or [harness.place.name for harness in self._harnesses]
        pid = self._zygote.start(
            self.arguments(data_dir, to, runner),
            self._environment | {"TAXI_SYNTHETIC_SEED": str(seed)},
            log,
            kill_at=kill_at if isinstance(kill_at, str) else None,
            with_signal=with_signal,
            max_file_bytes=max_file_bytes,
        )
        try:
            if isinstance(kill_at, float):
                time.sleep(kill_at)
                self.figures.struck += strike(pid)
        finally:
            code = self._zygote.wait()
        return code, log.read_text()

    def kill_and_run_again(
        self,
        data_dir: Path,
        seed: int,
        kill_at: str | float,
        strike: Strike = kill_process,
        codes: Collection[int] = KILLED,
    ) -> None:
        """Strike the job at one point: no month is there in part. Run it again: everything is there, once.

        The two runners that work in the command's own process take turns to be struck and to heal.
        """
        old, new = self.undisturbed(1 - seed), self.undisturbed(seed)
        killed, healing = next(self._runners)
        code, output = self.run(data_dir, seed, runner=killed, kill_at=kill_at, strike=strike)
        assert code in codes, output
        assert "Traceback" not in output
        self.figures.kill_points += 1
        self.figures.died += code != 0
        self.figures.by_runner[killed] = self.figures.by_runner.get(killed, 0) + 1
        assert code != 0 or isinstance(kill_at, float), f"{kill_at} was never reached"
        for harness in self._harnesses:
            harness.settle()
            self.assert_whole(harness, [old, new])
        code, output = self.run(data_dir, seed, runner=healing)
        assert code == 0, f"after {kill_at}: {output}"
        self.figures.reruns += 1
        files = comparable(data_dir)
        differ = [name for name in files.keys() | new.files.keys() if files.get(name) != new.files.get(name)]
        assert not differ, f"after {kill_at}: not as undisturbed: {differ}"
        for harness in self._harnesses:
            self.assert_holds(harness, new, kill_at)

    def assert_whole(self, harness: Harness, either: Sequence[Undisturbed]) -> None:
        """Each month is either absent or equal to one of these states, and the ledger agrees."""
        for month in self._months:
            rows = self._rows(harness, month)
            assert any(rows.equals(state.months[month]) for state in either) or not rows.num_rows
            load = harness.make().loaded(month)
            assert (load.row_count if load else 0) == rows.num_rows

    def assert_holds(self, harness: Harness, state: Undisturbed, kill_at: object) -> None:
        """The destination holds exactly the months of this state, and one ledger row for each."""
        for month in self._months:
            expected, rows = state.months[month], self._rows(harness, month)
            self.figures.rows_checked += expected.num_rows
            self.figures.rows_lost += max(0, expected.num_rows - rows.num_rows)
            self.figures.rows_duplicated += max(0, rows.num_rows - expected.num_rows)
            assert rows.equals(expected), f"{harness.place.name} after {kill_at}: other rows"
        loads = [load for load in harness.ledger() if load.dataset == COLOR]
        assert sorted(load.file_month for load in loads) == [month.first_day for month in self._months]
        assert {load.file_month: load.row_count for load in loads} == {
            month.first_day: rows.num_rows for month, rows in state.months.items()
        }
        tables = harness.tables()
        assert tables == {LEDGER, REJECTS, self._months[0].dataset.table}, f"after {kill_at}: {tables}"

    def _rows(self, harness: Harness, month: TripMonth) -> pa.Table:
        types = month.dataset.arrow_schema()
        if month.dataset.table not in harness.tables():
            return types.empty_table()
        table = harness.read(month.dataset.table)
        table = table.rename_columns(
            {harness.column_name(name): name for name in types.names}
            if harness.column_name("VendorID") != "VendorID"
            else table.column_names
        )
        of_month = pa.compute.equal(table["file_month"], pa.scalar(month.first_day))
        schema = pa.schema(pa.field(name, types.field(name).type) for name in table.column_names)
        return rows_of_table(table.filter(of_month).cast(schema))


def environment_of(harness: Harness) -> dict[str, str]:
    """The settings of a harness's place, as the environment of a command."""
    fields = Settings.model_fields
    return {
        str(fields[name].validation_alias or f"TAXI_{name.upper()}"): str(value)
        for name, value in harness.place.settings.items()
    }


def comparable(data_dir: Path) -> dict[str, Any]:
    """Every file below a data directory by name, with the content that must not depend on earlier kills."""
    contents: dict[str, Any] = {}
    for path in sorted(data_dir.rglob("*")):
        name = str(path.relative_to(data_dir))
        if path.is_dir() or ".locks" in path.parts or name.startswith(NEVER_COMPARED):
            continue
        contents[name] = content_of(path)
    return contents


def content_of(path: Path) -> Any:  # noqa: ANN401 - compared, never looked into
    """The content of a file, without paths and times."""
    if path.suffix == ".parquet":
        return rows_of_table(pq.read_table(path))
    if path.suffix == ".crc32":
        return checksum_matches(path.with_suffix("")) or path.read_text()
    if path.suffix != ".json":
        return path.read_bytes()
    record = json.loads(path.read_text())
    return {name: value for name, value in record.items() if name not in ("path", "modified_ns", "staged_at")}


def points_in_time(count: int, seconds: float) -> list[float]:
    """`count` moments, spread evenly over `seconds`."""
    return [seconds * (at + 0.5) / count for at in range(count)]
