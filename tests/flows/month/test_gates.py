"""Months that cannot be right are not published; real ones are."""

from __future__ import annotations

import io
import re
import shutil
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from support.trips import HEADS, REAL_YELLOW, needs_real_trips

from flows.destinations import Load, make_destination
from flows.errors import GateFailed
from flows.month import DirectSteps, Gates, MonthFailed, load_from_source
from flows.month.gates import Neighbours, pass_gates
from flows.request import LoadRequest
from flows.runners.direct import run_directly
from flows.settings import Settings, override_settings
from flows.sources import SourceFile, land
from flows.sources.synthetic import synthetic_csv
from flows.staging import StagingOptions, count_rows, stage
from transforms.dataset import FILE_MONTH
from transforms.datasets import DATASETS
from transforms.gates import DEFAULT_GATES, ROW_RATIO
from transforms.quality import quality_measures
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.destinations import Months

    from flows.month import MonthOutcome
    from flows.staging import StagedMonth

DECEMBER, JANUARY, FEBRUARY, MARCH = (
    TripMonth("yellow", *at) for at in ((2020, 12), (2021, 1), (2021, 2), (2021, 3))
)
NOTHING = pl.lit(None, pl.String)
PICKUP, DROPOFF = JANUARY.dataset.pickup, JANUARY.dataset.dropoff


class Source:
    """Files of months in a directory, and runs that load them into a local warehouse."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.data_dir = directory / "source", directory / "data"
        self.directory.mkdir()

    def put(
        self, month: TripMonth, rows: int = 1_500, of: TripMonth | None = None, **columns: pl.Expr
    ) -> None:
        """Write a synthetic month, or another one's trips under its name, with some columns changed."""
        of = of or month
        csv = b"".join(synthetic_csv(of.dataset, of.year, of.month, rows=rows))
        trips = pl.read_csv(io.BytesIO(csv), infer_schema=False).with_columns(**columns)
        trips.write_csv(self.directory / f"{month.stem}.csv")

    def load(self, month: TripMonth, **parameters: Any) -> MonthOutcome:  # noqa: ANN401
        with DirectSteps() as steps:
            return load_from_source(month, self.request([month], **parameters), steps)

    def request(self, months: list[TripMonth], **parameters: Any) -> LoadRequest:  # noqa: ANN401
        return LoadRequest.from_parameters(
            color=months[0].color,
            year=months[0].year,
            months=[month.month for month in months],
            source=f"{self.directory}/{{color}}_tripdata_{{year}}-{{month:02}}.csv",
            data_dir=self.data_dir,
            concurrency=2,
            **parameters,
        )

    def loaded(self, month: TripMonth) -> Load | None:
        return make_destination("duckdb", self.data_dir, Settings(_env_file=None)).loaded(month)

    def fails(self, month: TripMonth, **parameters: Any) -> str:  # noqa: ANN401
        with pytest.raises(MonthFailed) as failed:
            self.load(month, **parameters)
        assert not failed.value.outcome.receipts
        assert "\n" not in failed.value.message
        return failed.value.message


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


BROKEN: dict[str, dict[str, Any]] = {
    "pickup_outside_month": {"of": MARCH},
    "dropoff_before_pickup": {DROPOFF: pl.lit("2021-01-01 00:00:00")},
    "negative_fare": {"fare_amount": pl.lit("-1.0")},
    "zero_distance": {"trip_distance": pl.lit("0.0")},
    "nulls.fare_amount": {"fare_amount": NOTHING},
    "emptied.tip_amount": {"tip_amount": NOTHING},
    "row_ratio": {"rows": 149},
}


@pytest.mark.parametrize("measure", BROKEN)
def test_each_default_gate_keeps_the_old_month_until_it_is_accepted(source: Source, measure: str) -> None:
    for month in (DECEMBER, JANUARY):
        source.put(month)
        assert source.load(month).status == "published"
    before = source.loaded(JANUARY)
    source.put(JANUARY, **BROKEN[measure])

    message = source.fails(JANUARY)

    assert f"{measure} " in message
    assert measure in message.partition(" --accept ")[2]
    assert source.loaded(JANUARY) == before
    names = [measure, "emptied.fare_amount"]
    outcome = source.load(JANUARY, accept=names)
    after = source.loaded(JANUARY)
    assert outcome.status == "published"
    assert after
    assert after.source_sha256 != before.source_sha256
    assert measure in after.warnings
    assert any(measure in warning for warning in outcome.to_json()["warnings"])
    assert source.load(JANUARY).status == "unchanged", "nothing would be replaced"
    assert measure in source.fails(JANUARY, force=True)


def _break(month: StagedMonth, measure: str, months: Months) -> StagedMonth:
    """The month, changed so that a measure of it is beyond its threshold."""
    trips = pl.read_parquet(month.path).drop(FILE_MONTH)
    start, end = month.month.dataset.pickup, month.month.dataset.dropoff
    family, _, column = measure.partition(".")
    changes: dict[str, dict[str, pl.Expr]] = {
        "pickup_outside_month": {name: pl.col(name).dt.offset_by("2mo") for name in (start, end)},
        "dropoff_before_pickup": {end: pl.col(start).dt.offset_by("-1s")},
        "negative_fare": dict.fromkeys(("fare_amount", "base_passenger_fare"), pl.lit(-1.0)),
        "zero_distance": dict.fromkeys(("trip_distance", "trip_miles"), pl.lit(0.0)),
        "nulls": {column: NOTHING},
        "emptied": {column: NOTHING},
        ROW_RATIO: {},
    }
    here = {name: value for name, value in changes[family].items() if name in trips.columns}
    trips = trips.with_columns(**here).head(149 if measure == ROW_RATIO else month.rows)
    return months.of(month.month, trips.to_dict(as_series=False))


def _failing() -> Iterator[tuple[str, str]]:
    """The default gates that stop a month, of what is measured in the dataset."""
    for color, gates in DEFAULT_GATES.items():
        lacking = {*quality_measures(JANUARY.dataset)} - {*quality_measures(DATASETS[color])}
        for measure, gate in gates.items():
            if gate.fail is not None and measure not in lacking:
                yield color, "emptied.PULocationID" if measure == "emptied" else measure


@pytest.mark.parametrize(("color", "measure"), [*_failing()])
def test_each_default_gate_of_each_dataset_stops_a_month_made_to_break_it(
    color: str, measure: str, months: Months
) -> None:
    month = TripMonth(color, 2021, 1)
    right = months.trips(month, 1_500)
    around = Neighbours({month.later(-1): right.rows}, (right.rows, count_rows(right).nulls))
    assert pass_gates(right, count_rows(right), around, (), ()).rows == right.rows
    broken = _break(right, measure, months)
    with pytest.raises(GateFailed, match=rf" {re.escape(measure)} \d"):
        pass_gates(broken, count_rows(broken), around, (), ())


def test_a_gate_at_fault_twice_in_a_row_stops_both_months(source: Source) -> None:
    source.put(JANUARY)
    source.load(JANUARY)
    for month in (FEBRUARY, MARCH):
        source.put(month, tip_amount=NOTHING)
        assert "emptied.tip_amount" in source.fails(month)
    for month in (FEBRUARY, MARCH):
        source.put(month, rows=100)
        assert "row_ratio" in source.fails(month)
    source.load(FEBRUARY, accept=["row_ratio"])
    assert "row_ratio" not in source.load(MARCH, accept=["row_ratio"]).to_json().get("warnings", [])


def test_neighbours_are_known_within_one_run(source: Source) -> None:
    for month, rows in ((JANUARY, 30_000), (FEBRUARY, 500), (MARCH, 30_000)):
        source.put(month, rows)
    months = [JANUARY, FEBRUARY, MARCH]
    january, february, march = run_directly(months, source.request(months, runner="direct"))
    assert [january.status, february.status, march.status] == ["published", "failed", "published"]
    assert "row_ratio 0.01667 < 0.1" in (february.error or "")


def test_neighbours_are_found_in_the_ledger(source: Source) -> None:
    source.put(JANUARY, 20_000)
    source.load(JANUARY)
    shutil.rmtree(source.data_dir / "yellow")
    source.put(FEBRUARY, 1_000)
    assert "row_ratio 0.05 < 0.1" in source.fails(FEBRUARY)


def test_a_small_month_is_not_judged_by_shares(source: Source) -> None:
    source.put(JANUARY, 999, of=MARCH)
    outcome = source.load(JANUARY)
    assert (outcome.status, outcome.to_json().get("warnings")) == ("published", None)


def test_a_warning_is_said_and_stays_in_the_ledger(source: Source) -> None:
    source.put(JANUARY, passenger_count=pl.lit("0"))
    outcome = source.load(JANUARY)
    assert outcome.to_json()["warnings"] == ["zero_passengers 1 > 0.5"]
    load = source.loaded(JANUARY)
    assert load
    assert load.warnings == "zero_passengers 1 > 0.5"


def test_the_settings_decide(source: Source) -> None:
    source.put(JANUARY, of=MARCH)
    with override_settings(gates={"yellow": {"pickup_outside_month": {"fail": None}}}):
        assert source.load(JANUARY).status == "published"
    source.put(FEBRUARY)
    with override_settings(gates={"all": {"exact_duplicates": {"fail": 0.0}}}):
        source.put(FEBRUARY, passenger_count=pl.lit("1"))
        message = source.fails(FEBRUARY)
    assert "exact_duplicates" in message


@pytest.mark.parametrize(
    ("collapsed", "rows"),
    [
        (TripMonth("yellow", 2020, 4), (30_077, 2_381, 3_484)),
        (TripMonth("fhv", 2019, 2), (23_159, 1_708, 1_476)),
    ],
)
def test_a_published_collapse_is_no_reason_to_stop(
    source: Source, collapsed: TripMonth, rows: tuple[int, ...]
) -> None:
    """With a hundredth, or a thousandth, of the rows that the TLC published."""
    for distance, count in enumerate(rows, -1):
        month = collapsed.later(distance)
        source.put(month, count)
        assert source.load(month).status == "published"


@needs_real_trips
def test_every_real_month_passes(tmp_path: Path) -> None:
    files = [*sorted(HEADS.glob("*.csv")), *sorted(REAL_YELLOW.glob("*.csv.gz"))]
    warned: dict[str, list[str]] = defaultdict(list)
    for path in files:
        color, _, iso = path.name.partition(".")[0].partition("_tripdata_")
        month, directory = TripMonth.of_iso(color, iso), tmp_path / path.parent.name
        landed = land(SourceFile(path.as_uri(), path.name), directory / "raw", Settings(_env_file=None))
        staged = stage(landed, month, directory, StagingOptions(max_reject_ratio=1.0))
        with Gates(month, directory, ()) as gates:
            judged = gates.check(staged, count_rows(staged), (), force=False)
        warned[path.parent.name] += judged.warnings
    assert len(files) > 50
    assert warned == {"heads": [], "yellow": []}
