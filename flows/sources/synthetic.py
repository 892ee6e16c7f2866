"""Synthetic trips in the CSV format of the real releases, with their defects, for use without a network.

Each value depends only on the file and the number of its row, because every random stream can be entered at
any row. So a block can be generated without the ones before it, and its size does not change the bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from transforms.dataset import TIMESTAMP_FORMAT, Column, ColumnType, Dataset

GENERATOR_VERSION = 1  # to be raised whenever the bytes change: landed files are then out of date
BLOCK_ROWS = 100_000  # generated at a time; about 10 MB of text

# Defects as (every, at): they are in the rows at, at + every, at + 2 * every, ..., counted from 0.
# NOTE: each `every` is a multiple of 100, and no two `at` are equal or adjacent. So no row has two
# defects, no copy is copied, and the first hundred rows have every defect.
STRAY_YEARS = (5_000, 11)  # pick-up in another year, 2001 to 2090: the clock was never set
STRAY_MONTHS = (2_000, 21)  # pick-up up to four weeks before or after the month
REVERSED_TRIPS = (4_000, 31)  # drop-off before pick-up
UNKNOWN_RATES = (1_000, 41)  # RatecodeID 99
DUPLICATES = (5_000, 51)  # a copy of the row above
ZERO_PASSENGERS = (100, 61)  # the driver entered no number
ZERO_DISTANCES = (200, 71)  # a fare, but no miles
NULL_LOCATIONS = (100, 81)  # fhv: the base reported neither zone
NEGATIVE_TWINS = (500, 91)  # yellow, green: the row above, its amounts negated by a refund
NULL_BLOCK_PERCENT = 2  # yellow, green: the last rows lack everything that only a meter knows
PANDAS_MONTHS = 3  # every third month writes nullable integers as pandas does: `1.0`
HOUR, DAY, YEAR = 3_600, 86_400, 365 * 86_400  # seconds
DEMAND = [7, 3, 10, 13, 15, 17, 20, 15]  # per cent of a day's pick-ups in each three hours
EXTRA_BY_HOUR = [50] * 6 + [0] * 10 + [100] * 4 + [50] * 4  # cents: night, day, rush, night
# Log-normal around 1.6, in hundredths; a table is faster than a logarithm per row.
MILES = [round(160 * 2.34 ** NormalDist().inv_cdf((i + 0.5) / 4096)) for i in range(4096)]
BUSY_ZONES = (48, 132, 142, 161, 162, 163, 170, 186, 230, 234, 236, 237)  # Midtown, JFK, ...
ZONES = dict.fromkeys(range(1, 266), 1) | dict.fromkeys(BUSY_ZONES, 20)
BASES = dict.fromkeys(("B00013", "B00254", "B00821", "B01145", "B01509", "B02563", "B02849"), 1)
# The same draw chooses from both tables of a pair: only cards tip, and each company has its own bases.
PAYMENT_TYPES = {1: 71, 2: 28, 3: 1}
TIP_PERCENT = {15: 7, 20: 30, 24: 20, 30: 9, 0: 34}
COMPANIES = {"HV0003": 70, "HV0005": 24, "HV0004": 4, "HV0002": 2}
COMPANY_BASES = {"B02764": 36, "B02872": 34, "B02510": 24, "B02800": 4, "B03035": 2}


def _lookup(table: Sequence[str | int | None], index: pl.Expr) -> pl.Expr:
    return pl.lit(pl.Series(table)).gather(index.cast(pl.UInt32))


def _choose(stream: str, weights: Mapping[Any, int]) -> pl.Expr:
    """A key of the mapping, chosen with its value as weight; equal streams make equal choices."""
    table = [key for key, weight in weights.items() for _ in range(weight)]
    return _lookup(table, pl.col(f"random {stream}") * len(table))


def _with_defect(clean: pl.Expr, defect: tuple[int, int], value: int | pl.Expr | None) -> pl.Expr:
    every, at = defect
    return pl.when(pl.col("row") % every == at).then(value).otherwise(clean)


# How each column is computed from those above it: amounts in cents, miles in hundredths, times in seconds
# since 1970. Entries that are not columns of the dataset only serve others.
TRIP = {
    "miles": _lookup(MILES, pl.col("random miles") * len(MILES)),
    "seconds": 60 + pl.col("miles") * 36 // _choose("speed", dict.fromkeys(range(6, 25), 1)),
    "dropoff": pl.col("pickup") + _with_defect(pl.col("seconds"), REVERSED_TRIPS, -pl.col("seconds")),
    "PULocationID": _choose("from", ZONES),
    "DOLocationID": _choose("to", ZONES),
}
PARTS = ("fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "improvement_surcharge")
TAXI = TRIP | {
    "VendorID": _choose("vendor", {1: 36, 2: 64}),
    "passenger_count": _with_defect(_choose("riders", {1: 75, 2: 15, 3: 5, 6: 5}), ZERO_PASSENGERS, 0),
    "RatecodeID": _with_defect(_choose("rate", {1: 96, 2: 3, 5: 1}), UNKNOWN_RATES, 99),
    "store_and_fwd_flag": _choose("stored", {"N": 99, "Y": 1}),
    "payment_type": _choose("payment", PAYMENT_TYPES),
    "trip_type": _choose("hail", {1: 97, 2: 3}),
    "trip_distance": _with_defect(pl.col("miles"), ZERO_DISTANCES, 0),
    "fare_amount": 250 + 50 * (pl.col("miles") // 20 + pl.col("seconds") // 180),
    "extra": _lookup(EXTRA_BY_HOUR, pl.col("pickup") % DAY // HOUR),
    "mta_tax": pl.lit(50),
    "tip_amount": pl.col("fare_amount") * _choose("payment", TIP_PERCENT) // 100,
    "tolls_amount": _choose("tolls", {0: 94, 612: 5, 1224: 1}),
    "ehail_fee": pl.lit(None, pl.Int64),
    "improvement_surcharge": pl.lit(30),
    "total_amount": pl.sum_horizontal(*PARTS, "congestion_surcharge"),
}
FOR_HIRE = TRIP | {
    "SR_Flag": _choose("shared", {None: 85, 1: 15}),
    "hvfhs_license_num": _choose("company", COMPANIES),
    "dispatching_base_num": _choose("company", COMPANY_BASES),
}
BASE_COLUMNS = ("dispatching_base_num", "Affiliated_base_number")
RECIPES: dict[str, dict[str, pl.Expr]] = {
    "yellow": {"congestion_surcharge": _choose("congestion", {0: 8, 250: 92})} | TAXI,
    "green": {"congestion_surcharge": _choose("congestion", {0: 70, 275: 30})} | TAXI,
    "fhvhv": FOR_HIRE,
    "fhv": FOR_HIRE | dict.fromkeys(BASE_COLUMNS, _choose("base", BASES)),
}

# The replacements in a broken line, by field. Some readers truncate or pad lines, or accept such bytes in a
# text, so each kind also spoils a number or the pick-up time, which every reader rejects.
_FLAWS: dict[str, dict[str, bytes | None]] = {
    "too few fields": {"pickup": b"2019-0", "zone": None},
    "too many fields": {"pickup": b"2019-01-31,08:15:00"},
    "text in a number": {"zone": b"unknown"},
    "impossible timestamp": {"pickup": b"2019-02-30 08:15:00"},
    "not UTF-8": {"text": b"\xff\xfe", "zone": b"\xff"},
    "NUL byte": {"text": b"N\0", "zone": b"N\0"},
    "unterminated quote": {"zone": b'"N'},
}
BROKEN_KINDS: tuple[str, ...] = tuple(_FLAWS)


class _File(NamedTuple):
    dataset: Dataset
    columns: list[Column]
    year: int
    month: int
    rows: int
    null_from: int  # number of the first row of the null block
    seed: int
    broken_rows: int


def synthetic_csv(
    dataset: Dataset, year: int, month: int, *, rows: int, seed: int = 0, broken_rows: int = 0
) -> Iterator[bytes]:
    """Generate an uncompressed CSV file, one block at a time.

    Args:
        dataset: yellow, green, fhv or fhvhv.
        year: year of the file.
        month: month of the file, through which its pick-ups are spread.
        rows: number of data lines, including broken ones.
        seed: another seed gives other trips.
        broken_rows: number of broken lines, evenly spread, with `BROKEN_KINDS` in turn; at most all lines.

    Returns:
        The blocks, each ending in a line feed, the first one starting with the header. The same arguments
        give the same bytes.

    Raises:
        ValueError: unknown dataset, or a number out of range.
    """
    if dataset.name not in RECIPES or not 1 <= month <= 12 or rows < 1 or min(seed, broken_rows) < 0:
        raise ValueError(
            f"no synthetic trips for {dataset.name}, {month=}, {rows=}, {seed=}, {broken_rows=}: legal "
            f"are {', '.join(RECIPES)}, month 1 to 12, rows from 1, seed and broken_rows from 0"
        )
    columns = [c for c in dataset.columns if (c.since or "") <= "2021-07"]  # the last release
    nulls = rows * NULL_BLOCK_PERCENT // 100 if "total_amount" in dataset.column else 0
    file = _File(dataset, columns, year, month, rows, rows - nulls, seed, min(broken_rows, rows))
    return _blocks(file)  # not a generator itself, which would raise only when it is read


def _blocks(file: _File) -> Iterator[bytes]:
    head = ",".join(column.name for column in file.columns).encode() + b"\n"
    if file.dataset.name == "fhv":  # spelled like this in the releases
        head = head.replace(b"dropoff", b"dropOff").replace(b"LocationID", b"locationID")
    for low in range(0, file.rows, BLOCK_ROWS):
        high = min(low + BLOCK_ROWS, file.rows)
        text = _trips(file, low, high).write_csv(
            include_header=False, datetime_format=TIMESTAMP_FORMAT, quote_style="never"
        )
        yield head + _with_broken_lines(file, text.encode(), low, high)
        head = b""


def _trips(file: _File, low: int, high: int) -> pl.DataFrame:
    """Rows `low` to `high - 1`: the columns of the dataset, in the types in which they are written."""
    numbers = np.arange(low, high)
    twin, duplicate = (numbers % every == at for every, at in (NEGATIVE_TWINS, DUPLICATES))
    twin &= "total_amount" in file.dataset.column
    row = pl.Series("row", numbers - (twin | duplicate))  # a copy has the values of the row above
    recipe = {"pickup": _pickup(file)} | RECIPES[file.dataset.name]
    roots = {root for value in recipe.values() for root in value.meta.root_names()}
    streams = [root for root in sorted(roots) if root.startswith("random ")]
    trips = pl.LazyFrame({"row": row, "sign": np.where(twin, -1, 1)})
    trips = trips.with_columns(_uniform(file, stream, low, row) for stream in streams)
    for name, value in recipe.items():
        trips = trips.with_columns(value.alias(name))
    return trips.select(_as_written(file, c).alias(c.name) for c in file.columns).collect()


def _uniform(file: _File, stream: str, low: int, row: pl.Series) -> pl.Series:
    """A random number in [0, 1) for each row, which depends only on the row's number."""
    names = (zlib.crc32(name.encode()) for name in (file.dataset.name, stream))
    bits = np.random.PCG64(np.random.SeedSequence((file.seed, file.year, file.month, *names)))
    bits.advance(low)  # the first number is that of the row above, whose copy may be in this block
    return pl.Series(stream, np.random.Generator(bits).random(len(row) + 1)).gather(row - low + 1)


def _pickup(file: _File) -> pl.Expr:
    """Pick-ups in order, to within three hours, over the month, and once more over the null block."""
    first = np.datetime64(f"{file.year:04}-{file.month:02}", "M")
    start, end = (
        int(month.astype("M8[s]").astype(np.int64)) for month in (first, first + np.timedelta64(1, "M"))
    )
    row, null_from, parts = pl.col("row"), file.null_from, (end - start) // DAY * 100
    nulls_gone = (row - null_from) * parts // (file.rows - null_from)
    # Integers, because the last bit of a quotient would depend on the processor and on the block.
    gone = pl.when(row < null_from).then(row * parts // null_from).otherwise(nulls_gone)
    eighth = _lookup(np.repeat(range(8), DEMAND).tolist(), gone % 100)
    of_day = (eighth + pl.col("random time")) * (DAY // 8)
    usual = start + gone // 100 * DAY + of_day.cast(pl.Int64)
    weeks = ((pl.col("random stray") - 0.5) * 56 * DAY).floor().cast(pl.Int64)
    nearby = weeks + pl.when(weeks < 0).then(start).otherwise(end)
    years = {year - file.year: 1 for year in range(2001, 2091) if year != file.year}
    far = usual + _choose("stray", years) * YEAR
    return _with_defect(_with_defect(usual, STRAY_MONTHS, nearby), STRAY_YEARS, far)


def _as_written(file: _File, column: Column) -> pl.Expr:
    dataset, name = file.dataset, column.name
    value = pl.col({dataset.pickup: "pickup", dataset.dropoff: "dropoff"}.get(name, name))
    if column.type is ColumnType.TIMESTAMP:
        return pl.from_epoch(value)
    if column.type is ColumnType.FLOAT:
        signed = value if name == "trip_distance" else value * pl.col("sign")
        return (signed / 100).round(2)  # otherwise 82 becomes 0.8200000000000001
    if not name.endswith("LocationID"):  # all these are known only to a meter
        value = pl.when(pl.col("row") < file.null_from).then(value)
    elif dataset.name == "fhv":
        value = _with_defect(value, NULL_LOCATIONS, None)
    else:
        return value
    as_pandas = column.type is ColumnType.INTEGER and file.month % PANDAS_MONTHS == 0
    return value.cast(pl.Float64) if as_pandas else value


def _with_broken_lines(file: _File, text: bytes, low: int, high: int) -> bytes:
    rows, broken = file.rows, file.broken_rows
    if not broken:
        return text
    names = [column.name for column in file.columns]
    text_names = (column.name for column in file.columns if column.type is ColumnType.TEXT)
    named = {"pickup": file.dataset.pickup, "zone": "PULocationID", "text": next(text_names)}
    lines = text.split(b"\n")
    for turn in range(low * broken // rows, high * broken // rows + 1):
        row = (2 * turn + 1) * rows // (2 * broken)  # the middle of its share of the file
        if low <= row < high:
            fields: list[bytes | None] = [*lines[row - low].split(b",")]
            for field, value in _FLAWS[BROKEN_KINDS[turn % len(BROKEN_KINDS)]].items():
                fields[names.index(named[field])] = value
            lines[row - low] = b",".join(field for field in fields if field is not None)
    return b"\n".join(lines)
