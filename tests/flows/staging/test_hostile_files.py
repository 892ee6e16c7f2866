"""Any file: every line is a row with exactly its values, or a reject with its reason, or the month fails.

The files are made of pieces whose meaning is known when they are made, so that nothing here parses anything.
"""

from __future__ import annotations

import gzip
import itertools
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.odd_values import BAD, FLOATS, GARBAGE, INTEGERS, TEXTS, TIMESTAMPS, Line, at
from support.torture import TORTURE, note_sum

from flows.errors import SchemaDrift, SourceCorrupt, TaxiError, TooManyRejects
from flows.settings import Settings
from flows.sources import SourceFile, land
from flows.staging import StagingOptions, stage
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Iterator

MONTH = TripMonth("yellow", 2021, 1)
EXAMPLES = 1_000 if TORTURE else 30
patient = pytest.mark.timeout(1800 if TORTURE else 300)
COLUMNS = {
    "VendorID": INTEGERS,
    "tpep_pickup_datetime": TIMESTAMPS,
    "store_and_fwd_flag": TEXTS,
    "passenger_count": INTEGERS,
    "total_amount": FLOATS,
}
ENDS = [b"\n", b"\r\n"]
SPELLINGS = [str, str.upper, str.lower, " {}".format, "{} ".format, '"{}"'.format]


@st.composite
def files(draw: st.DrawFn) -> tuple[list[str], bytes, list[Line]]:
    """Column names, header line, and lines."""
    names = draw(st.permutations(list(COLUMNS)))[: draw(st.integers(2, len(COLUMNS)))]
    if "tpep_pickup_datetime" not in names:
        names[0] = "tpep_pickup_datetime"
    spelled = [draw(st.sampled_from(SPELLINGS))(name) for name in names]
    header = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + ",".join(spelled).encode()
    mostly_good = draw(st.booleans())
    lines = [draw(_line(names, mostly_good)) for _ in range(draw(st.integers(1, 12)))]
    if draw(st.booleans()):
        lines.insert(draw(st.integers(0, len(lines))), Line(header + b"\n", BAD))
    return names, header + draw(st.sampled_from(ENDS)), lines


@st.composite
def _line(draw: st.DrawFn, names: list[str], mostly_good: bool) -> Line:
    end = draw(st.sampled_from(ENDS))
    kind = draw(st.sampled_from(["fields"] * 8 + ["blank", "garbage", "ragged"]))
    if kind == "blank":
        return Line(draw(st.sampled_from([b"", b" ", b"\t"])) + end, None)
    if kind == "garbage":
        return Line(draw(st.sampled_from(GARBAGE)) + end, BAD)
    choices = {
        name: [pair for pair in COLUMNS[name] if pair[1] is not BAD] if mostly_good else COLUMNS[name]
        for name in names
    }
    fields = [draw(st.sampled_from(choices[name])) for name in names]
    # A text with a comma that is not quoted is ragged, and its line a reject as any other.
    text = ",".join(written for written, _ in fields).encode()
    row = BAD if any(value is BAD for _, value in fields) else tuple(value for _, value in fields)
    # With such a comma, a field less would make the line whole.
    if kind == "ragged" and not any(value is BAD and "," in written for written, value in fields):
        cut = draw(st.sampled_from([text + b",1", text.rpartition(b",")[0]]))
        return Line(cut + end, BAD)
    return Line(text + end, row)


def _same(loaded: object, expected: object) -> bool:
    if isinstance(expected, float) and isinstance(loaded, float):
        return loaded == expected and math.copysign(1, loaded) == math.copysign(1, expected)
    return type(loaded) is type(expected) and loaded == expected


tried = {"files": 0, "lines": 0, "rows": 0, "rejects": 0, "months refused": 0}


@pytest.fixture(scope="module", autouse=True)
def figures(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the figures of the long mode; the tests may be spread over several processes."""
    yield
    note_sum(
        "hostile files", tried, int(worker_id.removeprefix("gw").replace("master", "0")), tmp_path_factory
    )


@patient
@given(parts=files(), packed=st.booleans(), final_newline=st.booleans())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@example(
    parts=(
        ["tpep_pickup_datetime", "VendorID"],
        b"tpep_pickup_datetime,VendorID\n",
        [Line(b"soon,1\n", BAD)],
    ),
    packed=False,
    final_newline=False,
)
@example(  # once, such a line passed for the file's way of ending its lines
    parts=(
        ["VendorID", "tpep_pickup_datetime"],
        b"VendorID,tpep_pickup_datetime\n",
        [Line(b",,,,,,,,\n", BAD), Line(b"1,2021-01-31 23:59:59\n", (1, at("2021-01-31 23:59:59")))],
    ),
    packed=False,
    final_newline=False,
)
@example(  # looked at by themselves, for the fraction and the letter: the sign of zero, and the line end
    parts=(
        ["tpep_pickup_datetime", "total_amount", "store_and_fwd_flag"],
        b"tpep_pickup_datetime,total_amount,store_and_fwd_flag\r\n",
        [Line("2021-01-01 00:00:00.5,-0.0,é\r\n".encode(), (at("2021-01-01 00:00:00.500000"), -0.0, "é"))],
    ),
    packed=True,
    final_newline=True,
)
def test_every_line_is_its_row_or_a_reject(
    parts: tuple[list[str], bytes, list[Line]], packed: bool, final_newline: bool
) -> None:
    names, header, lines = parts
    text = header + b"".join(line.text for line in lines)
    if not final_newline:
        text = text.removesuffix(b"\n").removesuffix(b"\r") if lines[-1].row is not None else text
    starts = itertools.accumulate((line.lines for line in lines[:-1]), initial=2)
    bad = [start for start, line in zip(starts, lines, strict=True) if line.row is BAD]
    rows = [line.row for line in lines if line.row is not BAD and line.row is not None]
    tried["files"] += 1
    tried["lines"] += len(lines)
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "source"
        source.write_bytes(gzip.compress(text) if packed else text)
        try:
            landed = land(
                SourceFile(source.as_uri(), "trips.csv"), Path(directory) / "raw", Settings(_env_file=None)
            )
            staged = stage(landed, MONTH, Path(directory) / "staged", StagingOptions(max_reject_ratio=1.0))
        except TooManyRejects:
            assert not rows
            tried["months refused"] += 1
            return
        loaded = [tuple(row[name] for name in names) for row in pq.read_table(staged.path).to_pylist()]
        rejected = pl.read_parquet(staged.rejects_path).to_dicts() if staged.rejects_path else []
    tried["rows"] += len(loaded)
    tried["rejects"] += len(rejected)
    # Nothing is lost and nothing is made up: the rows are exactly the good lines, the rejects the others.
    assert len(loaded) == len(rows) == staged.rows
    for row, expected in zip(loaded, rows, strict=True):
        assert all(map(_same, row, expected)), (row, expected)
    # The second line of a bad record that a quote spans is a reject of its own.
    assert {reject["line"] for reject in rejected} >= set(bad)
    spanned = sum(line.lines - 1 for line in lines if line.row is BAD)
    assert len(bad) <= len(rejected) <= len(bad) + spanned
    assert all(reject["reason"] for reject in rejected)
    assert staged.source_rows == staged.rows + staged.rejected_rows


@patient
@given(content=st.binary(max_size=300), with_header=st.booleans())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_end_in_a_clear_error_or_in_counts_that_agree(content: bytes, with_header: bool) -> None:
    header = (
        b"VendorID,tpep_pickup_datetime,store_and_fwd_flag\n1,2021-01-01 00:00:00,N\n" if with_header else b""
    )
    tried["files"] += 1
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "source"
        source.write_bytes(header + content)
        try:
            landed = land(
                SourceFile(source.as_uri(), "trips.csv"), Path(directory) / "raw", Settings(_env_file=None)
            )
            staged = stage(landed, MONTH, Path(directory) / "staged", StagingOptions(max_reject_ratio=1.0))
        except TaxiError:
            assert not list(Path(directory).rglob("*.parquet"))
            tried["months refused"] += 1
            return
        assert staged.source_rows == staged.rows + staged.rejected_rows
        assert staged.rows >= 1
        first = pq.read_table(staged.path).slice(0, 1).to_pylist()[0]
        assert not with_header or (first["VendorID"], first["store_and_fwd_flag"]) == (1, "N")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (b"", SourceCorrupt, "empty"),
        (b"VendorID,tpep_pickup_datetime\n", TooManyRejects, "a header and no rows"),
        (b"VendorID,tpep_pickup_datetime\n\n\r\n \n", TooManyRejects, "a header and no rows"),
        (b"VendorID,vendorid,tpep_pickup_datetime\n1,2,2021-01-01 00:00:00\n", SchemaDrift, "a column twice"),
        (
            b"VendorID,surge,tpep_pickup_datetime\n1,2,2021-01-01 00:00:00\n",
            SchemaDrift,
            "does not declare: surge",
        ),
        (b"VendorID,fare_amount\n1,2\n", SchemaDrift, "required columns are missing: tpep_pickup_datetime"),
        (b"VendorID\rtpep_pickup_datetime\r1\r", SourceCorrupt, "bare carriage return"),
        ("VendorID,tpep_pickup_datetime\n1,2\n".encode("utf-16"), SourceCorrupt, "not text"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_one_clear_line(
    text: bytes, error: type[TaxiError], message: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(text)
    with pytest.raises(error, match=message) as refused:
        stage(
            land(SourceFile(source.as_uri(), "trips.csv"), tmp_path / "raw", Settings(_env_file=None)),
            MONTH,
            tmp_path / "staged",
            StagingOptions(),
        )
    assert "\n" not in str(refused.value)
