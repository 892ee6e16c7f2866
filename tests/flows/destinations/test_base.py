"""The words that destinations share: ledger rows, counts that must agree, columns a table lacks."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest
from support.recording import Recording

from flows.destinations import Load
from flows.destinations.base import columns_to_add, reconcile
from flows.errors import DestinationBusy, ReconciliationError, SchemaDrift
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.destinations import Months

JANUARY = TripMonth("yellow", 2021, 1)
SAME_DATA = {"source_sha256", "schema_version", "row_transforms", "row_count"}


def test_a_load_says_what_was_staged(months: Months) -> None:
    staged = replace(months.trips(JANUARY), row_transforms=("one", "two"), rejected_rows=3, source_rows=53)
    load = Load.of(staged)
    assert (load.dataset, load.file_month) == ("yellow", JANUARY.first_day)
    assert (load.source_rows, load.rejected_rows, load.row_count) == (53, 3, 50)
    assert load.row_transforms == "one,two"
    assert (load.source, load.source_sha256) == (staged.source, staged.source_sha256)


@pytest.mark.parametrize("name", [field.name for field in fields(Load)])
def test_what_makes_the_same_data(months: Months, name: str) -> None:
    load = Load.of(months.trips(JANUARY))
    assert load.is_same_data(replace(load, **{name: "other"})) is (name not in SAME_DATA)


@pytest.mark.parametrize("name", [field.name for field in fields(Load)])
def test_what_a_month_was_loaded_from(months: Months, name: str) -> None:
    staged = replace(months.trips(JANUARY), row_transforms=("one", "two"))
    origin = (staged.source_sha256, staged.schema_version, staged.row_transforms)
    load = Load.of(staged)
    assert load.is_of(*origin)
    assert not load.is_of(None, *origin[1:])
    assert replace(load, **{name: "other"}).is_of(*origin) is (name not in SAME_DATA - {"row_count"})


def test_equal_counts_pass() -> None:
    reconcile("somewhere", 1_000, 1_000)


@pytest.mark.parametrize("counted", [0, 999, 1_001])
def test_other_counts_do_not(counted: int) -> None:
    with pytest.raises(ReconciliationError) as error:
        reconcile("somewhere", 1_000, counted)
    assert "1,000 rows staged" in error.value.message
    assert f"{counted:,} counted in somewhere" in error.value.message


def test_columns_to_add_are_those_that_are_lacking() -> None:
    have = {"file_month": "DATE", "extra": "DOUBLE", "theirs": "BLOB"}
    assert columns_to_add("t", have, {"extra": "DOUBLE", "new": "TEXT", "file_month": "DATE"}) == {
        "new": "TEXT"
    }


def test_every_column_of_another_type_is_named() -> None:
    have = {"file_month": "TEXT", "extra": "FLOAT", "fare": "DOUBLE"}
    with pytest.raises(SchemaDrift) as error:
        columns_to_add("t", have, {"extra": "DOUBLE", "fare": "DOUBLE", "file_month": "DATE", "new": "TEXT"})
    assert "table t exists in another shape" in error.value.message
    assert "extra is FLOAT, not DOUBLE; file_month is TEXT, not DATE" in error.value.message
    assert "fare" not in error.value.message


def test_everything_that_differs_is_named_and_what_to_do_about_it() -> None:
    have = {"file_month": "DATE", "extra": "DOUBLE", "theirs": "BLOB"}
    with pytest.raises(SchemaDrift) as error:
        columns_to_add(
            "t",
            have,
            {"extra": "TEXT", "file_month": "DATE"},
            required=["theirs", "file_month"],
            differences=["it is not partitioned"],
            advice="Drop it",
        )
    assert error.value.message == (
        "table t exists in another shape: it is not partitioned; extra is DOUBLE, not TEXT; "
        "theirs takes no null, and the file does not have it. Drop it"
    )


def test_a_table_without_the_month_is_not_ours() -> None:
    with pytest.raises(SchemaDrift, match="no column file_month"):
        columns_to_add("t", {"extra": "DOUBLE"}, {"extra": "DOUBLE", "file_month": "DATE"})


def test_recording_fails_as_told_and_then_behaves(months: Months) -> None:
    staged, recording = months.trips(JANUARY), Recording("elsewhere")
    recording.failures = [DestinationBusy("later"), SchemaDrift("never")]
    for error in (DestinationBusy, SchemaDrift):
        with pytest.raises(error):
            recording.publish(staged)
    assert recording.loaded(JANUARY) is None
    assert recording.publish(staged).destination == "elsewhere"
    assert recording.calls == [staged] * 3


def test_recording_loses_rows_as_told(months: Months) -> None:
    recording = Recording()
    recording.lost_rows = 1
    with pytest.raises(ReconciliationError, match="50 rows staged, 49 counted in recording"):
        recording.publish(months.trips(JANUARY))
    assert recording.ledger == {}
