"""Files of 2009 to 2016: names, words, blank lines, trailing commas; every layout that was published."""

# ruff: noqa: E501 - lines as the files have them
from __future__ import annotations

import datetime as dt
import gzip
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.destinations import Place

from flows.errors import SchemaDrift, TooManyRejects
from flows.staging import csv_repair
from flows.staging import stage_file as staging
from transforms.datasets import YELLOW
from transforms.historic_columns import PAYMENT_CODES
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from conftest import Workbench

    from flows.staging import StagedMonth

at = dt.datetime.fromisoformat
LATITUDES = ("pickup_latitude", "dropoff_latitude")

OLD = {
    "yellow 2009, a blank line behind the header": (
        TripMonth("yellow", 2009, 1),
        (
            "vendor_name,Trip_Pickup_DateTime,Trip_Dropoff_DateTime,Passenger_Count,Trip_Distance,Start_Lon,"
            "Start_Lat,Rate_Code,store_and_forward,End_Lon,End_Lat,Payment_Type,Fare_Amt,surcharge,mta_tax,"
            "Tip_Amt,Tolls_Amt,Total_Amt\n\n"
            "VTS,2009-01-04 02:52:00,2009-01-04 03:02:00,1,2.6299999999999999,-73.991956999999999,40.721567,,,"
            "-73.993803,40.695922000000003,CASH,8.9000000000000004,0.5,,0,0,9.4000000000000004\n"
            "DDS,2009-01-03 15:57:00,2009-01-03 15:57:00,1,10.35,0,0,,0,0,0,Credit,23.7,0,,4.74,0,28.44\n"
        ),
        [
            {
                "VendorID": 2,
                "tpep_pickup_datetime": at("2009-01-04 02:52:00"),
                "tpep_dropoff_datetime": at("2009-01-04 03:02:00"),
                "passenger_count": 1,
                "trip_distance": 2.63,
                "RatecodeID": None,
                "store_and_fwd_flag": None,
                "PULocationID": None,
                "payment_type": 2,
                "fare_amount": 8.9,
                "extra": 0.5,
                "mta_tax": None,
                "total_amount": 9.4,
                "pickup_longitude": -73.991957,
                "pickup_latitude": 40.721567,
                "dropoff_longitude": -73.993803,
                "dropoff_latitude": 40.695922,
            },
            {"VendorID": 3, "payment_type": 1, "store_and_fwd_flag": "0", "tip_amount": 4.74},
        ],
    ),
    "yellow 2010, words of three letters": (
        TripMonth("yellow", 2010, 3),
        (
            "vendor_id,pickup_datetime,dropoff_datetime,passenger_count,trip_distance,pickup_longitude,"
            "pickup_latitude,rate_code,store_and_fwd_flag,dropoff_longitude,dropoff_latitude,payment_type,"
            "fare_amount,surcharge,mta_tax,tip_amount,tolls_amount,total_amount\n"
            "CMT,2010-03-22 17:05:03,2010-03-22 17:22:51,1,1.3,-73.98,40.75,1,0,-73.97,40.76,Cre,10.1,1,0.5,2.32,0,13.92\n"
            "VTS,2010-03-22 19:24:36,2010-03-22 19:40:28,1,2,-73.98,40.75,1,,-73.97,40.76,No ,10.1,1,0.5,0,0,11.6\n"
        ),
        [
            {"VendorID": 1, "payment_type": 1, "extra": 1.0, "RatecodeID": 1, "store_and_fwd_flag": "0"},
            {"VendorID": 2, "payment_type": 3, "dropoff_latitude": 40.76},
        ],
    ),
    "yellow 2014, spaces in the header, a blank line, carriage returns": (
        TripMonth("yellow", 2014, 1),
        (
            "vendor_id, pickup_datetime, dropoff_datetime, passenger_count, trip_distance, pickup_longitude, "
            "pickup_latitude, rate_code, store_and_fwd_flag, dropoff_longitude, dropoff_latitude, payment_type, "
            "fare_amount, surcharge, mta_tax, tip_amount, tolls_amount, total_amount\r\n\r\n"
            "CMT,2014-01-09 20:45:25,2014-01-09 20:52:31,1,0.7,-73.99477,40.736828,1,N,-73.982227,40.73179,CRD,"
            "6.5,0.5,0.5,1.4,0,8.9\r\n"
            "CMT,2014-01-09 20:46:12,2014-01-09 20:55:12,1,1.4,-73.982392,40.773382,1,N,-73.960449,40.763995,UNK,"
            "8.5,0.5,0.5,1.9,0,11.4\r\n"
        ),
        [
            {
                "payment_type": 1,
                "total_amount": 8.9,
                "pickup_longitude": -73.99477,
                "store_and_fwd_flag": "N",
            },
            {"payment_type": 5, "total_amount": 11.4},
        ],
    ),
    "yellow 2015, the names of today and coordinates": (
        TripMonth("yellow", 2015, 1),
        (
            "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,pickup_longitude,"
            "pickup_latitude,RateCodeID,store_and_fwd_flag,dropoff_longitude,dropoff_latitude,payment_type,"
            "fare_amount,extra,mta_tax,tip_amount,tolls_amount,improvement_surcharge,total_amount\n"
            "2,2015-01-15 19:05:39,2015-01-15 19:23:42,1,1.59,-73.993896484375,40.750110626220703,1,N,"
            "-73.974784851074219,40.750617980957031,1,12,1,0.5,3.25,0,0.3,17.05\n"
        ),
        [{"VendorID": 2, "pickup_latitude": 40.750110626220703, "improvement_surcharge": 0.3}],
    ),
    "yellow 2016, two commas more at the end of every line": (
        TripMonth("yellow", 2016, 7),
        (
            "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,"
            "store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,tip_amount,"
            "tolls_amount,improvement_surcharge,total_amount\n"
            "1,2016-07-01 00:00:31,2016-07-01 00:09:21,1,2.3,1,N,140,236,2,10,0.5,0.5,0,0,0.3,11.3,,\n"
            '1,2016-07-01 00:00:35,2016-07-01 00:04:32,1,1.1,1,"N",162,237,1,6.5,0.5,0.5,1,0,0.3,,,\n'
        ),
        [
            {"PULocationID": 140, "total_amount": 11.3, "trip_distance": 2.3},
            {"DOLocationID": 237, "total_amount": None, "store_and_fwd_flag": "N"},
        ],
    ),
    "green 2013, all of it at once": (
        TripMonth("green", 2013, 8),
        (
            "VendorID,lpep_pickup_datetime,Lpep_dropoff_datetime,Store_and_fwd_flag,RateCodeID,Pickup_longitude,"
            "Pickup_latitude,Dropoff_longitude,Dropoff_latitude,Passenger_count,Trip_distance,Fare_amount,Extra,"
            "MTA_tax,Tip_amount,Tolls_amount,Ehail_fee,Total_amount,Payment_type,Trip_type \r\n\r\n"
            "2,2013-08-01 08:14:37,2013-08-01 09:09:06,N,1,0,0,0,0,1,.00,21.25,0,0,0,0,,21.25,2,,,\r\n"
            "2,2013-08-01 09:13:00,2013-08-01 11:38:00,N,1,0,0,-73.9,40.7,2,.00,74.5,0,0.5,0,0,,75,2,1,,\r\n"
        ),
        [
            {"lpep_dropoff_datetime": at("2013-08-01 09:09:06"), "fare_amount": 21.25, "trip_type": None},
            {"dropoff_longitude": -73.9, "passenger_count": 2, "trip_type": 1, "total_amount": 75.0},
        ],
    ),
    "fhv 2018, every value quoted, one column under two names": (
        TripMonth("fhv", 2018, 1),
        (
            '"Pickup_DateTime","DropOff_datetime","PUlocationID","DOlocationID","SR_Flag","Dispatching_base_number",'
            '"Dispatching_base_num"\n'
            '"2018-01-30 21:06:50","2018-01-30 21:15:34","56","129","","B02884",""\n'
            '"2018-01-30 21:20:36","","","","1","","B02885"\n'
            '"2018-01-30 21:04:45","2018-01-30 21:16:34","47","42",""," B02886","B02886"\n'
            '"2018-01-30 21:11:51","2018-01-30 21:40:35","49","131",""," ","B02887"\n'
            "2018-01-30 21:11:52,2018-01-30 21:40:36,49,131,,,\n"
        ),
        [
            {
                "dispatching_base_num": "B02884",
                "pickup_datetime": at("2018-01-30 21:06:50"),
                "dropoff_datetime": at("2018-01-30 21:15:34"),
                "PULocationID": 56,
                "DOLocationID": 129,
                "SR_Flag": None,
                "Affiliated_base_number": None,
            },
            {"dispatching_base_num": "B02885", "dropoff_datetime": None, "SR_Flag": 1},
            {"dispatching_base_num": "B02886", "PULocationID": 47},
            {"dispatching_base_num": "B02887", "DOLocationID": 131},
            {"dispatching_base_num": None, "DOLocationID": 131},
        ],
    ),
    "commas behind the header as well": (
        TripMonth("fhv", 2015, 1),
        "Dispatching_base_num,Pickup_date,locationID,,\nB00013,2015-01-01 00:30:00,,,\nB00013,2015-01-01 01:22:00,7,,\n",
        [
            {"dispatching_base_num": "B00013", "PULocationID": None},
            {"pickup_datetime": at("2015-01-01 01:22:00"), "PULocationID": 7},
        ],
    ),
}


def values_of(staged: StagedMonth, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    loaded = pq.read_table(staged.path).to_pylist()
    return [{name: row[name] for name in named} for row, named in zip(loaded, rows, strict=True)]


@pytest.mark.parametrize("name", OLD)
def test_every_old_layout_is_loaded_value_by_value(name: str, bench: Workbench) -> None:
    month, text, expected = OLD[name]
    staged = bench.stage(text.encode(), month)
    assert (staged.rows, staged.source_rows, staged.rejected_rows) == (len(expected), len(expected), 0)
    assert values_of(staged, expected) == expected
    assert bench.stage(bench.land(text.encode()), month).reused, "an old layout is no undeclared column"


FHV_2018 = TripMonth("fhv", 2018, 1)
TWO_NAMES = "Pickup_DateTime,Dispatching_base_number,Dispatching_base_num\n"


@pytest.mark.parametrize("quote", ["", '"'], ids=["plain", "quoted"])
def test_two_values_under_the_two_names_of_a_column_are_a_reject(quote: str, bench: Workbench) -> None:
    good = f"2018-01-30 21:06:50,{quote}B1{quote},{quote}{quote}\n"
    bad = f"2018-01-30 21:06:50,{quote}B1{quote},{quote}B2{quote}\n"
    staged = bench.stage((TWO_NAMES + good * 9 + bad).encode(), FHV_2018, max_reject_ratio=0.1)
    assert pq.read_table(staged.path)["dispatching_base_num"].to_pylist() == ["B1"] * 9
    assert staged.rejects_path
    [reject] = pl.read_parquet(staged.rejects_path).to_dicts()
    assert reject["line"] == 11
    assert reject["reason"] == "dispatching_base_num: is 'B2', but Dispatching_base_number is 'B1'"


def test_two_names_of_a_column_in_parquet_are_one_column_too(bench: Workbench) -> None:
    table = pa.table(
        {
            "Pickup_DateTime": [at("2018-01-30 21:06:50")] * 5,
            "Dispatching_base_number": ["B1", None, "B3", " B4", "B5"],
            "Dispatching_base_num": ["", "B2", "B9", "B4", None],
        }
    )
    staged = bench.stage(bench.write_parquet(table), FHV_2018, max_reject_ratio=0.3)
    assert [base.strip() for base in pq.read_table(staged.path)["dispatching_base_num"].to_pylist()] == [
        "B1",
        "B2",
        "B4",
        "B5",
    ]
    assert staged.rejects_path
    [reject] = pl.read_parquet(staged.rejects_path).to_dicts()
    assert (reject["line"], "two different values" in reject["reason"]) == (3, True)


def test_lines_with_empty_quoted_values_are_taken_in_bulk(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of 2018's lines have some: one at a time, a month of them would take minutes."""
    monkeypatch.delattr(csv_repair, "regular_line")
    _, text, _ = OLD["fhv 2018, every value quoted, one column under two names"]
    header, first, second, *_ = text.splitlines(keepends=True)
    assert bench.stage((header + first + second).encode(), FHV_2018).rows == 2


@pytest.mark.parametrize(
    "header",
    [
        "pickup_datetime,Dispatching_base_nr,dispatching_base_num",
        "pickup_datetime,Dispatch_base_num,PULocationID",
    ],
    ids=["declared but empty", "missing"],
)
def test_a_new_column_never_leaves_a_declared_one_empty_in_silence(header: str, bench: Workbench) -> None:
    text = f"{header}\n" + "2018-01-30 21:06:50,B1,\n" * 3
    with pytest.raises(
        SchemaDrift, match=r"dispatching_base_num would have no value .* aliases of"
    ) as refused:
        bench.stage(text.encode(), FHV_2018, allow_new_columns=True)
    assert "\n" not in str(refused.value)
    assert not list(bench.directory.rglob("*.parquet"))


def test_empty_columns_beside_new_ones_of_other_names_are_said(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    text = "pickup_datetime,surge,dispatching_base_num\n" + "2018-01-30 21:06:50,B1,\n" * 3
    with caplog.at_level("WARNING", logger="flows"):
        bench.stage(text.encode(), FHV_2018, allow_new_columns=True)
    assert "no row has a value for DOLocationID" in caplog.text
    assert "dispatching_base_num" in caplog.text
    assert "carried along as text: surge" in caplog.text


JANUARY = TripMonth("yellow", 2021, 1)
TIMES = "tpep_pickup_datetime,tpep_dropoff_datetime\n"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("lines", "drop_off"),
    [
        (["01/31/2021 0:30,02/01/2021 0:05", "1/2/2021 23:59:58,1/3/2021 0:05"], "2021-02-01 00:05:00"),
        (["31/01/2021 0:30,01/02/2021 0:05", "2/1/2021 23:59:58,3/1/2021 0:05"], "2021-02-01 00:05:00"),
        (
            ["01/31/2021 12:30:00 AM,01/31/2021 12:05:00 PM", "1/2/2021 11:59:58 PM,1/3/2021 12:05 am"],
            "2021-01-31 12:05:00",
        ),
    ],
    ids=["month first", "day first", "half days"],
)
def test_dates_with_slashes_are_read_as_the_month_of_the_file_tells(
    lines: list[str], drop_off: str, packed: bool, bench: Workbench
) -> None:
    text = (TIMES + "\n".join(lines) + "\n").encode()
    staged = bench.stage(gzip.compress(text) if packed else text, JANUARY)
    pickups, drop_offs = (pq.read_table(staged.path)[name].to_pylist() for name in TIMES.strip().split(","))
    assert pickups == [at("2021-01-31 00:30:00"), at("2021-01-02 23:59:58")]
    assert drop_offs == [at(drop_off), at("2021-01-03 00:05:00")]


@pytest.mark.parametrize(
    "dates",
    [
        ["01/02/2020 0:30"],  # of another year: either may be meant
        ["01/02/2021 0:30", "02/01/2021 0:30"],  # both orders in one file
        ["13/01/2021 0:30", "14/01/2021 0:30", "01/15/2021 0:30"],  # neither in nine of ten
        ["01/31/2021 24:30", "01/32/2021 0:30", "01/31/2021 13:00 PM", "01/31/21 0:30"],
    ],
)
def test_dates_that_may_mean_two_days_or_none_are_rejects(dates: list[str], bench: Workbench) -> None:
    text = TIMES + "".join(f"{date},\n" for date in dates)
    with pytest.raises(TooManyRejects, match=r"is not a time such as 2021-01-31|does not exist"):
        bench.stage(text.encode(), JANUARY, max_reject_ratio=1.0)


def test_a_single_date_with_slashes_among_others_is_a_reject(bench: Workbench) -> None:
    text = TIMES + "2021-01-31 00:30:00,\n" * 9 + "01/31/2021 0:30,\n"
    assert bench.stage(text.encode(), JANUARY, max_reject_ratio=0.1).rejected_rows == 1


@pytest.mark.parametrize("name", ["", "Unnamed: 0", '""'])
@pytest.mark.parametrize("end", ["\n", "\n\n"], ids=["fast", "careful"])
def test_the_index_that_pandas_writes_is_left_out(name: str, end: str, bench: Workbench) -> None:
    lines = "".join(f"{row},2,2021-01-31 00:30:00\n" for row in (0, 1, 2, 7))
    staged = bench.stage(f"{name},VendorID,tpep_pickup_datetime{end}{lines}".encode(), JANUARY)
    table = pq.read_table(staged.path)
    assert (staged.rows, table["VendorID"].to_pylist(), staged.new_columns) == (4, [2] * 4, ())
    assert table.column_names == list(YELLOW.types())


@pytest.mark.parametrize("numbers", [(0, 1, 1), (0, 2, 1), (-1, 0, 1), (0, 1, 0)])
def test_an_unnamed_column_that_counts_nothing_is_refused(numbers: tuple[int, ...], bench: Workbench) -> None:
    lines = "".join(f"{number},2,2021-01-31 00:30:00\n" for number in numbers)
    with pytest.raises(SchemaDrift, match=r"do not count the rows; give it a name .* index=False") as refused:
        bench.stage(f",VendorID,tpep_pickup_datetime\n{lines}".encode(), JANUARY)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("columns_named", [2009, 2010])
def test_the_parquet_files_of_the_first_two_years_have_times_and_words_as_text(
    columns_named: int, bench: Workbench
) -> None:
    old = columns_named == 2009
    table = pa.table(
        {
            "vendor_name" if old else "vendor_id": ["VTS", "CMT", "VTS"],
            "Trip_Pickup_DateTime" if old else "pickup_datetime": [
                "2009-01-04 02:52:00",
                "2010-01-26 07:41:00",
                "x",
            ],
            "Trip_Dropoff_DateTime" if old else "dropoff_datetime": ["2009-01-04 03:02:00", None, ""],
            "Rate_Code" if old else "rate_code": pa.array([None, 1.0, None]) if old else ["1", " ", "2"],
            "Payment_Type" if old else "payment_type": ["CASH", "Credit", "Dispute"],
            "Start_Lon" if old else "pickup_longitude": [-73.99, float("nan"), 0.0],
            "Total_Amt" if old else "total_amount": [9.4, 14.6, 1.0],
        }
    )
    staged = bench.stage(
        bench.write_parquet(table), TripMonth("yellow", columns_named, 1), max_reject_ratio=0.7
    )
    assert (staged.rows, staged.rejected_rows) == (1, 2)
    assert values_of(
        staged, [dict.fromkeys(("VendorID", "tpep_pickup_datetime", "payment_type", "RatecodeID"))]
    ) == [
        {
            "VendorID": 2,
            "tpep_pickup_datetime": at("2009-01-04 02:52:00"),
            "payment_type": 2,
            "RatecodeID": None if old else 1,
        }
    ]
    assert staged.rejects_path
    rejects = pl.read_parquet(staged.rejects_path)
    assert rejects["line"].to_list() == [2, 3]
    assert "pickup_longitude: no float value" in rejects["reason"][0]
    assert "tpep_pickup_datetime: no timestamp value" in rejects["reason"][1]


def test_coordinates_are_in_the_months_that_have_them_and_the_table_grows_by_them(bench: Workbench) -> None:
    now = bench.stage(
        (b"VendorID,tpep_pickup_datetime,PULocationID,total_amount\n1,2021-01-01 00:00:00,7,1.5\n"),
        TripMonth("yellow", 2021, 1),
    )
    month, text, _ = OLD["yellow 2014, spaces in the header, a blank line, carriage returns"]
    old = bench.stage(text.encode(), month)
    assert "pickup_latitude" not in pq.read_schema(now.path).names
    assert pq.read_schema(old.path).field("pickup_latitude").type == pa.float64()
    place = Place("duckdb", bench.directory)
    for staged in (now, old):
        assert place.make().publish(staged).rows == staged.rows
    with duckdb.connect(bench.directory / "warehouse.duckdb") as connection:
        rows = connection.sql(
            "SELECT year(file_month), PULocationID, pickup_latitude FROM yellow_taxi_trips ORDER BY ALL"
        ).fetchall()
    assert rows == [(2014, None, 40.736828), (2014, None, 40.773382), (2021, 7, None)]


def test_a_word_that_nobody_knows_is_a_reject_and_not_a_null(bench: Workbench) -> None:
    month, text, _ = OLD["yellow 2010, words of three letters"]
    staged = bench.stage(text.replace("No ", "Barter").encode(), month, max_reject_ratio=0.5)
    assert staged.rows == 1
    assert staged.rejects_path
    [reject] = pl.read_parquet(staged.rejects_path).to_dicts()
    assert (reject["line"], reject["reason"]) == (3, "payment_type: 'Barter' is not a whole number")


@pytest.mark.parametrize(("word", "number"), PAYMENT_CODES)
def test_words_are_read_the_same_by_every_path(word: str, number: int, bench: Workbench) -> None:
    header = "vendor_id,pickup_datetime,payment_type,total_amount\n"
    line = f"CMT,2010-01-01 00:00:00,{word.title()},1\n"
    regular = bench.stage((header + line * 2).encode(), TripMonth("yellow", 2010, 1))
    careful = bench.stage((header + "\n" + line * 2).encode(), TripMonth("yellow", 2010, 2))
    quoted = bench.stage((header + line.replace("CMT", '" CMT"') * 2).encode(), TripMonth("yellow", 2010, 3))
    for staged in (regular, careful, quoted):
        assert (
            pq.read_table(staged.path, columns=["payment_type"])["payment_type"].to_pylist() == [number] * 2
        )


def test_a_regular_old_file_needs_no_careful_reading(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    month, text, expected = OLD["yellow 2010, words of three letters"]
    monkeypatch.delattr(staging, "repair_csv")
    assert bench.stage(text.encode(), month).rows == len(expected)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "1,2016-07-01 00:00:31,7,11.3",
            "has 4 fields where the header has 4 and 2 empty ones are behind them",
        ),
        ("1,2016-07-01 00:00:31,7,11.3,,,", "has 7 fields where the header has 4 and 2 empty ones"),
        ("1,2016-07-01 00:00:31,,7,11.3,", "has 6 fields where the header has 4 and 2 empty ones"),
        ("1,2016-07-01 00:00:31,7,11.3,,x", "has 6 fields where the header has 4 and 2 empty ones"),
    ],
)
def test_trailing_commas_are_the_same_in_every_line_or_the_line_is_rejected(
    line: str, reason: str, bench: Workbench
) -> None:
    good = "1,2016-07-01 00:00:31,7,11.3,,\n"
    text = f"VendorID,tpep_pickup_datetime,PULocationID,total_amount\n{good * 9}{line}\n"
    staged = bench.stage(text.encode(), TripMonth("yellow", 2016, 7), max_reject_ratio=0.1)
    assert staged.rows == 9
    assert staged.rejects_path
    [reject] = pl.read_parquet(staged.rejects_path).to_dicts()
    assert reject["line"] == 11
    assert reject["reason"].startswith(reason)


def test_fields_with_something_in_them_are_not_left_out_however_many_lines_have_them(
    bench: Workbench,
) -> None:
    good = "1,2016-07-01 00:00:31,7,11.3"
    lines = "".join(f"{good}\n" for _ in range(3)) + "".join(f"{good},x\n" for _ in range(4))
    text = f"VendorID,tpep_pickup_datetime,PULocationID,total_amount\n{lines}"
    staged = bench.stage(text.encode(), TripMonth("yellow", 2016, 7), max_reject_ratio=0.9)
    assert (staged.rows, staged.rejected_rows) == (3, 4)


def test_a_stray_comma_in_a_regular_file_is_no_trailing_field(bench: Workbench) -> None:
    good = "1,2016-07-01 00:00:31,7,11.3\n"
    text = (
        f"VendorID,tpep_pickup_datetime,PULocationID,total_amount\n{good * 9}1,2016-07-01 00:00:31,7,11.3,\n"
    )
    staged = bench.stage(text.encode(), TripMonth("yellow", 2016, 7), max_reject_ratio=0.1)
    assert (staged.rows, staged.rejected_rows) == (9, 1)


def test_a_header_that_comes_twice_is_a_reject_the_second_time(bench: Workbench) -> None:
    header, line = "VendorID,tpep_pickup_datetime,total_amount\n", "1,2016-07-01 00:00:31,11.3\n"
    staged = bench.stage(
        (header + header + line * 9).encode(), TripMonth("yellow", 2016, 7), max_reject_ratio=0.1
    )
    assert (staged.rows, staged.rejected_rows) == (9, 1)
    with pytest.raises(TooManyRejects, match=r"line 2: VendorID: 'VendorID' is not a whole number"):
        bench.stage((header + header + line * 9).encode(), TripMonth("yellow", 2016, 7))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "VendorID,tpep_pickup_datetime,total_amount,Fare_Amt,fare_amount",
            "names a column twice: fare_amount",
        ),
        ("VendorID,tpep_pickup_datetime,vendor_name", "names a column twice: vendorid"),
        ("vendor_name,pickup_datetime,dropoff_datetime,PULocationID", "this is no yellow file"),
    ],
)
def test_a_header_that_cannot_be_is_one_clear_line(header: str, message: str, bench: Workbench) -> None:
    with pytest.raises(SchemaDrift, match=message):
        bench.stage(f"{header}\n1,2016-07-01 00:00:31\n".encode(), TripMonth("yellow", 2016, 7))


def test_the_declaration_of_old_columns_is_complete() -> None:
    assert [column.name for column in YELLOW.historic if column.type.label != "float"] == []
    assert all(column.until == "2016-06" and column.description for column in YELLOW.historic)
    assert YELLOW.undeclared(["pickup_latitude", "surge", "VendorID"]) == ("surge",)


@pytest.mark.parametrize("odd", ["inf", "nan", "-Infinity"])
def test_a_coordinate_that_is_no_number_is_a_reject_although_polars_reads_it(
    odd: str, bench: Workbench
) -> None:
    line = "CMT,2010-01-01 00:00:00,{},1.5\n"
    text = (
        "vendor_id,pickup_datetime,pickup_longitude,total_amount\n"
        + line.format("-73.9") * 9
        + line.format(odd)
    )
    staged = bench.stage(text.encode(), TripMonth("yellow", 2010, 1), max_reject_ratio=0.1)
    assert (staged.rows, staged.rejected_rows) == (9, 1)


@pytest.mark.parametrize("text", ["09-01-04 02:52:00", "2009-01-04", "2009-02-29 00:00:00"])
def test_a_time_in_parquet_as_text_is_whole_or_a_reject(text: str, bench: Workbench) -> None:
    whole = ["2009-01-04 02:52:00", "2009-01-04 02:52:00.25"]
    table = pa.table(
        {
            "Trip_Pickup_DateTime": [*whole, text],
            "Rate_Code": [" 1", " ", ""],
            "Total_Amt": [1.0, 2.0, 3.0],
        }
    )
    staged = bench.stage(bench.write_parquet(table), TripMonth("yellow", 2009, 1), max_reject_ratio=0.5)
    pickups = pq.read_table(staged.path)["tpep_pickup_datetime"].to_pylist()
    assert pickups == [at("2009-01-04 02:52:00"), at("2009-01-04 02:52:00.250000")]
    assert pq.read_table(staged.path)["RatecodeID"].to_pylist() == [1, None]
