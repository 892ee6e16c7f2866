"""Staging the TLC's own Parquet files, whose types have changed from year to year."""

from __future__ import annotations

import datetime as dt
import json
import random
import zoneinfo
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.errors import ReconciliationError, SchemaDrift, SourceCorrupt, TooManyRejects
from flows.staging import parquet_reader as parquet_source
from flows.staging import stage_file as staging
from transforms.dataset import FILE_MONTH
from transforms.datasets import DATASETS
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Workbench

    from flows.staging import StagedMonth

YELLOW = TripMonth("yellow", 2025, 1)
GREEN = TripMonth("green", 2025, 1)
PICKUP = "tpep_pickup_datetime"
ROWS = 300
at = dt.datetime.fromisoformat


def trips(month: TripMonth, rows: int = ROWS) -> pa.Table:
    """Every declared column, with values to the second, and a tenth of nulls where they are allowed."""
    randoms = random.Random(month.label)
    start = at(month.first_day.isoformat())
    makers: dict[pa.DataType, Callable[[], Any]] = {
        pa.int64(): lambda: randoms.randint(0, 100),
        pa.float64(): lambda: randoms.randint(-500, 10_000) / 100,
        pa.string(): lambda: randoms.choice(["Y", "N", "é", " "]),
        pa.timestamp("us"): lambda: start + dt.timedelta(seconds=randoms.randint(0, 2_000_000)),
    }
    schema = pa.schema(field for field in month.dataset.arrow_schema() if field.name != FILE_MONTH)
    columns = {
        field.name: [
            None
            if not month.dataset.column[field.name].required and randoms.random() < 0.1
            else makers[field.type]()
            for _ in range(rows)
        ]
        for field in schema
    }
    return pa.table(columns, schema=schema)


def with_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    if name not in table.column_names:
        return table.append_column(name, values)
    return table.set_column(table.column_names.index(name), name, values)


def with_types(table: pa.Table, **types: pa.DataType) -> pa.Table:
    for name, dtype in types.items():
        table = with_column(table, name, table[name].cast(dtype))
    return table


def with_value(table: pa.Table, row: int, **values: object) -> pa.Table:
    """Change a row, counted from 1 as the rejects do."""
    for name, value in values.items():
        column = table[name].to_pylist()
        column[row - 1] = value
        table = with_column(table, name, pa.array(column, table[name].type))
    return table


def loaded(staged: StagedMonth) -> pa.Table:
    """The staged file without what is ours."""
    return pq.read_table(staged.path).drop_columns([FILE_MONTH]).replace_schema_metadata(None)


def rejects(staged: StagedMonth) -> list[tuple[int, str, str]]:
    return pl.read_parquet(staged.rejects_path).rows() if staged.rejects_path else []


# What is in order


@pytest.mark.parametrize("color", DATASETS)
def test_every_dataset_comes_out_as_it_went_in(color: str, bench: Workbench) -> None:
    month = TripMonth(color, 2025, 1)
    table = trips(month)
    landed = bench.land(bench.write_parquet(table, row_group_size=70))
    staged = bench.stage(landed, month)
    assert loaded(staged).equals(table)
    assert (staged.rows, staged.source_rows, staged.rejected_rows, staged.rejects_path) == (
        ROWS,
        ROWS,
        0,
        None,
    )
    months = set(pq.read_table(staged.path)[FILE_MONTH].to_pylist())
    assert months == {dt.date(2025, 1, 1)}
    notes = json.loads(pq.read_metadata(staged.path).metadata[b"taxi_etl"])
    assert (notes["source"], notes["source_sha256"]) == (landed.url, landed.sha256)
    assert (notes["source_rows"], notes["rejected_rows"]) == (ROWS, 0)
    assert bench.stage(landed, month).reused
    assert not bench.stage(landed, month, force=True).reused


@pytest.mark.parametrize("color", DATASETS)
def test_columns_go_by_name_whatever_their_order_and_spelling(color: str, bench: Workbench) -> None:
    month = TripMonth(color, 2025, 1)
    table = trips(month)
    reordered = table.select(table.column_names[::-1])
    shouted = reordered.rename_columns([name.upper() for name in reordered.column_names])
    assert loaded(bench.stage(bench.write_parquet(shouted), month)).equals(table)


def test_rows_keep_their_order_across_batches(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "BATCH_ROWS", 1000)
    monkeypatch.setattr(parquet_source, "SLICE_ROWS", 1500)
    table = trips(TripMonth("fhv", 2025, 1), rows=10_000)
    table = with_column(table, "PULocationID", pa.array(range(10_000)))
    staged = bench.stage(bench.write_parquet(table, row_group_size=700), TripMonth("fhv", 2025, 1))
    assert loaded(staged).equals(table)


# Types of other years


@pytest.mark.parametrize(
    "types",
    [
        {"VendorID": pa.int32(), "PULocationID": pa.int32(), "DOLocationID": pa.int32()},
        {"VendorID": pa.int8(), "passenger_count": pa.int16(), "payment_type": pa.uint32()},
        {"passenger_count": pa.uint64(), "RatecodeID": pa.uint8(), "VendorID": pa.int64()},
        {"passenger_count": pa.float64(), "RatecodeID": pa.float64(), "PULocationID": pa.float32()},
        {"passenger_count": pa.string(), "RatecodeID": pa.decimal128(21, 2)},
        {"store_and_fwd_flag": pa.large_string()},
        {"store_and_fwd_flag": pa.string_view()},
        {"store_and_fwd_flag": pa.dictionary(pa.int32(), pa.string())},
        {"store_and_fwd_flag": pa.dictionary(pa.int8(), pa.large_string())},
        {"tpep_pickup_datetime": pa.timestamp("s"), "tpep_dropoff_datetime": pa.timestamp("ms")},
        {"tpep_pickup_datetime": pa.timestamp("ns"), "tpep_dropoff_datetime": pa.timestamp("ns")},
        {"fare_amount": pa.decimal128(21, 2), "extra": pa.string()},
    ],
    ids=lambda types: ",".join(str(dtype) for dtype in types.values()),
)
def test_values_are_the_same_whatever_type_they_were_written_in(
    types: dict[str, pa.DataType], bench: Workbench
) -> None:
    table = trips(YELLOW)
    other = with_types(table, **types)
    assert other.schema != table.schema
    staged = bench.stage(bench.write_parquet(other), YELLOW)
    assert loaded(staged).equals(table)
    assert staged.rejected_rows == 0


def test_whole_amounts_written_as_integers_are_read(bench: Workbench) -> None:
    table = with_column(trips(YELLOW), "airport_fee", pa.array(range(ROWS), pa.int32()))
    staged = bench.stage(bench.write_parquet(table), YELLOW)
    assert loaded(staged)["airport_fee"].to_pylist() == [float(number) for number in range(ROWS)]


@pytest.mark.parametrize("options", [{"version": "1.0"}, {"use_deprecated_int96_timestamps": True}])
def test_timestamps_of_old_writers(options: dict[str, Any], bench: Workbench) -> None:
    table = trips(YELLOW)
    staged = bench.stage(bench.write_parquet(table, store_schema=False, **options), YELLOW)
    assert loaded(staged).equals(table)


def test_a_column_without_any_value_is_null(bench: Workbench) -> None:
    table = with_column(trips(GREEN), "ehail_fee", pa.nulls(ROWS))
    assert table.schema.field("ehail_fee").type == pa.null()
    staged = bench.stage(bench.write_parquet(table), GREEN)
    assert loaded(staged)["ehail_fee"].null_count == ROWS
    assert loaded(staged).schema.field("ehail_fee").type == pa.float64()


@pytest.mark.parametrize(("month", "spelling"), [(2022, "airport_fee"), (2023, "Airport_fee")])
def test_both_spellings_of_the_airport_fee(month: int, spelling: str, bench: Workbench) -> None:
    table = trips(YELLOW)
    names = [spelling if name == "airport_fee" else name for name in table.column_names]
    staged = bench.stage(bench.write_parquet(table.rename_columns(names)), TripMonth("yellow", month, 1))
    assert loaded(staged).equals(table)


@pytest.mark.parametrize("month", [YELLOW, GREEN], ids=lambda month: month.color)
def test_files_from_before_a_fee_have_null_and_say_so(month: TripMonth, bench: Workbench) -> None:
    table = trips(month).drop_columns(["cbd_congestion_fee"])
    staged = bench.stage(bench.write_parquet(table), replace(month, year=2024))
    assert staged.missing_columns == ("cbd_congestion_fee",)
    assert loaded(staged)["cbd_congestion_fee"].null_count == ROWS
    assert loaded(staged).drop_columns(["cbd_congestion_fee"]).equals(table)


def test_nanoseconds_are_cut_to_microseconds(bench: Workbench) -> None:
    nanoseconds = pa.array([1_735_689_600_123_456_789] * ROWS, pa.timestamp("ns"))
    staged = bench.stage(bench.write_parquet(with_column(trips(YELLOW), PICKUP, nanoseconds)), YELLOW)
    assert set(loaded(staged)[PICKUP].to_pylist()) == {at("2025-01-01 00:00:00.123456")}


# Rows that do not fit


@pytest.mark.parametrize(
    ("dtype", "values", "reason", "raw"),
    [
        (
            pa.float64(),
            {"passenger_count": 1.5},
            "passenger_count: no integer value",
            '"passenger_count":"1.5"',
        ),
        (pa.float64(), {"RatecodeID": float("nan")}, "RatecodeID: no integer value", '"RatecodeID":"NaN"'),
        (pa.float64(), {"RatecodeID": float("inf")}, "RatecodeID: no integer value", '"RatecodeID":"inf"'),
        (pa.float64(), {"RatecodeID": 2.0**63}, "RatecodeID: no integer value", '"RatecodeID":"9.2'),
        (pa.float32(), {"RatecodeID": 0.1}, "RatecodeID: no integer value", '"RatecodeID":"0.1'),
        (pa.uint64(), {"RatecodeID": 2**63}, "RatecodeID: no integer value", f'"{2**63}"'),
        (pa.string(), {"RatecodeID": "one"}, "RatecodeID: no integer value", '"RatecodeID":"one"'),
        (pa.decimal128(20, 1), {"RatecodeID": Decimal("1.5")}, "RatecodeID: no integer value", '"1.5"'),
        (None, {"fare_amount": float("inf")}, "fare_amount: no float value", '"fare_amount":"inf"'),
        (None, {"fare_amount": float("-inf")}, "fare_amount: no float value", '"fare_amount":"-inf"'),
        (None, {"tip_amount": float("nan")}, "tip_amount: no float value", '"tip_amount":"NaN"'),
        (pa.string(), {"extra": "1e309"}, "extra: no float value", '"extra":"1e309"'),
        (pa.string(), {"extra": "free"}, "extra: no float value", '"extra":"free"'),
        (None, {PICKUP: None}, f"{PICKUP}: is empty and must not be", f'"{PICKUP}":null'),
        (None, {"store_and_fwd_flag": "a\0b"}, "store_and_fwd_flag: no text value", '"a\\u0000b"'),
        (
            pa.dictionary(pa.int8(), pa.string()),
            {"store_and_fwd_flag": "\0"},
            "store_and_fwd_flag: ",
            '"\\u0000"',
        ),
        (
            None,
            {PICKUP: None, "fare_amount": float("inf")},
            f"{PICKUP}: is empty and must not be; fare_amount: no float value",
            '"fare_amount":"inf"',
        ),
    ],
)
def test_a_row_that_does_not_fit_is_rejected_with_its_number_its_text_and_the_reason(
    dtype: pa.DataType | None, values: dict[str, object], reason: str, raw: str, bench: Workbench
) -> None:
    table = trips(YELLOW)
    typed = with_types(table, **dict.fromkeys(values, dtype)) if dtype else table
    staged = bench.stage(bench.write_parquet(with_value(typed, 200, **values), row_group_size=64), YELLOW)
    ((row, text, why),) = rejects(staged)
    assert row == 200
    assert why.startswith(reason)
    assert raw in text
    assert (
        json.loads(text)["tpep_dropoff_datetime"] == f"{table['tpep_dropoff_datetime'][199].as_py()}.000000"
    )
    assert (staged.source_rows, staged.rows, staged.rejected_rows) == (ROWS, ROWS - 1, 1)
    assert loaded(staged).equals(pa.concat_tables([table.slice(0, 199), table.slice(200)]))


def microseconds(year: int) -> int:
    """Since 1970, of a year that Python may not have; a year has 365.2425 days here."""
    return int((year - 1970) * 365.2425 * 86_400_000_000)


@pytest.mark.parametrize("unit", ["ms", "us"])
@pytest.mark.parametrize("year", [-290_000, -1, 0, 10_001, 290_000])
def test_years_that_no_destination_holds_are_rejected(year: int, unit: str, bench: Workbench) -> None:
    table = trips(YELLOW)
    numbers = table[PICKUP].cast(pa.int64()).to_pylist()
    numbers[2] = microseconds(year)
    if unit == "ms":
        numbers = [number // 1000 for number in numbers]
    far = with_column(table, PICKUP, pa.array(numbers, pa.timestamp(unit)))
    staged = bench.stage(bench.write_parquet(far), YELLOW)
    ((row, text, reason),) = rejects(staged)
    assert (row, reason) == (3, f"{PICKUP}: no timestamp value")
    assert json.loads(text)[PICKUP] == str(numbers[2]), "a number, as nobody can write down such a year"
    assert staged.rows == ROWS - 1


@pytest.mark.parametrize("timestamp", ["0001-01-01 00:00:00", "1900-01-01 00:00:00", "2098-09-11 02:23:31"])
@pytest.mark.parametrize("unit", ["ms", "us"])
def test_pick_ups_far_away_are_odd_but_fit(timestamp: str, unit: str, bench: Workbench) -> None:
    table = with_value(trips(YELLOW), 3, **{PICKUP: at(timestamp)})
    staged = bench.stage(bench.write_parquet(with_types(table, **{PICKUP: pa.timestamp(unit)})), YELLOW)
    assert loaded(staged).equals(table)


def test_the_last_moment_fits(bench: Workbench) -> None:
    table = with_value(trips(YELLOW), 3, **{PICKUP: at("9999-12-31 23:59:59.999999")})
    assert loaded(bench.stage(bench.write_parquet(table), YELLOW)).equals(table)


@pytest.mark.parametrize("bad", [4, ROWS])
def test_beyond_the_limit_the_month_fails_and_what_was_staged_stays(bad: int, bench: Workbench) -> None:
    table = trips(YELLOW)
    bench.stage(bench.write_parquet(with_value(table, 7, fare_amount=float("inf"))), YELLOW)
    before = bench.files()
    for row in range(1, bad + 1):
        table = with_value(table, row, fare_amount=float("inf")) if row <= 4 else table
    if bad == ROWS:
        table = with_column(table, "fare_amount", pa.array([float("inf")] * ROWS))
    with pytest.raises(TooManyRejects, match=r"more than the allowed 3 rows do not fit.*line 1: fare"):
        bench.stage(bench.write_parquet(table), YELLOW)
    assert bench.files() == before
    assert len(before) == 2


@pytest.mark.parametrize("slice_rows", [7, 100, ROWS, 2**18])
def test_the_limit_is_the_last_number_that_is_allowed(
    slice_rows: int, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_source, "SLICE_ROWS", slice_rows)
    table = trips(YELLOW)
    for row in (1, 100, 300):
        table = with_value(table, row, fare_amount=float("inf"))
    staged = bench.stage(bench.write_parquet(table), YELLOW)
    assert [row for row, _, _ in rejects(staged)] == [1, 100, 300]
    assert loaded(staged).equals(pa.concat_tables([table.slice(1, 98), table.slice(100, 199)]))
    with pytest.raises(TooManyRejects):
        bench.stage(bench.write_parquet(with_value(table, 299, fare_amount=float("inf"))), YELLOW)


def test_a_file_without_a_good_row_is_refused_whatever_the_limit(bench: Workbench) -> None:
    table = with_column(trips(YELLOW), "fare_amount", pa.array([float("inf")] * ROWS))
    with pytest.raises(TooManyRejects):
        bench.stage(bench.write_parquet(table), YELLOW, max_reject_ratio=1)
    assert bench.files() == {}


def test_a_file_without_rows_is_refused(bench: Workbench) -> None:
    with pytest.raises(TooManyRejects, match="no rows"):
        bench.stage(bench.write_parquet(trips(YELLOW).slice(0, 0)), YELLOW)


# Columns that do not fit


NEW_YORK = zoneinfo.ZoneInfo("America/New_York")


def test_timestamps_in_new_yorks_zone_are_its_local_time(bench: Workbench) -> None:
    """Instants around both changes of the clock: the hour that is there twice comes out twice."""
    instants = [
        dt.datetime(2025, *start, tzinfo=dt.UTC) + dt.timedelta(minutes=30 * number)
        for start in ((3, 9, 5), (11, 2, 4))
        for number in range(ROWS // 2)
    ]
    zoned = pa.array(instants, pa.timestamp("us", "America/New_York"))
    staged = bench.stage(bench.write_parquet(with_column(trips(YELLOW), PICKUP, zoned)), YELLOW)
    local = [instant.astimezone(NEW_YORK).replace(tzinfo=None) for instant in instants]
    assert loaded(staged)[PICKUP].to_pylist() == local
    assert len(set(local)) < len(local)
    assert staged.rejected_rows == 0


@pytest.mark.parametrize("zone", ["UTC", "+00:00", "Europe/Berlin"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_timestamps_in_another_zone_are_refused_because_nobody_knows_what_they_mean(
    zone: str, unit: str, bench: Workbench
) -> None:
    table = with_types(trips(YELLOW), **{PICKUP: pa.timestamp(unit, zone)})
    with pytest.raises(SchemaDrift) as refused:
        bench.stage(bench.write_parquet(table), YELLOW)
    message = str(refused.value)
    assert PICKUP in message
    assert "New York local time without a zone" in message
    assert "(file source-0)" in message
    assert bench.files() == {}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (PICKUP, pa.array(range(ROWS), pa.int64())),
        (PICKUP, pa.array([dt.date(2025, 1, 1)] * ROWS)),
        ("VendorID", pa.array([at("2025-01-01")] * ROWS)),
        ("VendorID", pa.array([dt.time(1)] * ROWS)),
        ("fare_amount", pa.array([dt.timedelta(1)] * ROWS)),
        ("fare_amount", pa.array([[1.5]] * ROWS)),
        ("store_and_fwd_flag", pa.array([b"Y"] * ROWS)),
        ("store_and_fwd_flag", pa.array([{"flag": "Y"}] * ROWS)),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else value,
)
def test_types_that_cannot_become_the_declared_one_are_refused(
    name: str, values: pa.Array, bench: Workbench
) -> None:
    with pytest.raises(SchemaDrift, match=f"{name} is .*, which cannot become "):
        bench.stage(bench.write_parquet(with_column(trips(YELLOW), name, values)), YELLOW)
    assert bench.files() == {}


def test_an_undeclared_column_fails_the_month_and_is_carried_along_if_asked_for(bench: Workbench) -> None:
    table = trips(YELLOW)
    new = {
        "surge": pa.array(range(ROWS), pa.int32()),
        "zoned": pa.array([dt.datetime(2025, 1, 1, tzinfo=dt.UTC)] * ROWS),
        "nothing": pa.nulls(ROWS),
    }
    wider = table
    for name, values in new.items():
        wider = with_column(wider, name, values)
    content = bench.write_parquet(wider)
    with pytest.raises(SchemaDrift, match="does not declare: surge, zoned, nothing; --allow-new-columns"):
        bench.stage(content, YELLOW)
    staged = bench.stage(content, YELLOW, allow_new_columns=True)
    assert staged.new_columns == tuple(new)
    got = loaded(staged)
    assert got.select(table.column_names).equals(table)
    assert got["surge"].to_pylist() == [str(number) for number in range(ROWS)]
    assert set(got["zoned"].to_pylist()) == {"2025-01-01 00:00:00.000000+00:00"}
    assert got["nothing"].null_count == ROWS
    assert {got.schema.field(name).type for name in new} == {pa.string()}


def test_a_new_column_is_checked_like_any_text(bench: Workbench) -> None:
    texts = pa.array(["a"] * (ROWS - 1) + ["\0"])
    staged = bench.stage(
        bench.write_parquet(with_column(trips(YELLOW), "surge", texts)), YELLOW, allow_new_columns=True
    )
    assert [(row, reason) for row, _, reason in rejects(staged)] == [(ROWS, "surge: no text value")]
    with pytest.raises(SchemaDrift, match="surge is List"):
        bench.stage(
            bench.write_parquet(with_column(trips(YELLOW), "surge", pa.array([[1]] * ROWS))),
            YELLOW,
            allow_new_columns=True,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns([PICKUP]), f"required columns are missing: {PICKUP}"),
        (
            lambda table: with_column(table, "Airport_fee", pa.nulls(ROWS)),
            "names a column twice: airport_fee",
        ),
        (lambda table: with_column(table, "file_month", pa.nulls(ROWS)), "reserved"),
        (lambda table: table.rename_columns([f"c{n}" for n in range(table.num_columns)]), "no yellow column"),
    ],
    ids=["missing", "twice", "reserved", "unknown"],
)
def test_wrong_columns_fail_the_month(
    change: Callable[[pa.Table], pa.Table], message: str, bench: Workbench
) -> None:
    with pytest.raises(SchemaDrift, match=message):
        bench.stage(bench.write_parquet(change(trips(YELLOW))), YELLOW, allow_new_columns=True)


# Whole or not at all


def test_row_transforms_apply_to_parquet_sources_too(bench: Workbench) -> None:
    table = trips(YELLOW)
    counts = table["passenger_count"].to_pylist()
    staged = bench.stage(bench.write_parquet(table), YELLOW, row_transforms=("drop-zero-passengers",))
    kept = [count for count in counts if count != 0]
    assert loaded(staged)["passenger_count"].to_pylist() == kept
    assert staged.dropped_rows == ROWS - len(kept)


@pytest.mark.parametrize("more", [-1, 1])
def test_a_footer_that_lies_fails_the_month(more: int, bench: Workbench) -> None:
    landed = bench.land(bench.write_parquet(trips(YELLOW)))
    with pytest.raises(ReconciliationError, match=f"{ROWS + more} rows in the source, {ROWS} read"):
        bench.stage(replace(landed, rows=ROWS + more), YELLOW)
    assert bench.files() == {}


def test_damage_inside_a_file_with_a_whole_footer_is_found(bench: Workbench) -> None:
    content = bytearray(bench.write_parquet(trips(YELLOW), compression="gzip", use_dictionary=False))
    content[100:400] = bytes(300)
    with pytest.raises(SourceCorrupt, match="download it again"):
        bench.stage(bytes(content), YELLOW)
    assert bench.files() == {}
