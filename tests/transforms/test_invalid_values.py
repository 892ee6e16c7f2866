"""What is not called invalid converts without loss, whatever type the file has."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from transforms.column import Column, ColumnType
from transforms.dataset import ColumnsDiffer
from transforms.invalid_values import check_types, has_invalid_value, invalid_value_reason, row_as_json

timestamp = dt.datetime.fromisoformat
NUMBERS: list[Any] = [0, 1, -1, 127, 128, 255, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, None]
FLOATS: list[Any] = [0.0, -0.0, 0.5, 1.0, 2.0**53, 2.0**63, -(2.0**63), 1e30, float("inf"), None]
TEXTS: list[Any] = ["", "0", "1", "1.5", "1e400", "nan", "x", " 1", "9223372036854775808", "a\0b", None]
TIMESTAMPS: list[Any] = [
    timestamp("1900-01-01"),
    timestamp("2019-01-01 23:59:59"),
    timestamp("2200-01-01"),
    None,
]
VALUES: dict[pl.DataType, list[Any]] = {
    pl.Int8(): NUMBERS,
    pl.Int32(): NUMBERS,
    pl.Int64(): NUMBERS,
    pl.UInt8(): NUMBERS,
    pl.UInt32(): NUMBERS,
    pl.UInt64(): NUMBERS,
    pl.Float32(): [*FLOATS, float("nan")],
    pl.Float64(): [*FLOATS, float("nan")],
    pl.Decimal(30, 2): [Decimal("1.00"), Decimal("1.50"), Decimal(10**25), None],
    pl.Boolean(): [True, False, None],
    pl.String(): TEXTS,
    pl.Categorical(): TEXTS,
    pl.Datetime("ms"): TIMESTAMPS,
    pl.Datetime("us"): TIMESTAMPS,
    pl.Datetime("ns"): TIMESTAMPS,
    pl.Null(): [None],
}
PAIRS = [(dtype, kind) for dtype in VALUES for kind in ColumnType if kind is not ColumnType.DATE]


def frame_of(dtype: pl.DataType) -> pl.DataFrame:
    """The values that the type can hold."""
    values = VALUES[dtype]
    if dtype.is_integer():
        held = pl.Series(values, dtype=pl.Int128).cast(dtype, strict=False).is_not_null()
        values = [value for value, fits in zip(values, held, strict=True) if fits or value is None]
    return pl.DataFrame({"x": values}, schema={"x": dtype})


@pytest.mark.parametrize(("dtype", "kind"), PAIRS, ids=str)
def test_what_is_not_invalid_converts_without_loss(dtype: pl.DataType, kind: ColumnType) -> None:
    columns = (Column("x", kind, "under test"),)
    frame = frame_of(dtype)
    try:
        check_types(frame.schema, columns)
    except ColumnsDiffer:
        assert kind is ColumnType.TIMESTAMP or dtype.is_temporal() or dtype == pl.Categorical()
        return
    kept = frame.filter(~has_invalid_value(frame.schema, columns))
    converted = kept["x"].cast(kind.polars, strict=True)
    assert converted.is_null().to_list() == kept["x"].is_null().to_list()
    if kind is ColumnType.FLOAT:
        assert converted.is_finite().all(ignore_nulls=True)
    if kind is ColumnType.INTEGER:
        values = [int(value) if isinstance(value, str) else value for value in kept["x"]]
        assert converted.to_list() == values
    if kind is ColumnType.TEXT:
        assert not any("\0" in text for text in converted.drop_nulls())
    if not dtype.is_temporal():
        assert len(kept) >= 1, "not everything is invalid"


@pytest.mark.parametrize("dtype", [pl.Int64(), pl.Int32(), pl.UInt32(), pl.Null()], ids=str)
def test_nothing_is_computed_for_a_type_that_always_fits(dtype: pl.DataType) -> None:
    expression = has_invalid_value(pl.Schema({"x": dtype}), (Column("x", ColumnType.INTEGER, "zone"),))
    assert "x" not in expression.meta.root_names()


def test_every_reason_of_a_row_is_named_and_a_good_row_has_none() -> None:
    columns = (
        Column("pickup", ColumnType.TIMESTAMP, "when", required=True),
        Column("fare", ColumnType.FLOAT, "Fare", unit="USD"),
        Column("zone", ColumnType.INTEGER, "where"),
    )
    frame = pl.DataFrame(
        {
            "pickup": [timestamp("2019-01-01"), None],
            "fare": [1.5, float("inf")],
            "zone": [1.0, 1.5],
        }
    )
    assert frame.select(has_invalid_value(frame.schema, columns)).to_series().to_list() == [False, True]
    reasons = frame.select(invalid_value_reason(frame.schema, columns)).to_series().to_list()
    assert reasons == [
        "",
        "pickup: is empty and must not be; fare: no float value; zone: no integer value",
    ]
    assert frame.select(row_as_json(frame.schema)).to_series().to_list() == [
        '{"pickup":"2019-01-01 00:00:00.000000","fare":"1.5","zone":"1.0"}',
        '{"pickup":null,"fare":"inf","zone":"1.5"}',
    ]


def test_wrong_types_are_named_all_at_once() -> None:
    columns = (Column("a", ColumnType.TIMESTAMP, "when"), Column("b", ColumnType.TEXT, "what"))
    schema = pl.Schema({"a": pl.Datetime("us", "UTC"), "b": pl.List(pl.String())})
    with pytest.raises(ColumnsDiffer) as refused:
        check_types(schema, columns)
    assert "a is Datetime(time_unit='us', time_zone='UTC'), which cannot become timestamp" in str(
        refused.value
    )
    assert "b is List" in str(refused.value)
