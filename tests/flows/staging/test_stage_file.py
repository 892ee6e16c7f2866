"""Staging CSV files: every value as it stands in the source, every row accounted for, or nothing at all."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from support.trips import (
    HEADS,
    assert_equals_pandas,
    needs_real_trips,
    read_with_pandas,
    real_month,
)

from flows.errors import (
    LocalStorageError,
    QualityReportFailed,
    ReconciliationError,
    SchemaDrift,
    SourceCorrupt,
    TooManyRejects,
    UsageError,
)
from flows.settings import Settings
from flows.staging import (
    StagingOptions,
    check_row_transforms,
    parquet_writer,
    quality_report,
    report_quality,
)
from flows.staging import rejects as rejects_module
from flows.staging import stage_file as staging
from flows.staging import staged_month as staged_module
from flows.staging.csv_repair import repair_csv
from flows.staging.rejects import Reject, Rejects
from flows.staging.staged_month import CHECKSUM_SUFFIX
from transforms.dataset import FILE_MONTH
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from conftest import Workbench

    from flows.staging import StagedMonth
    from flows.staging.parquet_writer import WrittenParquet
    from transforms.dataset import Dataset

    Reader = Callable[[str, Dataset], dict[str, list[Any]]]

MONTH = TripMonth("fhvhv", 2019, 2)
COLUMNS = (
    "hvfhs_license_num",
    "dispatching_base_num",
    "pickup_datetime",
    "dropoff_datetime",
    "PULocationID",
    "DOLocationID",
    "SR_Flag",
)
HEADER = ",".join(COLUMNS).encode() + b"\n"
MILES_HEADER = HEADER[:-1] + b",trip_miles\n"
HEAD_FILES = sorted(HEADS.glob("*.csv"))


def row(number: int, *, flag: str = "1", zone: str | None = None) -> bytes:
    """A row of which every value tells its number."""
    clock = f"{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}"
    fields = [f"HV{number:04}", f"B{number}", f"2019-02-01 {clock}", f"2019-02-02 {clock}"]
    return ",".join([*fields, zone if zone is not None else str(number), "264", flag]).encode() + b"\n"


def rows(count: int, first: int = 0) -> bytes:
    return b"".join(map(row, range(first, first + count)))


def numbers(staged: StagedMonth) -> list[int]:
    """Which rows are in the staged file, by the text of the base, which no repair touches."""
    return [int(base[1:]) for base in table(staged)["dispatching_base_num"].to_pylist()]


def table(staged: StagedMonth) -> pa.Table:
    return pq.read_table(staged.path)


def rejects(staged: StagedMonth) -> list[tuple[int, str, str]]:
    return pl.read_parquet(staged.rejects_path).rows() if staged.rejects_path else []


def metadata_of(staged: StagedMonth) -> dict[str, Any]:
    return json.loads(pq.read_metadata(staged.path).metadata[b"taxi_etl"])


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The attempts in order: `fast`, `text`, `careful`."""
    attempts: list[str] = []
    original = staging._Stager._write_from_csv

    def noting(self: Any, *args: Any, **options: Any) -> WrittenParquet:  # noqa: ANN401
        attempts.append(
            "careful" if options.get("repaired") else "text" if options["integers_as_text"] else "fast"
        )
        return original(self, *args, **options)

    monkeypatch.setattr(staging._Stager, "_write_from_csv", noting)
    return attempts


# Real files


def assert_values(staged: StagedMonth, expected: dict[str, list[Any]]) -> None:
    """Every column of the staged file: as another reader has it, or null where the source lacks it."""
    loaded = table(staged)
    for name in loaded.column_names:
        if name == FILE_MONTH:
            values = [staged.month.first_day] * staged.rows
        else:
            values = expected.get(name, [None] * staged.rows)
        assert loaded[name].to_pylist() == values, name


@needs_real_trips
@pytest.mark.parametrize("month", range(1, 13))
def test_a_real_month_is_staged_value_by_value_on_the_fast_path(
    month: int, bench: Workbench, read_with_csv_module: Reader, attempts: list[str]
) -> None:
    trips = TripMonth("yellow", 2019, month)
    packed = real_month(month)
    staged = bench.stage(packed, trips)
    assert attempts == ["fast"]
    assert (staged.rows, staged.source_rows, staged.rejected_rows, staged.dropped_rows) == (
        10_000,
        10_000,
        0,
        0,
    )
    assert staged.rejects_path is None
    assert_values(staged, read_with_csv_module(gzip.decompress(packed).decode(), trips.dataset))
    assert_equals_pandas(
        table(staged).to_pandas(),
        read_with_pandas(packed, [trips.dataset.pickup, trips.dataset.dropoff]),
    )


@pytest.mark.skipif(not HEAD_FILES, reason="no heads of real files in ../shared/data/heads")
@pytest.mark.parametrize("head", HEAD_FILES, ids=lambda path: path.stem)
def test_the_head_of_every_real_file_is_staged_completely(
    head: Path, bench: Workbench, read_with_csv_module: Reader
) -> None:
    color, iso = head.stem.split("_tripdata_")
    trips = TripMonth(color, *map(int, iso.split("-")))
    staged = bench.stage(head.read_bytes(), trips)
    with head.open(newline="") as file:
        expected = read_with_csv_module(file.read(), trips.dataset)
    assert staged.rows == staged.source_rows == len(expected[trips.dataset.pickup]) > 0
    assert_values(staged, expected)


@needs_real_trips
def test_the_careful_path_gives_the_same_values(bench: Workbench, attempts: list[str]) -> None:
    trips = TripMonth("yellow", 2019, 3)
    text = gzip.decompress(real_month(3))
    fast = table(bench.stage(text, trips))
    header, _line_feed, body = text.partition(b"\n")
    for irregular in (header + b"\n\n" + body, text.replace(b"\n", b"\r\n") + b"\r\n"):
        staged = bench.stage(irregular, trips)
        assert (staged.rows, staged.source_rows, staged.rejected_rows) == (10_000, 10_000, 0)
        assert table(staged).equals(fast)
    assert attempts == ["fast", "careful", "careful"]
    quoted = b"\n".join(
        b",".join(b'"%s"' % value for value in line.split(b",")) for line in text.splitlines()
    )
    assert table(bench.stage(quoted, trips)).equals(fast)


# The staged file


def test_the_staged_file_has_the_declared_schema_and_says_what_it_is(bench: Workbench) -> None:
    landed = bench.land(HEADER + rows(3) + b"broken\n" + rows(300, first=3))
    staged = bench.stage(landed)
    schema = pq.read_schema(staged.path)
    assert [(field.name, field.type) for field in schema] == [
        (field.name, field.type) for field in MONTH.dataset.arrow_schema()
    ]
    assert staged.path == bench.staged / "fhvhv_tripdata_2019-02.parquet"
    assert staged.rejects_path == bench.staged / "fhvhv_tripdata_2019-02.rejects.parquet"
    missing = [name for name in MONTH.dataset.column if name not in COLUMNS]
    notes = metadata_of(staged)
    assert notes.pop("staged_at")
    assert notes == {
        "source": landed.url,
        "source_sha256": landed.sha256,
        "schema_version": staged_module.schema_version(MONTH),
        "file_month": "2019-02",
        "row_transforms": [],
        "new_columns": [],
        "missing_columns": missing,
        "source_rows": 304,
        "rejected_rows": 1,
    }
    assert staged.missing_columns == tuple(missing)
    codec = pq.read_metadata(staged.path).row_group(0).column(0).compression
    assert codec == "ZSTD"


def test_columns_go_by_name_whatever_their_order_and_spelling(bench: Workbench) -> None:
    reordered = b'"SR_FLAG",pulocationid, Pickup_Datetime ,HVFHS_license_num\n'
    staged = bench.stage(reordered + b"1,42,2019-02-03 00:00:00,HV0003\n")
    (values,) = table(staged).to_pylist()
    assert {name: str(value) for name, value in values.items() if value is not None} == {
        "SR_Flag": "1",
        "PULocationID": "42",
        "pickup_datetime": "2019-02-03 00:00:00",
        "hvfhs_license_num": "HV0003",
        "file_month": "2019-02-01",
    }


@pytest.mark.parametrize("count", [1, 2, 65_536, 65_537, 140_000])
def test_rows_keep_their_order_across_batches(count: int, bench: Workbench) -> None:
    staged = bench.stage(HEADER + rows(count))
    assert staged.rows == count
    assert numbers(staged) == list(range(count))


# Attempts


def test_whole_numbers_written_with_a_point_take_the_second_attempt(
    bench: Workbench, attempts: list[str]
) -> None:
    body = b"".join(row(number, zone=f"{number}.0", flag="") for number in range(50))
    staged = bench.stage(HEADER + body)
    assert attempts == ["fast", "text"]
    assert table(staged)["PULocationID"].to_pylist() == list(range(50))
    assert (staged.rows, staged.rejected_rows) == (50, 0)


@pytest.mark.parametrize("miles", ["inf", "-inf", "nan", "NaN", "1e309", "-1e309", "Infinity"])
def test_infinite_and_nan_are_found_although_polars_reads_them(
    miles: str, bench: Workbench, attempts: list[str]
) -> None:
    good = b"".join(row(number)[:-1] + b",1.5\n" for number in range(200))
    staged = bench.stage(MILES_HEADER + good + row(200)[:-1] + f",{miles}\n".encode())
    assert attempts[0] == "fast"
    assert attempts[-1] == "careful"
    assert numbers(staged) == list(range(200))
    ((line, _, reason),) = rejects(staged)
    assert line == 202
    assert reason.startswith(f"trip_miles: {miles!r} is ")


def test_gzip_padding_is_no_damage(bench: Workbench) -> None:
    staged = bench.stage(gzip.compress(HEADER + rows(10)) + b"\0" * 512 + gzip.compress(rows(10, first=10)))
    assert numbers(staged) == list(range(20))


ODD_VALUES = {
    "PULocationID": "|0|-0|+1| 1|1 |1.|1.0|1.50|.0|.|-|1e3|1_0|0x1|NaN|inf|true|9223372036854775807"
    "|9223372036854775808|-9223372036854775808|-9223372036854775809|99999999999999999999|٣|1\r|\xa01",
    "trip_miles": "|0|-0.0|+1| 1|1 |1.|.5|.|-|e5|1e3|1E+3|1e-400|1e309|nan|-nan|inf|infinity|1_0|0x1|1f|1d"
    "|0.1000000000000000055511151231257827|123456789012345678901234567890|٣|4.9e-324|1.7976931348623159e308",
    "pickup_datetime": "| |2019-02-01 00:00:60|2019-02-0100:00:00|2019-02-01  00:00:00|2019-2-1 0:0:0"
    "| 2019-02-01 00:00:00|2019-02-01 00:00:00 |2019- 2- 1 00:00:00|2019-02-01|19-02-01 00:00:00"
    "|2019-02-01 00:00:00.5|2019-02-01T00:00:00|2019-02-01 24:00:00|2019-02-29 00:00:00"
    "|2020-02-29 00:00:00|0000-01-01 00:00:00|0001-01-01 00:00:00|9999-12-31 23:59:59"
    "|9999-12-31 23:59:60|12019-02-01 00:00:00|+12019-02-01 00:00:00|-2019-02-01 00:00:00|NaT|null"
    "|2019-02-01 00:00|2019/02/01 00:00:00|2019-02-01 00:00:00Z|0",
    "hvfhs_license_num": "| |NULL|é|a\rb|\ufeff|'|#|\t|a;b|\\N",
}


@pytest.mark.parametrize(
    ("column", "value"),
    [(column, value) for column, values in ODD_VALUES.items() for value in values.split("|")],
)
def test_the_fast_path_takes_nothing_that_the_careful_path_refuses_and_reads_the_same(
    column: str, value: str, bench: Workbench, attempts: list[str]
) -> None:
    fields = dict(zip([*COLUMNS, "trip_miles"], [*row(1).decode().rstrip().split(","), "1.5"], strict=True))
    odd = ",".join((fields | {column: value}).values()).encode() + b"\n"
    good = row(0)[:-1] + b",0.5\n"
    fast = bench.stage(MILES_HEADER + good + odd, max_reject_ratio=1)
    values = table(fast)
    careful = bench.stage(MILES_HEADER + good + b"\n" + odd, max_reject_ratio=1)
    assert attempts[-1] == "careful"
    assert table(careful).equals(values)
    assert [reject[1:] for reject in rejects(fast)] == [reject[1:] for reject in rejects(careful)]
    assert fast.rows + fast.rejected_rows == 2


def test_a_short_and_a_long_line_cannot_make_up_for_each_other(bench: Workbench) -> None:
    short, long = b"HV0003,B1,2019-02-01 00:00:00\n", row(1)[:-1] + b",,,,\n"
    staged = bench.stage(HEADER + row(0) + short + long + row(2), max_reject_ratio=0.5)
    assert numbers(staged) == [0, 2]
    assert [(line, reason) for line, _, reason in rejects(staged)] == [
        (3, "has 3 fields where the header has 7"),
        (4, "has 11 fields where the header has 7"),
    ]


# Rejects


def broken_month() -> tuple[bytes, dict[int, tuple[bytes, str]]]:
    """10,000 rows, a hundredth of them broken: the text, and what is wrong by line."""
    kinds = [
        (b"HV1,B1,2019-02-01 00:00:00", "has 3 fields where the header has 7"),
        (row(1)[:-1] + b",,", "has 9 fields where the header has 7"),
        (row(1, zone="many")[:-1], "PULocationID: 'many' is not a whole number"),
        (row(1, zone="1.5")[:-1], "PULocationID: '1.5' is not a whole number"),
        (b"HV\xff" + row(1)[3:-1], "is not UTF-8: byte 0xff"),
        (b'"' + row(1)[:-1], "a quote is opened and never closed"),
        (b"HV\0" + row(1)[3:-1], "has a NUL byte, which no database takes in a text"),
        (row(1).replace(b"2019-02-01", b"2019-02-30")[:-1], "pickup_datetime: '2019-02-30 00:00:01' does"),
        (row(1).replace(b"2019-02-01 00:00:01", b"")[:-1], "pickup_datetime: is empty and must not be"),
        (b"garbage", "has 1 fields where the header has 7"),
    ]
    lines, bad = [HEADER], {}
    for number in range(10_000):
        if number % 100 == 37:
            raw, reason = kinds[number // 100 % len(kinds)]
            bad[len(lines) + 1] = raw, reason
            lines.append(raw + b"\n")
        else:
            lines.append(row(number))
    return b"".join(lines), bad


def test_what_does_not_fit_is_rejected_and_the_rest_is_loaded(bench: Workbench) -> None:
    content, bad = broken_month()
    packed = gzip.compress(content)
    staged = bench.stage(packed)
    assert (staged.source_rows, staged.rows, staged.rejected_rows) == (10_000, 9_900, 100)
    assert numbers(staged) == [number for number in range(10_000) if number % 100 != 37]
    assert table(staged)["PULocationID"].to_pylist() == numbers(staged)
    rejected = rejects(staged)
    assert [line for line, _, _ in rejected] == list(bad)
    for line, raw, reason in rejected:
        expected_raw, expected_reason = bad[line]
        assert raw == expected_raw.decode(errors="backslashreplace").replace("\0", "\\x00")
        assert reason.startswith(expected_reason)
    assert set(bench.files()) == {staged.path.name, "fhvhv_tripdata_2019-02.rejects.parquet"}
    again = bench.stage(packed)
    assert again.reused
    assert replace(again, reused=False, source=staged.source) == staged


def test_lines_within_a_quoted_text_are_no_rows_of_their_own(bench: Workbench) -> None:
    spanning = row(1).replace(b"HV0001", b'"HV\n\n0001"')
    staged = bench.stage(HEADER + row(0) + spanning + b"\n" + row(2) + b"x\n" + row(3), max_reject_ratio=0.2)
    assert (staged.source_rows, staged.rows, staged.rejected_rows) == (5, 4, 1)
    assert numbers(staged) == [0, 1, 2, 3]
    assert table(staged)["hvfhs_license_num"].to_pylist()[1] == "HV\n\n0001"
    assert rejects(staged) == [(8, "x", "has 1 fields where the header has 7")]
    again = bench.stage(HEADER + row(0) + spanning + b"\n" + row(2) + b"x\n" + row(3), max_reject_ratio=0.2)
    assert (again.reused, again.dropped_rows) == (True, 0)


def test_beyond_the_limit_the_month_fails_and_what_was_staged_stays(bench: Workbench) -> None:
    content, _ = broken_month()
    bench.stage(content)
    before = bench.files()
    with pytest.raises(TooManyRejects, match="more than the allowed 100 rows do not fit"):
        bench.stage(content.replace(row(0), b"one too many\n"))
    assert bench.files() == before
    assert len(before) == 2


def test_a_good_month_after_a_broken_one_leaves_no_rejects_behind(bench: Workbench) -> None:
    content, _ = broken_month()
    assert bench.stage(content).rejects_path
    staged = bench.stage(HEADER + rows(10))
    assert staged.rejects_path is None
    assert set(bench.files()) == {staged.path.name}


@pytest.mark.parametrize(
    ("good", "bad", "ratio", "passes"),
    [
        (99, 1, 0.01, True),
        (98, 2, 0.01, False),
        (99, 1, 0.0, False),
        (100, 0, 0.0, True),
        (1, 99, 0.99, True),
        (71, 29, 0.29, True),
    ],
)
def test_the_limit_is_a_share_of_the_rows(
    good: int, bad: int, ratio: float, *, passes: bool, bench: Workbench
) -> None:
    content = HEADER + rows(good) + b"x\n" * bad
    if passes:
        assert bench.stage(content, max_reject_ratio=ratio).rejected_rows == bad
    else:
        with pytest.raises(TooManyRejects):
            bench.stage(content, max_reject_ratio=ratio)


def test_blank_lines_are_not_rows_of_which_a_share_may_be_rejected(bench: Workbench) -> None:
    with pytest.raises(TooManyRejects, match="more than the allowed 1 rows"):
        bench.stage(HEADER + rows(98) + b"x\ny\n" + b"\n" * 100)


@pytest.mark.parametrize("content", [HEADER, HEADER[:-1], HEADER + b"\n", HEADER + b"\r\n\r\n"])
def test_a_file_without_rows_is_refused(content: bytes, bench: Workbench) -> None:
    with pytest.raises(TooManyRejects, match="the file has a header and no rows"):
        bench.stage(content, max_reject_ratio=1)
    assert bench.files() == {}


def test_a_file_without_a_good_row_is_refused_whatever_the_limit(bench: Workbench) -> None:
    with pytest.raises(TooManyRejects, match="line 2: has 1 fields"):
        bench.stage(HEADER + b"x\n" * 5, max_reject_ratio=1)
    assert bench.files() == {}


# Staged before


def untouched(path: Path) -> tuple[int, ...]:
    """What changes if somebody writes to a file, and not if somebody reads it."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_mode, stat.st_nlink


def test_the_same_bytes_are_staged_once(bench: Workbench) -> None:
    first = bench.stage(HEADER + rows(10))
    before = untouched(first.path)
    again = bench.stage(HEADER + rows(10))
    assert (first.reused, again.reused) == (False, True)
    assert untouched(first.path) == before
    assert again.source != first.source, "it says where it came from this time"
    assert replace(again, reused=False, source=first.source) == first


def test_force_stages_again(bench: Workbench) -> None:
    first = bench.stage(HEADER + rows(10))
    inode = first.path.stat().st_ino
    again = bench.stage(HEADER + rows(10), force=True)
    assert not again.reused
    assert again.path.stat().st_ino != inode
    assert table(again).equals(table(first))


def test_a_changed_source_is_staged_again(bench: Workbench) -> None:
    bench.stage(HEADER + rows(10))
    staged = bench.stage(HEADER + rows(10, first=1))
    assert not staged.reused
    assert numbers(staged) == list(range(1, 11))


def test_another_version_of_the_staging_stages_again(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.stage(HEADER + rows(10))
    monkeypatch.setattr(staged_module, "STAGING_VERSION", 99)
    staged = bench.stage(HEADER + rows(10))
    assert not staged.reused
    assert staged.schema_version.startswith("99.")


def test_a_lower_limit_refuses_what_was_staged_under_a_higher_one(bench: Workbench) -> None:
    content = HEADER + rows(9) + b"x\n"
    bench.stage(content, max_reject_ratio=0.1)
    assert bench.stage(content, max_reject_ratio=0.2).reused
    with pytest.raises(TooManyRejects):
        bench.stage(content, max_reject_ratio=0.05)


@pytest.mark.parametrize("now", [HEADER + rows(9), None], ids=["changed", "gone"])
def test_a_landed_file_that_is_not_the_verified_one_any_more_is_not_staged(
    now: bytes | None, bench: Workbench
) -> None:
    bench.stage(HEADER + rows(5))
    before, landed = bench.files(), bench.land(HEADER + rows(10))
    landed.path.unlink()
    if now:
        landed.path.write_bytes(now)
    with pytest.raises(SourceCorrupt, match="not the file that was verified any more; run it again with"):
        bench.stage(landed)
    assert bench.files() == before


def flip_a_bit(path: Path) -> None:
    """Of a value in the first column, by which nothing but the value changes; size and times stay."""
    content, stat = bytearray(path.read_bytes()), path.stat()
    content[pq.read_metadata(path).row_group(0).column(0).data_page_offset + 40] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    "damage",
    [
        lambda staged: staged.path.write_bytes(staged.path.read_bytes()[:-20]),
        lambda staged: staged.path.write_bytes(b""),
        lambda staged: staged.path.unlink(),
        lambda staged: flip_a_bit(staged.path),
        lambda staged: staged.path.with_suffix(CHECKSUM_SUFFIX).unlink(),
        lambda staged: staged.path.with_suffix(CHECKSUM_SUFFIX).write_bytes(b"\xff"),
        lambda staged: staged.rejects_path.unlink(),
        lambda staged: pq.write_table(table(staged).replace_schema_metadata(None), staged.path),
        lambda staged: pq.write_table(table(staged).replace_schema_metadata({"taxi_etl": "[]"}), staged.path),
        lambda staged: pq.write_table(table(staged).replace_schema_metadata({"taxi_etl": "{}"}), staged.path),
    ],
    ids=[
        "truncated",
        "empty",
        "gone",
        "a bit",
        "no checksum",
        "no such checksum",
        "rejects gone",
        "no notes",
        "other notes",
        "no such notes",
    ],
)
def test_what_is_damaged_is_staged_again(damage: Callable[[StagedMonth], object], bench: Workbench) -> None:
    content = HEADER + rows(200) + b"x\n"
    first = bench.stage(content)
    whole = table(first)
    damage(first)
    again = bench.stage(content)
    assert not again.reused
    assert table(again).equals(whole)
    assert [line for line, _, _ in rejects(again)] == [202]


# Options

PASSENGERS = b"tpep_pickup_datetime,passenger_count\n" + b"".join(
    f"2019-01-01 00:00:{at:02},{count}\n".encode() for at, count in enumerate("01 602 3")
).replace(b", \n", b",\n")


@pytest.mark.parametrize(
    ("transforms", "passengers"),
    [
        ((), [0, 1, None, 6, 0, 2, None, 3]),
        (("drop-zero-passengers",), [1, None, 6, 2, None, 3]),
        (("fill-missing-passengers",), [0, 1, 0, 6, 0, 2, 0, 3]),
        (("fill-missing-passengers", "drop-zero-passengers"), [1, 6, 2, 3]),
    ],
)
def test_row_transforms_are_applied_counted_and_part_of_what_was_staged(
    transforms: tuple[str, ...], passengers: list[int | None], bench: Workbench
) -> None:
    month = TripMonth("yellow", 2019, 1)
    plain = bench.stage(PASSENGERS, month)
    staged = bench.stage(PASSENGERS, month, row_transforms=transforms)
    assert staged.reused == (not transforms)
    assert table(staged)["passenger_count"].to_pylist() == passengers
    assert (staged.source_rows, staged.rows, staged.dropped_rows) == (8, len(passengers), 8 - len(passengers))
    again = bench.stage(PASSENGERS, month, row_transforms=transforms)
    assert replace(again, source=plain.source, reused=False) == replace(
        staged, source=plain.source, reused=False
    )
    assert again.reused


@pytest.mark.parametrize(
    ("names", "color", "message"),
    [
        (["no-such"], "yellow", "unknown transform 'no-such'; legal are drop-zero-passengers, fill-missing"),
        (["drop-zero-passengers"], "fhv", "needs passenger_count, which fhv does not have"),
    ],
)
def test_row_transforms_that_cannot_be_are_refused(names: list[str], color: str, message: str) -> None:
    columns = list(TripMonth(color, 2019, 1).dataset.column)
    with pytest.raises(UsageError, match=message):
        check_row_transforms(names, color, columns)
    check_row_transforms(["drop-zero-passengers"], "yellow", ["passenger_count"])


NEW = HEADER[:-1] + b",surge,Tip 2\n" + row(0)[:-1] + b",1.50,\n" + row(1)[:-1] + b",x y,01\n"


def test_undeclared_columns_fail_the_month_and_are_carried_along_if_asked_for(bench: Workbench) -> None:
    with pytest.raises(SchemaDrift, match=r"does not declare: surge, Tip 2; --allow-new-columns"):
        bench.stage(NEW)
    assert bench.files() == {}
    staged = bench.stage(NEW, allow_new_columns=True)
    assert staged.new_columns == ("surge", "Tip 2")
    loaded = table(staged)
    assert loaded.column_names[-3:] == ["surge", "Tip 2", "file_month"]
    assert loaded.schema.field("surge").type == pa.string()
    assert loaded["surge"].to_pylist() == ["1.50", "x y"]
    assert loaded["Tip 2"].to_pylist() == [None, "01"]
    assert bench.stage(NEW, allow_new_columns=True).reused
    before = bench.files()
    with pytest.raises(SchemaDrift):
        bench.stage(NEW)
    assert bench.files() == before


@pytest.mark.parametrize(
    "header", [b"a,b\n", b"SR_Flag\n", HEADER.replace(b",", b",,", 1), b"1,2019-02-01 00:00:00\n"]
)
def test_a_wrong_header_fails_the_month_and_names_the_file(header: bytes, bench: Workbench) -> None:
    with pytest.raises(SchemaDrift, match=r"\(file source-0\)"):
        bench.stage(header + rows(2), allow_new_columns=True)


# Whole or not at all


@pytest.mark.parametrize("more", [-1, 1])
@pytest.mark.parametrize("irregular", [b"", b"\n"], ids=["fast", "careful"])
def test_a_census_that_lies_fails_the_month_and_replaces_nothing(
    more: int, irregular: bytes, bench: Workbench
) -> None:
    bench.stage(HEADER + rows(5) + b"x\n", max_reject_ratio=0.5)
    before = bench.files()
    landed = bench.land(HEADER + irregular + rows(200))
    census = landed.census
    assert census
    lie = replace(census, lines=census.lines + more, separators=census.separators + more * 6)
    with pytest.raises(ReconciliationError, match=f"{200 + len(irregular) + more} were counted"):
        bench.stage(replace(landed, census=lie))
    assert bench.files() == before


def test_a_writer_that_loses_a_row_fails_the_month(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.stage(HEADER + rows(5))
    before = bench.files()
    write = staging.write_parquet

    def losing(path: Path, schema: pa.Schema, frames: Any, metadata: Any) -> WrittenParquet:  # noqa: ANN401
        written = write(path, schema, (frame.slice(1) for frame in frames), metadata)
        return replace(written, rows=written.rows + 1)

    monkeypatch.setattr(staging, "write_parquet", losing)
    with pytest.raises(ReconciliationError, match="9 in the file; nothing is published"):
        bench.stage(HEADER + rows(10))
    assert bench.files() == before


def test_a_careful_reader_that_loses_a_row_fails_the_month(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = staging.read_csv
    monkeypatch.setattr(staging, "read_csv", lambda *args, **options: read(*args, **options).slice(1))
    with pytest.raises(ReconciliationError, match="10 rows in the source, 9 read, 0 rejected"):
        bench.stage(HEADER + b"\n" + rows(10))
    assert bench.files() == {}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError, MemoryError])
@pytest.mark.parametrize("irregular", [b"", b"\n"], ids=["fast", "careful"])
def test_what_is_interrupted_leaves_everything_as_it_was(
    stop: type[BaseException], irregular: bytes, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.stage(HEADER + rows(200) + b"x\n")
    before = bench.files()
    calls = 0

    def stopping(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        nonlocal calls
        for frame in frames:
            calls += 1
            if calls > 1:
                raise stop("in the middle")
            yield frame

    def write(path: Path, schema: pa.Schema, frames: Any, metadata: Any) -> WrittenParquet:  # noqa: ANN401
        return original(path, schema, stopping(frames), metadata)

    original = staging.write_parquet
    monkeypatch.setattr(staging, "write_parquet", write)
    monkeypatch.setattr(staging, "BATCH_ROWS", 100)
    with pytest.raises(stop, match="in the middle"):
        bench.stage(HEADER + irregular + rows(1000))
    assert calls == 2
    assert bench.files() == before


KILLED = """
import os, sys
from pathlib import Path
from flows.staging import StagingOptions
from flows.staging import stage_file as staging
from flows.settings import Settings
from flows.sources import SourceFile, land
from transforms.trip_month import TripMonth

source, directory = map(Path, sys.argv[1:])
landed = land(SourceFile(source.as_uri(), source.name), directory / "raw", Settings(_env_file=None))
original = staging.write_parquet
def dying(frames):
    for number, frame in enumerate(frames):
        if number:
            os._exit(9)
        yield frame
def write(path, schema, frames, metadata):
    return original(path, schema, dying(frames), metadata)
staging.write_parquet, staging.BATCH_ROWS = write, 5_000
staging.stage(landed, TripMonth("fhvhv", 2019, 2), directory / "staged", StagingOptions())
"""


def test_what_a_killed_run_leaves_is_cleared_by_the_next(bench: Workbench) -> None:
    bench.stage(HEADER + rows(200) + b"x\n")
    before = bench.files()
    source = bench.directory / "killed.csv"
    source.write_bytes(HEADER + b"\n" + rows(20_000))
    killed = subprocess.run([sys.executable, "-c", KILLED, source, bench.directory], check=False)
    assert killed.returncode == 9
    left = {name: content for name, content in bench.files().items() if name not in before}
    assert left, "it was killed while it wrote"
    assert all(name.startswith(".") and name.endswith(".tmp") for name in left)
    assert {name: bench.files()[name] for name in before} == before
    assert bench.stage(HEADER + rows(200) + b"x\n").reused
    assert bench.files() == before


def test_scratch_of_other_runs_is_cleared_and_other_files_are_not(bench: Workbench) -> None:
    bench.staged.mkdir()
    stem = MONTH.stem
    scratch = [f".{stem}.parquet.999999.tmp", f".{stem}.csv.gz.999999.tmp", f".{stem}.rejects.parquet.1.tmp"]
    others = [".fhvhv_tripdata_2019-03.parquet.1.tmp", "notes.txt"]
    for name in (*scratch, *others):
        (bench.staged / name).write_text("x")
    bench.stage(HEADER + rows(2))
    assert set(bench.files()) == {f"{stem}.parquet", *others}


def test_a_full_disk_is_a_clear_error_and_leaves_everything_as_it_was(bench: Workbench) -> None:
    bench.stage(HEADER + rows(5))
    before = bench.files()
    landed = bench.land(HEADER + rows(100_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(LocalStorageError, match="--data-dir") as refused:
            bench.stage(landed)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(refused.value)
    assert bench.files() == before


def test_a_directory_that_cannot_be_made_is_an_os_error(bench: Workbench) -> None:
    bench.staged.write_text("in the way")
    with pytest.raises(OSError, match="staged"):
        bench.stage(HEADER + rows(5))


def test_a_writer_that_stops_reading_is_no_fault_of_the_frames() -> None:
    errors: list[BaseException] = []
    frame, schema = pl.DataFrame({"a": [1]}), pa.schema({"a": pa.int64()})
    assert list(parquet_writer._batches([], schema, errors)) == []
    batches = parquet_writer._batches([frame, frame], schema, errors)
    next(batches)
    batches.close()
    assert errors == []


def test_progress_is_reported_up_to_the_last_row(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "BATCH_ROWS", 100)
    landed, options = bench.land(HEADER + rows(1000)), StagingOptions()
    seen: list[tuple[int, int | None]] = []
    staging.stage(landed, MONTH, bench.staged, options, report=lambda *news: seen.append(news))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (1000, 1000)
    assert len(seen) > 1


# Texts and lines of any length


LIMIT = 2**14


def long_row(length: int, *, quoted: bool = False) -> bytes:
    text = b"x" * length
    return row(1).replace(b"B1", b'"%s"' % text if quoted else text)


@pytest.mark.parametrize("kind", ["fast", "careful", "quoted", "parquet"])
def test_a_text_may_be_as_long_as_the_limit_and_a_longer_one_is_a_reject(kind: str, bench: Workbench) -> None:
    lines = [row(0) * 20, *(long_row(LIMIT + more, quoted=kind == "quoted") for more in (0, 1)), row(2)]
    content = HEADER + (b"\n" if kind == "careful" else b"") + b"".join(lines)
    if kind == "parquet":
        content = bench.write_parquet(pa_csv.read_csv(io.BytesIO(content)))
    staged = bench.stage(content, max_reject_ratio=0.1)
    lengths = [len(base) for base in table(staged)["dispatching_base_num"].to_pylist()]
    assert lengths == [*[2] * 20, LIMIT, 2]
    ((line, raw, reason),) = rejects(staged)
    assert line == {"fast": 23, "careful": 24, "quoted": 23, "parquet": 22}[kind]
    assert reason == "dispatching_base_num: is longer than 16,384 bytes"
    assert len(raw) == LIMIT, "the text of a reject is cut too"


@pytest.mark.parametrize("megabytes", [3, 40])
@pytest.mark.parametrize("quote", [b"", b'"'], ids=["plain", "quoted"])
def test_a_line_of_any_length_is_a_reject_in_little_memory(
    megabytes: int, quote: bytes, tmp_path: Path
) -> None:
    source, target = tmp_path / "source.csv", tmp_path / "target.csv.gz"
    source.write_bytes(HEADER + row(1) + b"HV," + quote + b"x" * (megabytes * 2**20) + quote + b"\n" + row(2))
    tracemalloc.start()
    with Rejects(tmp_path / "rejects.parquet") as found:
        dataset = MONTH.dataset
        result = repair_csv(source, target, dataset, dataset.match_header(COLUMNS), found, most_rejects=10)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        found.commit()
    assert (result.good, result.rejected) == (2, 1)
    assert gzip.decompress(target.read_bytes()) == HEADER + row(1) + row(2)
    (reject,) = pl.read_parquet(tmp_path / "rejects.parquet").rows()
    assert (reject[0], reject[2]) == (3, "is longer than 1,048,576 bytes")
    assert peak < 16 * 2**20


def test_a_line_that_does_not_fit_into_memory_is_not_given_to_polars(bench: Workbench) -> None:
    landed = bench.land(HEADER + row(1) * 99 + long_row(9 * 2**20))
    assert landed.census
    assert landed.census.has_long_line
    assert not landed.census.is_regular(len(COLUMNS))
    assert bench.stage(landed).rejected_rows == 1


# Many rejects


def test_when_no_row_fits_that_is_what_is_said(bench: Workbench) -> None:
    with pytest.raises(TooManyRejects, match=r"none of the 3 rows fits.*line 2: has 1 fields") as refused:
        bench.stage(HEADER + b"x\n" * 3, max_reject_ratio=1.0)
    assert "allowed" not in str(refused.value)
    assert not bench.files()


@pytest.mark.parametrize(("limit", "most"), [("WAITING_REJECTS", 1000), ("WAITING_CHARACTERS", 2**20)])
def test_rejects_are_written_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(rejects_module, limit, most)
    path, raw = tmp_path / "rejects.parquet", "x" * 1000
    tracemalloc.start()
    with Rejects(path) as found:
        for number in range(20_000):
            found.add(Reject(number, raw + str(number), "because"))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8_000_000, "20 MB were added"
        assert not path.exists()
        found.commit()
    assert pl.read_parquet(path).rows() == [
        (number, raw + str(number), "because") for number in range(20_000)
    ]
    with Rejects(path) as found:
        found.add(Reject(1, "x", "because"))
    assert len(pl.read_parquet(path)) == 20_000, "not committed"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# The quality report


def test_a_report_that_cannot_be_computed_says_that_the_month_is_whole(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = bench.stage(HEADER + rows(100_000))
    monkeypatch.setattr(
        quality_report,
        "get_settings",
        lambda: Settings(_env_file=None).model_copy(update={"duckdb_memory_mb": 1}),
    )
    with pytest.raises(QualityReportFailed, match="the staged file is whole") as failed:
        report_quality(staged)
    assert "\n" not in str(failed.value)
    monkeypatch.undo()
    assert report_quality(staged).rows == 100_000
