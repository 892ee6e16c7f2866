"""Matching a file's header: by spelling, never by position, and nothing dropped in silence."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from transforms.dataset import ColumnsDiffer, Dataset
from transforms.datasets import DATASETS, FHV, FHVHV, GREEN, YELLOW

if TYPE_CHECKING:
    from collections.abc import Callable

each_dataset = pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))
PICKUP = "tpep_pickup_datetime"


@each_dataset
def test_its_own_header_matches_completely(dataset: Dataset) -> None:
    match = dataset.match_header(list(dataset.column))
    assert match.columns == tuple(dataset.column)
    assert (match.missing, match.new) == ((), ())


@pytest.mark.parametrize(
    "written",
    [
        str.upper,
        str.lower,
        lambda name: f'"{name}"',
        lambda name: f"  {name} ",
        lambda name: f' "{name.swapcase()} " ',
        lambda name: f"{name}\r",
    ],
    ids=["upper", "lower", "quoted", "blanks", "all of it", "carriage return"],
)
@each_dataset
def test_case_blanks_and_quotes_do_not_count(dataset: Dataset, written: Callable[[str], str]) -> None:
    assert dataset.match_header([written(name) for name in dataset.column]).columns == tuple(dataset.column)


@each_dataset
def test_columns_in_another_order_keep_the_order_of_the_file(dataset: Dataset) -> None:
    shuffled = random.Random(1).sample(list(dataset.column), len(dataset.column))
    match = dataset.match_header(shuffled)
    assert match.columns == tuple(shuffled)
    assert (match.missing, match.new) == ((), ())


@pytest.mark.parametrize(
    ("dataset", "spelling", "name"),
    [
        (YELLOW, "Airport_fee", "airport_fee"),
        (FHV, "dropOff_datetime", "dropoff_datetime"),
        (FHV, "PUlocationID", "PULocationID"),
        (FHV, "DOlocationID", "DOLocationID"),
        (FHV, "Pickup_date", "pickup_datetime"),
        (FHV, "locationid", "PULocationID"),
        (FHVHV, "SR_FLAG", "SR_Flag"),
        (GREEN, "Ehail_Fee", "ehail_fee"),
    ],
)
def test_spellings_of_other_years_are_folded(dataset: Dataset, spelling: str, name: str) -> None:
    header = [spelling if column == name else column for column in dataset.column]
    assert dataset.match_header(header).columns == tuple(dataset.column)


@each_dataset
def test_what_is_missing_is_said_in_the_declared_order(dataset: Dataset) -> None:
    match = dataset.match_header([dataset.pickup])
    assert match.missing == tuple(name for name in dataset.column if name != dataset.pickup)


@each_dataset
def test_a_missing_required_column_is_refused(dataset: Dataset) -> None:
    header = [name for name in dataset.column if name != dataset.pickup]
    with pytest.raises(ColumnsDiffer, match=f"required columns are missing: {dataset.pickup}"):
        dataset.match_header(header)


@pytest.mark.parametrize("twin", ["VendorID", "vendorid", ' "VendorID" '])
@pytest.mark.parametrize("allow_new", [False, True])
def test_a_column_named_twice_is_refused(twin: str, *, allow_new: bool) -> None:
    with pytest.raises(ColumnsDiffer, match="names a column twice: vendorid"):
        YELLOW.match_header(["VendorID", PICKUP, twin], allow_new=allow_new)


def test_two_spellings_of_one_column_are_the_same_column() -> None:
    with pytest.raises(ColumnsDiffer, match="twice: pulocationid"):
        FHV.match_header(["pickup_datetime", "PULocationID", "locationID"])


def test_two_new_columns_that_differ_in_case_alone_are_refused() -> None:
    """No warehouse could tell them apart."""
    with pytest.raises(ColumnsDiffer, match="twice: surge"):
        YELLOW.match_header([PICKUP, "surge", "Surge"], allow_new=True)


def test_undeclared_columns_are_refused_all_at_once_and_the_way_on_is_said() -> None:
    with pytest.raises(ColumnsDiffer) as refused:
        YELLOW.match_header([PICKUP, "surge", "Tip2"])
    assert "surge, Tip2" in str(refused.value)
    assert "--allow-new-columns" in str(refused.value)
    assert "transforms/datasets/yellow.py" in str(refused.value)


def test_undeclared_columns_are_carried_along_if_asked_for() -> None:
    match = YELLOW.match_header(["surge", PICKUP, ' "Tip2 " '], allow_new=True)
    assert match.columns == ("surge", PICKUP, "Tip2")
    assert match.new == ("surge", "Tip2")


@pytest.mark.parametrize("name", ["", " ", '""', "file_month", "FILE_MONTH", " file_month "])
@pytest.mark.parametrize("allow_new", [False, True])
def test_empty_and_reserved_names_are_refused(name: str, *, allow_new: bool) -> None:
    with pytest.raises(ColumnsDiffer, match="empty name or one that is reserved"):
        YELLOW.match_header([PICKUP, name], allow_new=allow_new)


@pytest.mark.parametrize(
    "header",
    [[], [""], ["1", "2019-01-01 00:46:40", "1.5"], ["<html>"], ["a;b;c"]],
    ids=["nothing", "blank", "a row", "a page", "semicolons"],
)
@each_dataset
def test_a_first_line_that_is_no_header_is_told_as_such(dataset: Dataset, header: list[str]) -> None:
    with pytest.raises(ColumnsDiffer, match=f"no {dataset.name} column name in it"):
        dataset.match_header(header, allow_new=True)


def test_a_long_wrong_header_is_shortened() -> None:
    with pytest.raises(ColumnsDiffer) as refused:
        YELLOW.match_header(["x" * 5000])
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("wrong", ["green", "fhv", "fhvhv"])
def test_a_file_of_another_dataset_is_refused(wrong: str) -> None:
    with pytest.raises(ColumnsDiffer):
        YELLOW.match_header(list(DATASETS[wrong].column), allow_new=True)
