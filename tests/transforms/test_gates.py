"""What a month measures, and which values warn or fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from transforms.datasets import DATASETS
from transforms.gates import (
    BY_COLUMN,
    COLLAPSES,
    DEFAULT_GATES,
    MEASURES,
    Gate,
    RowCounts,
    gates_in_force,
    judge,
    measure,
    unknown_measures,
)
from transforms.quality import quality_measures
from transforms.trip_month import TripMonth

COUNTS = RowCounts(10_000, 10_010, 10, {"zero_distance": 200}, {"tip_amount": 10_000, "extra": 500})


def test_shares_are_of_the_rows_and_rejects_of_the_source() -> None:
    assert measure(COUNTS) == {
        "zero_distance": 0.02,
        "rejected": 10 / 10_010,
        "nulls.tip_amount": 1.0,
        "nulls.extra": 0.05,
    }


def test_a_small_month_is_judged_by_nothing_but_its_rows() -> None:
    assert measure(replace(COUNTS, rows=999), before=(10_000, {}), neighbours=[20_000]) == {
        "row_ratio": 0.04995
    }
    assert measure(replace(COUNTS, rows=999), neighbours=[999]) == {}


def test_a_column_is_emptied_only_if_the_month_before_had_values() -> None:
    def emptied(nulls_before: dict[str, int], rows_before: int = 1000) -> dict[str, float]:
        found = measure(COUNTS, before=(rows_before, nulls_before))
        return {name: value for name, value in found.items() if name.startswith("emptied")}

    assert emptied({"tip_amount": 100, "extra": 0}) == {"emptied.tip_amount": 0.9}
    assert emptied({"tip_amount": 1000}) == {"emptied.tip_amount": 0.0}
    assert emptied({}) == {}
    assert emptied({"tip_amount": 100}, rows_before=999) == {}
    assert "nulls.tip_amount" not in measure(COUNTS, not_expected=["tip_amount"])


def test_the_larger_neighbour_counts() -> None:
    assert measure(COUNTS, neighbours=[10_000, 200_000])["row_ratio"] == 0.05


@pytest.mark.parametrize("dataset", DEFAULT_GATES)
def test_each_default_gate_warns_and_fails_beyond_its_threshold_and_not_at_it(dataset: str) -> None:
    for name, gate in DEFAULT_GATES[dataset].items():
        beyond = -0.01 if name == "row_ratio" else 0.01
        for threshold, expected in ((gate.warn, (0, 1)), (gate.fail, (1, 0))):
            if threshold is not None:
                failures, warnings = judge({name: threshold + beyond}, DEFAULT_GATES[dataset])
                assert (len(failures), len(warnings)) == expected, name
                assert name in str((failures or warnings)[0])
                failures, _ = judge({name: threshold}, DEFAULT_GATES[dataset])
                assert not failures


def test_a_gate_of_a_column_goes_before_that_of_all() -> None:
    gates = {"nulls": Gate(fail=0.5), "nulls.extra": Gate(fail=0.9)}
    failures, _ = judge({"nulls.extra": 0.7, "nulls.tip_amount": 0.7}, gates)
    assert [one.measure for one in failures] == ["nulls.tip_amount"]


@pytest.mark.parametrize("accepted", ["emptied", "emptied.extra"])
def test_what_is_accepted_is_a_warning(accepted: str) -> None:
    failures, warnings = judge({"emptied.extra": 1.0}, DEFAULT_GATES["yellow"], [accepted])
    assert (failures, list(map(str, warnings))) == ([], ["emptied.extra 1 > 0.5"])
    assert judge({"emptied.extra": 1.0}, DEFAULT_GATES["yellow"], ["emptied.tip_amount"])[0]


def test_settings_change_single_thresholds() -> None:
    given = {
        "all": {"zero_distance": {"warn": 0.3}, "nulls.extra": {"fail": 0.7}},
        "yellow": {"zero_distance": {"fail": None}, "row_ratio": {"fail": 0.2}},
    }
    yellow, green = gates_in_force("yellow", given), gates_in_force("green", given)
    assert (yellow["zero_distance"], green["zero_distance"]) == (Gate(0.3), Gate(0.3, 0.9))
    assert (yellow["row_ratio"], green["row_ratio"]) == (Gate(0.5, 0.2), Gate(0.5, 0.1))
    assert yellow["nulls.extra"] == Gate(fail=0.7)


def test_every_gate_is_of_a_measure_and_every_measure_of_the_report_has_a_name() -> None:
    for name, dataset in DATASETS.items():
        assert unknown_measures(DEFAULT_GATES[name], dataset.column) == []
        assert set(quality_measures(dataset)) < set(MEASURES)
    assert unknown_measures(["nulls.bogus", "bogus", "zero_distance.extra"], ["extra"]) == [
        "nulls.bogus",
        "bogus",
        "zero_distance.extra",
    ]
    assert set(BY_COLUMN) < set(MEASURES)
    assert {TripMonth.of_iso(*month).color for month in COLLAPSES} == {"yellow", "fhv"}
