"""From text to types, from a file's columns to the declared ones, and the named row transforms."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import polars as pl
import pytest

from transforms.cleaning import conform, csv_schema, parse_text
from transforms.datasets import DATASETS, FHVHV, YELLOW
from transforms.row_transforms import ROW_TRANSFORMS, RowTransform, apply_row_transforms

if TYPE_CHECKING:
    import pandas as pd

    from transforms.dataset import Dataset

PASSENGERS = [0, 1, None, 6, 0, None, 2]
MONTH = dt.date(2019, 2, 1)
MATCH = FHVHV.match_header(["surge", "SR_Flag", "pickup_datetime", "trip_miles"], allow_new=True)


timestamp = dt.datetime.fromisoformat


def trips() -> tuple[pl.LazyFrame, pd.DataFrame]:
    ours = pl.LazyFrame({"row": range(len(PASSENGERS)), "passenger_count": PASSENGERS})
    return ours, ours.collect().to_pandas()


def test_drop_zero_passengers_is_the_tutorials_filter() -> None:
    ours, df = trips()
    expected = df[df["passenger_count"] != 0]
    kept = apply_row_transforms(ours, ["drop-zero-passengers"]).collect()
    assert kept["row"].to_list() == expected["row"].to_list() == [1, 2, 3, 5, 6]
    assert kept["passenger_count"].to_list() == [1, None, 6, None, 2]


def test_fill_missing_passengers_is_the_tutorials_fillna() -> None:
    ours, df = trips()
    expected = df["passenger_count"].fillna(0)
    filled = apply_row_transforms(ours, ["fill-missing-passengers"]).collect()
    assert filled["passenger_count"].to_list() == expected.to_list() == [0, 1, 0, 6, 0, 0, 2]


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["fill-missing-passengers", "drop-zero-passengers"], [1, 3, 6]),
        (["drop-zero-passengers", "fill-missing-passengers"], [1, 2, 3, 5, 6]),
    ],
)
def test_row_transforms_are_applied_in_the_given_order(names: list[str], kept: list[int]) -> None:
    ours, _ = trips()
    assert apply_row_transforms(ours, names).collect()["row"].to_list() == kept


def test_an_unknown_row_transform_is_an_error() -> None:
    ours, _ = trips()
    with pytest.raises(KeyError):
        apply_row_transforms(ours, ["drop-everything"])


@pytest.mark.parametrize("transform", ROW_TRANSFORMS.values(), ids=list(ROW_TRANSFORMS))
def test_a_row_transform_is_lazy_documented_and_keeps_the_columns(transform: RowTransform) -> None:
    ours, _ = trips()
    changed = transform(ours)
    assert isinstance(changed, pl.LazyFrame)
    assert changed.collect_schema() == ours.collect_schema()
    assert transform.__doc__


def test_timestamps_and_new_columns_are_read_as_text() -> None:
    schema = csv_schema(FHVHV, MATCH)
    assert schema == {
        "surge": pl.String(),
        "SR_Flag": pl.Int64(),
        "pickup_datetime": pl.String(),
        "trip_miles": pl.Float64(),
    }
    assert list(schema) == list(MATCH.columns)
    assert csv_schema(FHVHV, MATCH, integers_as_text=True) == {**schema, "SR_Flag": pl.String()}


def text(**columns: list[str | None]) -> pl.LazyFrame:
    empty = dict.fromkeys(MATCH.columns, [None] * len(next(iter(columns.values()))))
    return pl.LazyFrame({**empty, **columns}, schema_overrides={"trip_miles": pl.Float64}).cast(
        {"surge": pl.String, "SR_Flag": pl.String, "pickup_datetime": pl.String}
    )


@pytest.mark.parametrize("value", ["1", "1.", "1.0", "1.000", "01", None])
def test_whole_numbers_written_with_a_point_are_read(value: str | None) -> None:
    parsed = parse_text(text(SR_Flag=[value]), FHVHV, MATCH).collect()
    assert parsed["SR_Flag"].to_list() == [value and 1]


@pytest.mark.parametrize("value", ["1.5", "1.01", "", ".", ".0", "1e3", "x", "1.0.0", "9223372036854775808"])
def test_what_is_no_whole_number_raises(value: str) -> None:
    with pytest.raises(pl.exceptions.PolarsError):
        parse_text(text(SR_Flag=[value]), FHVHV, MATCH).collect()


def test_a_timestamp_is_read_to_the_second_and_stays_null_if_it_is() -> None:
    parsed = parse_text(text(pickup_datetime=["2019-02-01 23:59:59", None]), FHVHV, MATCH).collect()
    assert parsed.schema["pickup_datetime"] == pl.Datetime("us")
    assert parsed["pickup_datetime"].to_list() == [timestamp("2019-02-01 23:59:59"), None]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "19-02-01 00:00:00",
        "2019-02-01",
        "2019-02-0100:00:00",
        "2019-02-01 00:00:00.5",
        "2019-02-01T00:00:00",
        "2019-02-30 00:00:00",
        "2019-02-01 24:00:00",
        "12019-02-01 00:00:00",
        "-2019-02-01 00:00:00",
        "02/01/2019 00:00:00",
    ],
)
def test_another_timestamp_raises_instead_of_becoming_something(value: str) -> None:
    with pytest.raises(pl.exceptions.PolarsError):
        parse_text(text(pickup_datetime=["2019-02-01 00:00:00", value]), FHVHV, MATCH).collect()


def test_fractional_seconds_are_read_if_asked_for() -> None:
    values = ["2019-02-01 00:00:00", "2019-02-01 00:00:00.000001", "2019-02-01 00:00:00.5"]
    parsed = parse_text(text(pickup_datetime=values), FHVHV, MATCH, fractional_seconds=True).collect()
    assert [read.microsecond for read in parsed["pickup_datetime"]] == [0, 1, 500_000]


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))
def test_conform_gives_the_declared_columns_whatever_the_file_has(dataset: Dataset) -> None:
    match = dataset.match_header([dataset.pickup])
    pickup = timestamp("2019-02-03")
    frame = pl.LazyFrame({dataset.pickup: [pickup]}, schema={dataset.pickup: pl.Datetime("ms")})
    conformed = conform(frame, dataset, match, MONTH).collect()
    assert conformed.schema == {name: kind.polars for name, kind in dataset.types().items()}
    filled = dict.fromkeys(dataset.column) | {dataset.pickup: pickup, "file_month": MONTH}
    assert conformed.to_dicts() == [filled]


def test_conform_puts_new_columns_behind_the_declared_ones_as_text() -> None:
    match = YELLOW.match_header(["b", "tpep_pickup_datetime", "a"], allow_new=True)
    frame = pl.LazyFrame({"b": [1.5], "tpep_pickup_datetime": [timestamp("2019-02-03")], "a": [None]})
    conformed = conform(frame, YELLOW, match, MONTH).collect()
    assert conformed.columns[-3:] == ["b", "a", "file_month"]
    assert conformed.select("b", "a").rows() == [("1.5", None)]
    assert conformed.select("b", "a").dtypes == [pl.String(), pl.String()]
