"""Synthetic trips in the releases' own CSV format, dirt included, for machines without a network.

A value depends on the file and on the number of its row alone: every random stream is entered at
the row number. So a block is made without those before it, and its size changes nothing.
"""

from __future__ import annotations

import zlib
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from transforms.dataset import TIMESTAMP_FORMAT, Column, ColumnType, Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GENERATOR_VERSION = 1  # raised whenever the bytes change: files that have landed are stale then
BLOCK_ROWS = 100_000  # made at a time; about 10 MB of text

# Dirt as (every, at): it is in the rows at, at + every, at + 2 * every, ..., counted from 0.
# NOTE: each `every` is a multiple of 100, and no two `at` are equal or neighbours. So no row has two
# kinds, no copy is copied, and a hundred rows have every kind.
STRAY_YEARS = (5_000, 11)  # pick-up years away, 2001 to 2090, by a clock that was never set
STRAY_MONTHS = (2_000, 21)  # pick-up up to four weeks before or after the month
REVERSED_TRIPS = (4_000, 31)  # drop-off before pick-up
UNKNOWN_RATES = (1_000, 41)  # RatecodeID 99
DUPLICATES = (5_000, 51)  # the row above once more
ZERO_PASSENGERS = (100, 61)  # the driver entered none
ZERO_DISTANCES = (200, 71)  # a fare, but no miles
NULL_LOCATIONS = (100, 81)  # fhv: the base reported neither zone
NEGATIVE_TWINS = (500, 91)  # yellow, green: the row above, its amounts negated by a refund
NULL_BLOCK_PERCENT = 2  # yellow, green: the last rows, without what only a meter knows
PANDAS_MONTHS = 3  # every third month has its nullable integers as pandas writes them: `1.0`
HOUR, DAY, YEAR = 3_600, 86_400, 365 * 86_400  # seconds
DEMAND = [7, 3, 10, 13, 15, 17, 20, 15]  # per cent of a day's pick-ups in each three hours
EXTRA_BY_HOUR = [50] * 6 + [0] * 10 + [100] * 4 + [50] * 4  # cents: night, day, rush, night
# Log-normal around 1.6, in hundredths; a look-up costs less than a logarithm per row.
MILES = [round(160 * 2.34 ** NormalDist().inv_cdf((i + 0.5) / 4096)) for i in range(4096)]
BUSY_ZONES = (48, 132, 142, 161, 162, 163, 170, 186, 230, 234, 236, 237)  # Midtown, JFK, ...
ZONES = dict.fromkeys(range(1, 266), 1) | dict.fromkeys(BUSY_ZONES, 20)
BASES = dict.fromkeys(("B00013", "B00254", "B00821", "B01145", "B01509", "B02563", "B02849"), 1)
# One draw chooses from both of a pair: only cards tip; Uber, Lyft, Via and Juno have their own bases.
PAYMENT_TYPES = {1: 71, 2: 28, 3: 1}
TIP_PERCENT = {15: 7, 20: 30, 24: 20, 30: 9, 0: 34}
COMPANIES = {"HV0003": 70, "HV0005": 24, "HV0004": 4, "HV0002": 2}
COMPANY_BASES = {"B02764": 36, "B02872": 34, "B02510": 24, "B02800": 4, "B03035": 2}


def _entry(table: Sequence[str | int | None], place: pl.Expr) -> pl.Expr:
    return pl.lit(pl.Series(table)).gather(place.cast(pl.UInt32))


def _one_of(stream: str, weights: Mapping[Any, int]) -> pl.Expr:
    """A key of the mapping, as likely as its value says; the same stream makes the same choices."""
    table = [key for key, weight in weights.items() for _ in range(weight)]
    return _entry(table, pl.col(f"random {stream}") * len(table))


def _but(usual: pl.Expr, dirt: tuple[int, int], value: int | pl.Expr | None) -> pl.Expr:
    return pl.when(pl.col("row") % dirt[0] == dirt[1]).then(value).otherwise(usual)


# How each column comes about, from those above it: amounts in cents, miles in hundredths, times in
# seconds since 1970. Entries that no dataset declares only help others.
TRIP = {
    "miles": _entry(MILES, pl.col("random miles") * len(MILES)),
    "seconds": 60 + pl.col("miles") * 36 // _one_of("speed", dict.fromkeys(range(6, 25), 1)),
    "dropoff": pl.col("pickup") + _but(pl.col("seconds"), REVERSED_TRIPS, -pl.col("seconds")),
    "PULocationID": _one_of("from", ZONES),
    "DOLocationID": _one_of("to", ZONES),
}
PARTS = ("fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "improvement_surcharge")
TAXI = TRIP | {
    "VendorID": _one_of("vendor", {1: 36, 2: 64}),
    "passenger_count": _but(_one_of("riders", {1: 75, 2: 15, 3: 5, 6: 5}), ZERO_PASSENGERS, 0),
    "RatecodeID": _but(_one_of("rate", {1: 96, 2: 3, 5: 1}), UNKNOWN_RATES, 99),
    "store_and_fwd_flag": _one_of("stored", {"N": 99, "Y": 1}),
    "payment_type": _one_of("payment", PAYMENT_TYPES),
    "trip_type": _one_of("hail", {1: 97, 2: 3}),
    "trip_distance": _but(pl.col("miles"), ZERO_DISTANCES, 0),
    "fare_amount": 250 + 50 * (pl.col("miles") // 20 + pl.col("seconds") // 180),
    "extra": _entry(EXTRA_BY_HOUR, pl.col("pickup") % DAY // HOUR),
    "mta_tax": pl.lit(50),
    "tip_amount": pl.col("fare_amount") * _one_of("payment", TIP_PERCENT) // 100,
    "tolls_amount": _one_of("tolls", {0: 94, 612: 5, 1224: 1}),
    "ehail_fee": pl.lit(None, pl.Int64),
    "improvement_surcharge": pl.lit(30),
    "total_amount": pl.sum_horizontal(*PARTS, "congestion_surcharge"),
}
FOR_HIRE = TRIP | {
    "SR_Flag": _one_of("shared", {None: 85, 1: 15}),
    "hvfhs_license_num": _one_of("company", COMPANIES),
    "dispatching_base_num": _one_of("company", COMPANY_BASES),
}
BASE_COLUMNS = ("dispatching_base_num", "Affiliated_base_number")
RECIPES: dict[str, dict[str, pl.Expr]] = {
    "yellow": {"congestion_surcharge": _one_of("congestion", {0: 8, 250: 92})} | TAXI,
    "green": {"congestion_surcharge": _one_of("congestion", {0: 70, 275: 30})} | TAXI,
    "fhvhv": FOR_HIRE,
    "fhv": FOR_HIRE | dict.fromkeys(BASE_COLUMNS, _one_of("base", BASES)),
}

# What replaces which fields of a broken line. Readers that cut lines off, fill them up, or take
# such bytes in a text exist: so each kind spoils a number or the pick-up as well, for everybody.
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
    """The blocks of an uncompressed CSV file, made one at a time; the header is in the first.

    Args:
        dataset: yellow, green, fhv or fhvhv.
        year: of the file.
        month: of the file; its pick-ups run through it.
        rows: data lines in all, broken ones included.
        seed: another seed gives other trips.
        broken_rows: how many lines are broken, at most all: evenly spread, `BROKEN_KINDS` in turn.

    Returns:
        The same bytes for the same arguments; every block ends with a line feed.

    Raises:
        ValueError: no such dataset or month, or an impossible number.
    """
    if dataset.name not in RECIPES or not 1 <= month <= 12 or rows < 1 or min(seed, broken_rows) < 0:
        raise ValueError(
            f"no synthetic trips for {dataset.name}, {month=}, {rows=}, {seed=}, {broken_rows=}: legal "
            f"are {', '.join(RECIPES)}, month 1 to 12, rows from 1, seed and broken_rows from 0"
        )
    columns = [c for c in dataset.columns if (c.since or "") <= "2021-07"]  # the last release
    nulls = rows * NULL_BLOCK_PERCENT // 100 if "total_amount" in dataset.column else 0
    file = _File(dataset, columns, year, month, rows, rows - nulls, seed, min(broken_rows, rows))
    return _blocks(file)  # a function of its own: a generator would not raise until it is read


def _blocks(file: _File) -> Iterator[bytes]:
    head = ",".join(column.name for column in file.columns).encode() + b"\n"
    if file.dataset.name == "fhv":  # the releases spell it so
        head = head.replace(b"dropoff", b"dropOff").replace(b"LocationID", b"locationID")
    for low in range(0, file.rows, BLOCK_ROWS):
        high = min(low + BLOCK_ROWS, file.rows)
        text = _trips(file, low, high).write_csv(
            include_header=False, datetime_format=TIMESTAMP_FORMAT, quote_style="never"
        )
        yield head + _with_broken_lines(file, text.encode(), low, high)
        head = b""


def _trips(file: _File, low: int, high: int) -> pl.DataFrame:
    """Rows `low` to `high - 1` in the types in which they are written."""
    numbers = np.arange(low, high)
    twin, duplicate = (numbers % every == at for every, at in (NEGATIVE_TWINS, DUPLICATES))
    twin &= "total_amount" in file.dataset.column
    row = pl.Series("row", numbers - (twin | duplicate))  # a copy takes its original's values
    recipe = {"pickup": _pickup(file)} | RECIPES[file.dataset.name]
    roots = {root for value in recipe.values() for root in value.meta.root_names()}
    streams = [root for root in sorted(roots) if root.startswith("random ")]
    trips = pl.LazyFrame({"row": row, "sign": np.where(twin, -1, 1)})
    trips = trips.with_columns(_uniform(file, stream, low, row) for stream in streams)
    for name, value in recipe.items():
        trips = trips.with_columns(value.alias(name))
    return trips.select(_as_written(file, c).alias(c.name) for c in file.columns).collect()


def _uniform(file: _File, stream: str, low: int, row: pl.Series) -> pl.Series:
    """A number in [0, 1) for each row, always the same for its number."""
    names = (zlib.crc32(name.encode()) for name in (file.dataset.name, stream))
    bits = np.random.PCG64(np.random.SeedSequence((file.seed, file.year, file.month, *names)))
    bits.advance(low)  # one row early: the row above the first may have its copy here
    return pl.Series(stream, np.random.Generator(bits).random(len(row) + 1)).gather(row - low + 1)


def _pickup(file: _File) -> pl.Expr:
    """Through the month, in order within three hours, and once more in the null block."""
    first = np.datetime64(f"{file.year:04}-{file.month:02}", "M")
    start, end = (
        int(month.astype("M8[s]").astype(np.int64)) for month in (first, first + np.timedelta64(1, "M"))
    )
    row, null_from, parts = pl.col("row"), file.null_from, (end - start) // DAY * 100
    nulls_gone = (row - null_from) * parts // (file.rows - null_from)
    # Whole numbers: the last bit of a quotient would depend on the processor and the block.
    gone = pl.when(row < null_from).then(row * parts // null_from).otherwise(nulls_gone)
    eighth = _entry(np.repeat(range(8), DEMAND).tolist(), gone % 100)
    of_day = (eighth + pl.col("random time")) * (DAY // 8)
    usual = start + gone // 100 * DAY + of_day.cast(pl.Int64)
    weeks = ((pl.col("random stray") - 0.5) * 56 * DAY).floor().cast(pl.Int64)
    nearby = weeks + pl.when(weeks < 0).then(start).otherwise(end)
    years = {year - file.year: 1 for year in range(2001, 2091) if year != file.year}
    far = usual + _one_of("stray", years) * YEAR
    return _but(_but(usual, STRAY_MONTHS, nearby), STRAY_YEARS, far)


def _as_written(file: _File, column: Column) -> pl.Expr:
    dataset, name = file.dataset, column.name
    value = pl.col({dataset.pickup: "pickup", dataset.dropoff: "dropoff"}.get(name, name))
    if column.type is ColumnType.TIMESTAMP:
        return pl.from_epoch(value)
    if column.type is ColumnType.FLOAT:
        signed = value if name == "trip_distance" else value * pl.col("sign")
        return (signed / 100).round(2)  # the division alone makes 0.8200000000000001 out of 82
    if not name.endswith("LocationID"):  # the rest is what only a meter knows
        value = pl.when(pl.col("row") < file.null_from).then(value)
    elif dataset.name == "fhv":
        value = _but(value, NULL_LOCATIONS, None)
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
