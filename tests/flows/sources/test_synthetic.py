from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import hashlib
import io
import os
import re
import subprocess
import sys
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.sources import synthetic
from flows.sources.synthetic import BROKEN_KINDS, GENERATOR_VERSION, synthetic_csv
from transforms.dataset import TIMESTAMP_FORMAT, ColumnType
from transforms.datasets import DATASETS, YELLOW

ROWS = 100_000
TAXIS = ("yellow", "green")
TAXI_PARTS = [
    "fare_amount",
    "extra",
    "mta_tax",
    "tip_amount",
    "tolls_amount",
    "improvement_surcharge",
    "congestion_surcharge",
]
METERED = ["VendorID", "passenger_count", "RatecodeID", "store_and_fwd_flag", "payment_type"]
HEADERS = {
    "yellow": (
        "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,"
        "RatecodeID,store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,"
        "mta_tax,tip_amount,tolls_amount,improvement_surcharge,total_amount,congestion_surcharge"
    ),
    "green": (
        "VendorID,lpep_pickup_datetime,lpep_dropoff_datetime,store_and_fwd_flag,RatecodeID,"
        "PULocationID,DOLocationID,passenger_count,trip_distance,fare_amount,extra,mta_tax,"
        "tip_amount,tolls_amount,ehail_fee,improvement_surcharge,total_amount,payment_type,"
        "trip_type,congestion_surcharge"
    ),
    "fhv": (
        "dispatching_base_num,pickup_datetime,dropOff_datetime,PUlocationID,DOlocationID,SR_Flag,"
        "Affiliated_base_number"
    ),
    "fhvhv": (
        "hvfhs_license_num,dispatching_base_num,pickup_datetime,dropoff_datetime,PULocationID,"
        "DOLocationID,SR_Flag"
    ),
}
NULLABLE_INTEGERS = {
    "yellow": {"VendorID", "passenger_count", "RatecodeID", "payment_type"},
    "green": {"VendorID", "passenger_count", "RatecodeID", "payment_type", "trip_type"},
    "fhv": {"PULocationID", "DOLocationID", "SR_Flag"},
    "fhvhv": {"SR_Flag"},
}
# The first 2,000 rows of 2021-02 with 7 broken lines, per generator version.
DIGESTS = {
    1: {
        "yellow": "e63f4064fdb2e699",
        "green": "2bfa512d9f090018",
        "fhv": "0ecd099511bbf077",
        "fhvhv": "2eeb8dbb34c4317d",
    }
}

every_dataset = pytest.mark.parametrize("name", DATASETS)
every_taxi = pytest.mark.parametrize("name", TAXIS)


def csv_of(name: str, year: int = 2021, month: int = 2, **sizes: int) -> bytes:
    return b"".join(synthetic_csv(DATASETS[name], year, month, **{"rows": 2_000, **sizes}))


def lines(text: bytes) -> list[bytes]:
    """The data lines; nothing may stand behind the last line feed."""
    _, *data, rest = text.split(b"\n")
    assert rest == b""
    return data


def canonical(name: str) -> list[str]:
    return list(DATASETS[name].match_header(HEADERS[name].split(",")).columns)


def texts(name: str, text: bytes) -> pd.DataFrame:
    """The fields as they are written, an empty one as an empty text."""
    frame = pd.read_csv(io.BytesIO(text), dtype=str, keep_default_na=False)
    frame.columns = canonical(name)
    return frame


@cache
def trips(name: str, month: int = 2) -> pd.DataFrame:
    """A hundred thousand rows, parsed by pandas with the types of the declaration."""
    frame = texts(name, csv_of(name, month=month, rows=ROWS))
    for column in frame.columns:
        kind = DATASETS[name].column[column].type
        if kind is ColumnType.TIMESTAMP:
            frame[column] = pd.to_datetime(frame[column], format=TIMESTAMP_FORMAT)
        elif kind is not ColumnType.TEXT:
            frame[column] = pd.to_numeric(frame[column].replace("", None))
        else:
            frame[column] = frame[column].replace("", None)
    return frame


def rows_with(dirt: tuple[int, int]) -> int:
    every, at = dirt
    return len(range(at, ROWS, every))


def cents(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return (frame[columns] * 100).round().astype("int64")


def lenient(line: bytes, name: str) -> bool:
    """Whether a reader that forgives everything it can takes the line for a good row.

    It reads Latin-1, drops NULs and quotes, cuts long lines off and fills short ones up.
    """
    columns = [DATASETS[name].column[column] for column in canonical(name)]
    values = line.decode("latin-1").replace("\0", "").replace('"', "").split(",")
    values += [""] * (len(columns) - len(values))
    try:
        for column, value in zip(columns, values, strict=False):
            if column.type is ColumnType.TIMESTAMP:
                dt.datetime.strptime(value, TIMESTAMP_FORMAT)  # noqa: DTZ007 - New York time
            elif column.type is ColumnType.INTEGER and value:
                assert re.fullmatch(r"\d+(\.0)?", value)
            elif column.type is ColumnType.FLOAT and value:
                float(value)
    except (ValueError, AssertionError):
        return False
    return True


def kind_of(line: bytes, name: str) -> str | None:
    """What is wrong with a line, by the csv module and without a look at the generator."""
    if b"\0" in line:
        return "NUL byte"
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    try:
        (values,) = csv.reader([text], strict=True)
    except csv.Error:
        return "unterminated quote"
    columns = canonical(name)
    if len(values) != len(columns):
        return "too few fields" if len(values) < len(columns) else "too many fields"
    row = dict(zip(columns, values, strict=True))
    try:
        dt.datetime.strptime(row[DATASETS[name].pickup], TIMESTAMP_FORMAT)  # noqa: DTZ007
    except ValueError:
        return "impossible timestamp"
    return None if re.fullmatch(r"[\d.]*", row["PULocationID"]) else "text in a number"


# The bytes


@every_dataset
def test_same_arguments_same_bytes(name: str) -> None:
    assert csv_of(name, broken_rows=9) == csv_of(name, broken_rows=9)


def test_same_bytes_in_another_process() -> None:
    script = (
        "import hashlib; from flows.sources.synthetic import synthetic_csv as make;"
        "from transforms.datasets import YELLOW;"
        "print(hashlib.sha256(b''.join(make(YELLOW, 2021, 2, rows=2000))).hexdigest())"
    )
    # Another hash seed changes the order of every set of texts.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    there = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == hashlib.sha256(csv_of("yellow")).hexdigest()


@every_dataset
def test_other_bytes_need_another_generator_version(name: str) -> None:
    digest = hashlib.sha256(csv_of(name, broken_rows=7)).hexdigest()[:16]
    assert digest == DIGESTS[GENERATOR_VERSION][name]


@every_dataset
@pytest.mark.parametrize("other", [{"month": 1}, {"year": 2020}, {"seed": 1}])
def test_another_month_or_seed_makes_other_trips(name: str, other: dict[str, int]) -> None:
    zones = [texts(name, csv_of(name, **change))["PULocationID"] for change in ({}, other)]
    same = (zones[0].str.removesuffix(".0") == zones[1].str.removesuffix(".0")).mean()
    assert same < 0.1, "even the zones, which do not depend on the calendar"


@every_dataset
@pytest.mark.parametrize("block_rows", [50, 51, 91, 92, 999, 2_000, 10_000])
def test_size_of_blocks_changes_nothing(name: str, block_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = csv_of(name, broken_rows=30)
    monkeypatch.setattr(synthetic, "BLOCK_ROWS", block_rows)
    blocks = list(synthetic_csv(DATASETS[name], 2021, 2, rows=2_000, broken_rows=30))
    assert b"".join(blocks) == whole
    assert len(blocks) == -(-2_000 // block_rows)
    assert all(block.endswith(b"\n") for block in blocks)


@every_dataset
def test_size_of_blocks_changes_nothing_far_into_a_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = csv_of(name, rows=ROWS + 7)
    monkeypatch.setattr(synthetic, "BLOCK_ROWS", 33_333)
    assert csv_of(name, rows=ROWS + 7) == whole


def test_memory_is_bounded_by_a_block() -> None:
    # Were the file generated as a whole, this would not end.
    blocks = synthetic_csv(YELLOW, 2021, 2, rows=10**10, broken_rows=10**8)
    assert next(blocks).count(b"\n") == synthetic.BLOCK_ROWS + 1
    assert next(blocks).count(b"\n") == synthetic.BLOCK_ROWS


# The format


@every_dataset
def test_header_is_the_releases(name: str) -> None:
    header = csv_of(name, rows=1).split(b"\n")[0].decode()
    assert header == HEADERS[name]
    match = DATASETS[name].match_header(header.split(","))
    assert match.new == ()
    assert set(match.missing) == set(DATASETS[name].expected_missing(match.missing, "2021-02"))


@every_dataset
@pytest.mark.parametrize("rows", [1, 2, 49, 92, ROWS, ROWS + 1])
def test_exactly_so_many_lines(name: str, rows: int) -> None:
    data = lines(csv_of(name, rows=rows))
    assert len(data) == rows
    assert {line.count(b",") for line in data} == {HEADERS[name].count(",")}


@every_dataset
def test_plain_text_without_quotes_or_carriage_returns(name: str) -> None:
    assert not re.search(rb"[^\n -~]|\"", csv_of(name, rows=ROWS))


@every_dataset
@pytest.mark.parametrize("month", range(1, 13))
def test_integers_are_written_as_pandas_does_in_every_third_month(name: str, month: int) -> None:
    frame = texts(name, csv_of(name, month=month))
    integers = [c for c in frame.columns if DATASETS[name].column[c].type is ColumnType.INTEGER]
    for column in integers:
        nullable = column in NULLABLE_INTEGERS[name]
        pattern = r"\d+\.0" if nullable and month % 3 == 0 else r"\d+"
        written = frame[column][frame[column] != ""]
        assert len(written), column
        assert written.str.fullmatch(pattern).all(), column
        assert nullable == (len(written) < len(frame)), column


@every_taxi
def test_amounts_are_written_as_the_releases_do(name: str) -> None:
    frame = texts(name, csv_of(name, rows=ROWS))
    for column in [*TAXI_PARTS, "total_amount", "trip_distance"]:
        assert frame[column].str.fullmatch(r"-?\d+\.(\d|\d[1-9])").all(), column
        assert not (frame[column] == "-0.0").any(), column


# What is plausible


@every_dataset
def test_pickups_run_through_the_month_roughly_in_order(name: str) -> None:
    pickup = trips(name)[DATASETS[name].pickup]
    usual = pickup[(pickup >= "2021-02-01") & (pickup < "2021-03-01")]
    assert len(usual) > 0.998 * ROWS
    assert usual.dt.day.nunique() == 28
    assert usual.dt.hour.nunique() == 24
    before_null_block = usual[usual.index < (0.98 if name in TAXIS else 1) * ROWS]
    assert before_null_block.diff().min() > dt.timedelta(hours=-3)
    assert before_null_block.iloc[-1] >= pd.Timestamp("2021-02-28 21:00")


@every_dataset
def test_dropoffs_and_zones_are_plausible(name: str) -> None:
    frame, dataset = trips(name), DATASETS[name]
    minutes = (frame[dataset.dropoff] - frame[dataset.pickup]).dt.total_seconds() / 60
    assert 5 < minutes.median() < 20
    assert minutes.abs().max() < 600
    zones = frame[["PULocationID", "DOLocationID"]].dropna()
    assert set(zones["PULocationID"]) == set(zones["DOLocationID"]) == set(range(1, 266))
    assert abs(np.corrcoef(zones["PULocationID"], zones["DOLocationID"])[0, 1]) < 0.02


@every_taxi
def test_distances_are_log_normal_and_fares_follow_them(name: str) -> None:
    frame = trips(name)
    frame = frame[(frame["trip_distance"] > 0) & (frame["fare_amount"] > 0)]
    logarithm = np.log(frame["trip_distance"])
    assert abs(logarithm.skew()) < 0.1
    assert 0.7 < logarithm.std() < 1.0
    assert frame["trip_distance"].corr(frame["fare_amount"]) > 0.9
    assert frame["tip_amount"][frame["payment_type"] == 1].mean() > 1
    assert frame["tip_amount"][frame["payment_type"] > 1].max() == 0


@every_taxi
def test_total_is_the_sum_of_its_parts(name: str) -> None:
    frame = trips(name)
    assert (cents(frame, TAXI_PARTS).sum(axis=1) == cents(frame, ["total_amount"]).sum(axis=1)).all()


def test_bases_belong_to_their_companies() -> None:
    pairs = trips("fhvhv")[["hvfhs_license_num", "dispatching_base_num"]].drop_duplicates()
    assert set(pairs["hvfhs_license_num"]) == {"HV0002", "HV0003", "HV0004", "HV0005"}
    assert pairs["dispatching_base_num"].is_unique
    assert set(pairs["dispatching_base_num"][pairs["hvfhs_license_num"] == "HV0005"]) == {"B02510"}


# The dirt


@every_dataset
def test_stray_pickups(name: str) -> None:
    pickup = trips(name)[DATASETS[name].pickup]
    strays = pickup[(pickup < "2021-02-01") | (pickup >= "2021-03-01")]
    near = strays[(strays >= "2021-01-01") & (strays < "2021-04-01")]
    far = strays.drop(near.index)
    assert len(near) == rows_with(synthetic.STRAY_MONTHS)
    assert len(far) == rows_with(synthetic.STRAY_YEARS)
    assert set(near.dt.month) == {1, 3}
    assert far.dt.year.between(2001, 2090).all()
    assert far.dt.year.nunique() > 10
    assert not (far.dt.year == 2021).any()


@every_dataset
def test_dropoffs_before_pickups(name: str) -> None:
    frame, dataset = trips(name), DATASETS[name]
    early = frame[dataset.dropoff] < frame[dataset.pickup]
    assert early.sum() == rows_with(synthetic.REVERSED_TRIPS)


@every_dataset
def test_exact_duplicates(name: str) -> None:
    data = lines(csv_of(name, rows=ROWS))
    copies = [n for n in range(1, ROWS) if data[n] == data[n - 1]]
    every, at = synthetic.DUPLICATES
    assert copies == list(range(at, ROWS, every))


@every_taxi
def test_negative_twins_cancel(name: str) -> None:
    frame = trips(name)
    twins = frame.index[frame["total_amount"] < 0]
    assert len(twins) == rows_with(synthetic.NEGATIVE_TWINS)
    amounts = [*TAXI_PARTS, "total_amount"]
    twin, original = frame.loc[twins], frame.loc[twins - 1]
    assert (cents(original, amounts).to_numpy() + cents(twin, amounts).to_numpy() == 0).all()
    rest = [column for column in frame.columns if column not in amounts]
    assert twin[rest].reset_index(drop=True).equals(original[rest].reset_index(drop=True))
    assert (twin["trip_distance"] > 0).all()


@every_taxi
def test_null_block_at_the_end(name: str) -> None:
    frame = trips(name)
    together = METERED + ["trip_type"] * (name == "green")
    is_null = frame[together].isna()
    assert (is_null.all(axis=1) == is_null.any(axis=1)).all()
    first = ROWS - ROWS * synthetic.NULL_BLOCK_PERCENT // 100
    assert list(frame.index[is_null.all(axis=1)]) == list(range(first, ROWS))
    others = frame.drop(columns=[*together, "ehail_fee"], errors="ignore")
    assert not others.isna().any(axis=None)
    assert frame.loc[first:, DATASETS[name].pickup].dt.day.nunique() >= 28


@every_taxi
def test_unknown_rates_no_passengers_and_no_miles(name: str) -> None:
    frame = trips(name)
    assert 0.95 < (frame["RatecodeID"] == 99).sum() / rows_with(synthetic.UNKNOWN_RATES) <= 1
    assert 0.95 < (frame["passenger_count"] == 0).sum() / rows_with(synthetic.ZERO_PASSENGERS) <= 1
    every, at = synthetic.ZERO_DISTANCES
    assert list(frame.index[frame["trip_distance"] == 0]) == list(range(at, ROWS, every))


def test_null_locations_of_fhv() -> None:
    nulls = trips("fhv")[["PULocationID", "DOLocationID"]].isna()
    assert (nulls["PULocationID"] == nulls["DOLocationID"]).all()
    assert nulls["PULocationID"].sum() == rows_with(synthetic.NULL_LOCATIONS)
    assert not trips("fhvhv").drop(columns="SR_Flag").isna().any(axis=None)


def test_no_row_has_two_kinds_of_dirt() -> None:
    dirts = [value for value in vars(synthetic).values() if type(value) is tuple]
    dirts = [dirt for dirt in dirts if len(dirt) == 2 and dirt[0] in range(100, 10_000, 100)]
    assert len(dirts) == 9
    places = sorted(at for _, at in dirts)
    assert all(later - earlier > 1 for earlier, later in pairwise(places))
    assert places[0] > 1
    assert places[-1] < 99


# Broken lines


@every_dataset
def test_broken_lines_by_kind_in_rotation(name: str) -> None:
    data = lines(csv_of(name, broken_rows=70))
    assert len(data) == 2_000
    kinds = [kind for line in data if (kind := kind_of(line, name))]
    assert kinds == list(BROKEN_KINDS) * 10


@every_dataset
def test_broken_lines_are_evenly_spread_and_leave_the_others_alone(name: str) -> None:
    good, mixed = lines(csv_of(name)), lines(csv_of(name, broken_rows=70))
    broken = [n for n in range(2_000) if good[n] != mixed[n]]
    assert len(broken) == 70
    assert set(np.diff(broken)) == {2_000 // 70, 2_000 // 70 + 1}
    assert abs(broken[0] - (1_999 - broken[-1])) <= 1


@every_dataset
@pytest.mark.parametrize("month", [2, 3])
def test_not_even_a_lenient_reader_takes_a_broken_line(name: str, month: int) -> None:
    good, bad = csv_of(name, month=month), csv_of(name, month=month, broken_rows=2_000)
    assert all(lenient(line, name) for line in lines(good)), "it does take the good ones"
    assert [line for line in lines(bad) if lenient(line, name)] == []


@every_dataset
def test_pandas_does_not_take_a_broken_line_either(name: str) -> None:
    columns = [DATASETS[name].column[column] for column in canonical(name)]
    numbers = {
        c.name: "Int64" if c.type is ColumnType.INTEGER else "float64"
        for c in columns
        if c.type in (ColumnType.INTEGER, ColumnType.FLOAT)
    }
    times = [c.name for c in columns if c.type is ColumnType.TIMESTAMP]

    def read(line: bytes) -> None:
        frame = pd.read_csv(io.BytesIO(line + b"\n"), names=canonical(name), dtype=numbers, index_col=False)
        for column in times:
            pd.to_datetime(frame[column], format=TIMESTAMP_FORMAT)

    data = lines(csv_of(name, broken_rows=2_000))[: len(BROKEN_KINDS)]
    read(lines(csv_of(name))[0])
    for line in data:
        with pytest.raises((ValueError, TypeError, pd.errors.ParserError, pd.errors.ParserWarning)):
            read(line)


@every_dataset
@pytest.mark.parametrize(("rows", "broken"), [(5, 50), (1, 1), (20, 20), (20, 19), (20, 0)])
def test_at_most_every_line_is_broken(name: str, rows: int, broken: int) -> None:
    data = lines(csv_of(name, rows=rows, broken_rows=broken))
    assert len(data) == rows
    assert sum(kind_of(line, name) is not None for line in data) == min(rows, broken)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 600), broken=st.integers(0, 700), block_rows=st.integers(7, 300))
def test_exactly_so_many_are_broken(rows: int, broken: int, block_rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "BLOCK_ROWS", block_rows)
        good, mixed = (lines(csv_of("fhvhv", rows=rows, broken_rows=n)) for n in (0, broken))
    assert len(good) == len(mixed) == rows
    differ = [n for n in range(rows) if good[n] != mixed[n]]
    assert len(differ) == min(rows, broken)
    kinds = [kind_of(mixed[n], "fhvhv") for n in differ]
    assert kinds == [BROKEN_KINDS[n % len(BROKEN_KINDS)] for n in range(len(differ))]


# What is refused


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": 0}, "rows=0"),
        ({"rows": -5}, "rows=-5"),
        ({"broken_rows": -1}, "broken_rows=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"month": 0}, "month=0"),
        ({"month": 13}, "month=13"),
    ],
)
def test_impossible_numbers_are_refused_before_the_first_block(wrong: dict[str, int], message: str) -> None:
    numbers = {"year": 2021, "month": 2, "rows": 10, **wrong}
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        synthetic_csv(YELLOW, numbers.pop("year"), numbers.pop("month"), **numbers)
    assert "month 1 to 12, rows from 1, seed and broken_rows from 0" in str(refused.value)


def test_unknown_dataset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"for blue.*legal are yellow, green, fhvhv, fhv"):
        synthetic_csv(dataclasses.replace(YELLOW, name="blue"), 2021, 2, rows=10)
