"""One value, one meaning: whichever path reads it, fast, with numbers as text, careful, or from Parquet."""

from __future__ import annotations

import datetime as dt
import math
import random
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.torture import TORTURE

from flows.errors import TooManyRejects
from flows.staging.csv_reader import UNREADABLE, FastPathUnsupported, check_silent_misreads, read_csv
from flows.staging.parquet_writer import write_parquet
from transforms.cleaning import conform, csv_schema
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Workbench

MONTH = TripMonth("fhvhv", 2019, 2)
PICKUP = "pickup_datetime"
INTEGER, FLOAT, TIMESTAMP = "PULocationID", "trip_miles", "dropoff_datetime"
BAD = "no value"
GOOD, REFUSED = (600, 100) if TORTURE else (200, 40)
"""How many values the attempt that reads text is tried with."""


def integer(randoms: random.Random) -> str:
    number = randoms.choice(
        [
            0,
            7,
            265,
            randoms.randint(0, 2**63 + 5),
            2**63 + randoms.randint(-3, 3),
            10 ** randoms.randint(0, 25),
        ]
    )
    sign = randoms.choice(["", "", "", "-", "+", "--", "+-", " ", "- "])
    tail = randoms.choice(
        ["", "", ".", ".0", ".00000000000000", ".5", ".05", "e0", "E2", " ", "x", "_0", "\t"]
    )
    return sign + "0" * randoms.choice([0, 0, randoms.randint(0, 40)]) + str(number) + tail


def number(randoms: random.Random) -> str:
    whole = randoms.choice([str(randoms.randint(0, 10 ** randoms.randint(1, 30))), "0" * 25 + "12", ""])
    fraction = randoms.choice(["", ".", ".5", f".{randoms.randint(0, 10 ** randoms.randint(1, 25))}"])
    tail = randoms.choice(["", "", "", "e5", "E-3", "e400", "e-400", "e", "e+5", " ", "f", "_"])
    return randoms.choice(["", "", "-", "+", " ", "--"]) + whole + fraction + tail


def time(randoms: random.Random) -> str:
    """A time of which a character or two may have been changed."""
    text = list(f"{dt.datetime(1, 1, 1) + dt.timedelta(seconds=randoms.randint(0, 315537897599))}")  # noqa: DTZ001
    for _ in range(randoms.choice([0, 1, 1, 2])):
        text[randoms.randrange(len(text))] = randoms.choice("0123456789 -:+")
    return "".join(text)


def csv_of(name: str, texts: list[str], *, blank_line: bool = False) -> bytes:
    lines = [f"{PICKUP},{name}", *([""] if blank_line else []), *(f"2019-02-01 00:00:00,{t}" for t in texts)]
    return ("\n".join(lines) + "\n").encode()


def read_staged(bench: Workbench, content: bytes, name: str, rows: int, first: int) -> list[object]:
    """The value of each row; BAD for the rejects."""
    staged = bench.stage(content, MONTH, max_reject_ratio=1.0)
    rejects = pl.read_parquet(staged.rejects_path)["line"].to_list() if staged.rejects_path else []
    bad = {line - first for line in rejects}
    values = iter(pq.read_table(staged.path)[name].to_pylist())
    return [BAD if row in bad else next(values) for row in range(rows)]


def read_typed(file: Path, texts: list[str], name: str) -> list[object]:
    """Each number as Polars' own reader takes it; BAD where it would refuse the file."""
    match = MONTH.dataset.match_header([PICKUP, name])
    file.write_bytes(csv_of(name, texts))
    schema = csv_schema(MONTH.dataset, match)
    values = pl.read_csv(file, has_header=False, skip_lines=1, schema=schema, ignore_errors=True)[name]
    # Infinity is found in the statistics of the written file.
    return [BAD if value is None or value in (math.inf, -math.inf) else value for value in values]


def read_text(file: Path, texts: list[str], name: str) -> list[object]:
    """Each value as the attempt that trusts the file but not its numbers reads it; BAD: refused."""
    dataset, target = MONTH.dataset, file.with_suffix(".parquet")
    match = dataset.match_header([PICKUP, name])
    file.write_bytes(csv_of(name, texts))
    try:
        frame = read_csv(file, dataset, match, integers_as_text=True, fractional_seconds=False)
        batch = conform(frame, dataset, match, MONTH.first_day).collect(engine="streaming")
        written = write_parquet(target, dataset.arrow_schema(), [batch], {})
        check_silent_misreads(dataset, written.statistics)
        return batch[name].to_list()
    except (*UNREADABLE, FastPathUnsupported):
        if len(texts) == 1:
            return [BAD]
    half = len(texts) // 2
    return read_text(file, texts[:half], name) + read_text(file, texts[half:], name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "generate", "count"),
    [(INTEGER, integer, 10_000), (FLOAT, number, 2_000), (TIMESTAMP, time, 1_000)],
)
def test_a_value_is_the_same_on_every_path(
    name: str, generate: Callable[[random.Random], str], count: int, bench: Workbench, tmp_path: Path
) -> None:
    randoms = random.Random(name)
    texts = list(dict.fromkeys(generate(randoms) for _ in range(count)))
    careful = read_staged(bench, csv_of(name, texts, blank_line=True), name, len(texts), first=3)
    assert 0.2 < careful.count(BAD) / len(texts) < 0.8, "both kinds are tested"
    table = pa.table({PICKUP: [dt.datetime(2019, 2, 1)] * len(texts), name: texts})  # noqa: DTZ001
    parquet = read_staged(bench, bench.write_parquet(table), name, len(texts), first=1)
    pairs = list(zip(texts, careful, parquet, strict=True))
    if name != TIMESTAMP:  # in Parquet, only the times that the TLC writes are read
        assert [pair for pair in pairs if repr(pair[1]) != repr(pair[2])] == []
    else:
        assert [pair for pair in pairs if pair[2] not in (pair[1], BAD)] == []
    # The other attempts may refuse the file, then the careful one decides; what they take must be the same.
    known = dict(zip(texts, careful, strict=True))
    good, bad = ([text for text in texts if (known[text] == BAD) is is_bad] for is_bad in (False, True))
    tried = list(zip(texts, read_typed(tmp_path / "typed.csv", texts, name), strict=True))
    if name == TIMESTAMP:
        tried = []  # always read as text
    for some in (good[:GOOD], bad[:REFUSED]):  # one scan for each value that is refused
        tried += zip(some, read_text(tmp_path / "text.csv", some, name), strict=True)
    wrong = [pair for pair in tried if pair[1] != BAD and repr(pair[1]) != repr(known[pair[0]])]
    assert wrong == []


def test_a_year_of_three_digits_is_not_read_by_the_fast_path(bench: Workbench) -> None:
    """Polars takes a blank or a sign for a digit of the year."""
    good = "2019-02-01 00:00:00"
    for odd in (" 021-01-01 00:00:00", "-021-01-01 00:00:00", "+021-01-01 00:00:00"):
        with pytest.raises(TooManyRejects, match="is not a time"):
            bench.stage(csv_of(TIMESTAMP, [good] * 9 + [odd]), MONTH)
