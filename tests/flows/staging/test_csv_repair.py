"""The careful path: which lines fit, which do not and why, and that no line is lost on the way."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import random
import re
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flows.errors import TooManyRejects
from flows.staging import csv_repair
from flows.staging.csv_repair import UNTERMINATED, RepairResult, repair_csv
from flows.staging.csv_validation import InvalidLine, line_pattern, regular_line
from flows.staging.rejects import Rejects
from transforms.cleaning import csv_schema, parse_text
from transforms.column import Column, ColumnType
from transforms.dataset import Dataset

if TYPE_CHECKING:
    from pathlib import Path

TINY = Dataset(
    name="tiny",
    title="A dataset with a column of every type",
    first_month="2019-01",
    pickup="pickup",
    dropoff="dropoff",
    columns=(
        Column("id", ColumnType.INTEGER, "whole number"),
        Column("pickup", ColumnType.TIMESTAMP, "when", required=True),
        Column("fare", ColumnType.FLOAT, "Fare", unit="USD"),
        Column("flag", ColumnType.TEXT, "Y or N"),
        Column("dropoff", ColumnType.TIMESTAMP, "until when"),
    ),
)
MATCH = TINY.match_header(list(TINY.column))
HEADER = b"id,pickup,fare,flag,dropoff\n"
GOOD = b"1,2019-01-01 00:46:40,9.5,N,2019-01-01 00:53:20"
ALL = 10**9

Row = tuple[Any, ...]


class Repaired:
    """What came of a text: the accounts, the regular file, and its values as the fast reader sees them."""

    def __init__(self, content: bytes, directory: Path, most_rejects: int = ALL) -> None:
        source, target = directory / "source.csv", directory / "target.csv.gz"
        source.write_bytes(content)
        rejects = directory / "rejects.parquet"
        with Rejects(rejects) as found:
            self.repair: RepairResult = repair_csv(
                source, target, TINY, MATCH, found, most_rejects=most_rejects
            )
            found.commit()
        self.rejects: list[tuple[int, str, str]] = pl.read_parquet(rejects).rows() if found.count else []
        self.text = gzip.decompress(target.read_bytes())
        self.rows = read_with_polars(self.text)

    @property
    def reasons(self) -> list[str]:
        return [reason for _, _, reason in self.rejects]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return self.repair.good, self.repair.blank, self.repair.continued, self.repair.rejected


def read_with_polars(text: bytes) -> list[Row]:
    schema = csv_schema(TINY, MATCH, integers_as_text=True)
    frame = pl.scan_csv(text, has_header=False, skip_lines=1, schema=schema, raise_if_empty=False)
    return parse_text(frame, TINY, MATCH, fractional_seconds=True).collect(engine="streaming").rows()


def lines(*texts: bytes) -> bytes:
    return HEADER + b"".join(text + b"\n" for text in texts)


def line(number: str = "1", pickup: str = "2019-01-01 00:46:40", fare: str = "9.5", flag: str = "N") -> bytes:
    return f"{number},{pickup},{fare},{flag},2019-01-01 00:53:20".encode()


GOOD_ROW = (
    1,
    dt.datetime.fromisoformat("2019-01-01 00:46:40"),
    9.5,
    "N",
    dt.datetime.fromisoformat("2019-01-01 00:53:20"),
)

# Every reason


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"1,2019-01-01 00:46:40", "has 2 fields where the header has 5"),
        (GOOD + b",", "has 6 fields where the header has 5"),
        (b",,,,", "pickup: is empty and must not be"),
        (b"1, ,1,N,", "pickup: is empty and must not be"),
        (line(number="x"), "id: 'x' is not a whole number"),
        (line(number="1.50"), "id: '1.50' is not a whole number"),
        (line(number="1e3"), "id: '1e3' is not a whole number"),
        (line(number="."), "id: '.' is not a whole number"),
        (line(number="--1"), "id: '--1' is not a whole number"),
        (line(number="1_000"), "id: '1_000' is not a whole number"),
        (line(number="\N{ARABIC-INDIC DIGIT ONE}"), "id: '\N{ARABIC-INDIC DIGIT ONE}' is not a whole number"),
        (line(number="9223372036854775808"), "id: '9223372036854775808' does not fit into 64 bits"),
        (line(number="-9223372036854775809"), "id: '-9223372036854775809' does not fit into 64 bits"),
        pytest.param(
            line(number="9" * 5000), f"id: '{'9' * 40}' does not fit into 64 bits", id="5000 digits"
        ),
        (line(fare="x"), "fare: 'x' is not a number"),
        (line(fare="1.5.5"), "fare: '1.5.5' is not a number"),
        (line(fare="-"), "fare: '-' is not a number"),
        (line(fare="nan"), "fare: 'nan' is not a number"),
        (line(fare="inf"), "fare: 'inf' is not a number"),
        (line(fare="-Infinity"), "fare: '-Infinity' is not a number"),
        (line(fare="1e309"), "fare: '1e309' is out of range"),
        (line(fare="-1e309"), "fare: '-1e309' is out of range"),
        (line(fare="9" * 310), f"fare: '{'9' * 40}' is out of range"),
        (line(pickup="2019-02-30 00:00:00"), "pickup: '2019-02-30 00:00:00' does not exist (day "),
        (line(pickup="2019-02-29 00:00:00"), "pickup: '2019-02-29 00:00:00' does not exist (day "),
        (line(pickup="1900-02-29 00:00:00"), "pickup: '1900-02-29 00:00:00' does not exist (day "),
        (line(pickup="2019-04-31 00:00:00"), "pickup: '2019-04-31 00:00:00' does not exist (day "),
        (line(pickup="2019-13-01 00:00:00"), "pickup: '2019-13-01 00:00:00' does not exist (month "),
        (line(pickup="2019-01-01 24:00:00"), "pickup: '2019-01-01 24:00:00' does not exist (hour "),
        (line(pickup="2019-01-01 00:60:00"), "pickup: '2019-01-01 00:60:00' does not exist (minute "),
        (line(pickup="2019-01-01 00:00:61"), "pickup: '2019-01-01 00:00:61' does not exist (second "),
        (line(pickup="0000-01-01 00:00:00"), "pickup: '0000-01-01 00:00:00' does not exist (year "),
        (line(pickup="9999-12-31 23:59:60"), "pickup: '9999-12-31 23:59:60' does not exist (date "),
        (line(pickup="12019-01-01 00:00:00"), "pickup: '12019-01-01 00:00:00' is not a time such as "),
        (line(pickup="19-01-01 00:00:00"), "pickup: '19-01-01 00:00:00' is not a time such as "),
        (line(pickup="2019-01-01"), "pickup: '2019-01-01' is not a time such as "),
        (line(pickup="01/31/2019 23:59:59"), "pickup: '01/31/2019 23:59:59' is not a time such as "),
        (line(pickup="2019-01-01 00:00:00.1234567"), "pickup: '2019-01-01 00:00:00.1234567' is not a time"),
        (line(pickup="2019-01-01 00:00:00+00:00"), "pickup: '2019-01-01 00:00:00+00:00' is not a time such"),
        (b"1,2019-01-01 00:46:40,1,\0,", "has a NUL byte, which no database takes in a text"),
        (b"1,2019-01-01 00:46:40,1,\xff,", "is not UTF-8: byte 0xff"),
        (b"1,2019-01-01 00:46:40,1,\xc3,", "is not UTF-8: byte 0xc3"),
        (b'1,2019-01-01 00:46:40,1,"N"x,', "bad quoting: "),
        (b"id,pickup,fare,flag,dropoff", "id: 'id' is not a whole number"),
    ],
)
def test_a_line_that_does_not_fit_is_rejected_with_its_number_its_text_and_the_reason(
    bad: bytes, reason: str, tmp_path: Path
) -> None:
    repaired = Repaired(lines(GOOD, GOOD, bad, GOOD), tmp_path)
    ((number, raw, why),) = repaired.rejects
    assert (number, raw) == (4, _shown(bad))
    assert why.startswith(reason)
    assert repaired.rows == [GOOD_ROW] * 3
    assert repaired.counts == (3, 0, 0, 1)


def test_bytes_that_are_no_text_are_shown_as_escapes(tmp_path: Path) -> None:
    ((_, raw, _),) = Repaired(lines(GOOD, b"a\xff\xc3b\0"), tmp_path).rejects
    assert raw == "a\\xff\\xc3b\\x00"


def _shown(text: bytes) -> str:
    return text.decode(errors="backslashreplace").replace("\0", "\\x00")


# Values that fit


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("", None),
        (" ", None),
        ("7", 7),
        (" 7 ", 7),
        ("+1", 1),
        ("-1", -1),
        ("-0", 0),
        ("007", 7),
        ("1.", 1),
        ("1.0", 1),
        ("-12.000", -12),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775807.0", 2**63 - 1),
        ('"5"', 5),
    ],
)
def test_whole_numbers(number: str, value: int | None, tmp_path: Path) -> None:
    repaired = Repaired(lines(line(number=number)), tmp_path)
    assert (repaired.reasons, repaired.rows) == ([], [(value, *GOOD_ROW[1:])])


@pytest.mark.parametrize(
    "fare",
    [
        "0",
        "-0.0",
        "+1",
        "1.",
        ".5",
        "-.5",
        "1e3",
        "1E-3",
        "1.7976931348623157e308",
        "5e-324",
        "1e-400",
        "0.1",
        "123456789.123456789",
        "9" * 308,
        "0." + "3" * 400,
        ' "2.5" '.strip(),
        " 2.5 ",
    ],
)
def test_numbers_are_read_as_python_reads_them(fare: str, tmp_path: Path) -> None:
    repaired = Repaired(lines(line(fare=fare)), tmp_path)
    (row,) = repaired.rows
    assert str(row[2]) == str(float(fare.strip('"'))), "by text, so that -0.0 is not 0.0"
    assert repaired.reasons == []


@pytest.mark.parametrize(
    ("pickup", "iso"),
    [
        ("2020-02-29 00:00:00", "2020-02-29 00:00:00"),
        ("2000-02-29 12:00:00", "2000-02-29 12:00:00"),
        ("2019-12-31 23:59:59", "2019-12-31 23:59:59"),
        ("0001-01-01 00:00:00", "0001-01-01 00:00:00"),
        ("9999-12-31 23:59:59", "9999-12-31 23:59:59"),
        ("2019-01-01 00:00:00.5", "2019-01-01 00:00:00.500000"),
        ("2019-01-01 00:00:00.000001", "2019-01-01 00:00:00.000001"),
        ("9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"),
        ("2019-01-01T00:00:01", "2019-01-01 00:00:01"),
        ("2019-1-2 3:4:5", "2019-01-02 03:04:05"),
        ("2019- 1- 2  3: 4: 5", "2019-01-02 03:04:05"),
        ("2019-01-02 03:04", "2019-01-02 03:04:00"),
        ("2016-12-31 23:59:60", "2017-01-01 00:00:00"),
        (" 2019-01-01 00:00:00 ", "2019-01-01 00:00:00"),
        ('"2019-01-01 00:00:00"', "2019-01-01 00:00:00"),
    ],
)
def test_timestamps(pickup: str, iso: str, tmp_path: Path) -> None:
    repaired = Repaired(lines(line(pickup=pickup)), tmp_path)
    assert repaired.reasons == []
    assert [row[1] for row in repaired.rows] == [dt.datetime.fromisoformat(iso)]


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("", None),
        ('""', None),
        ('"N"', "N"),
        (" N ", " N "),
        ('"a,b"', "a,b"),
        ('"say ""hi"""', 'say "hi"'),
        ('a"b"c', 'a"b"c'),
        ("naïve", "naïve"),
        ("a\rb", "a\rb"),
        ("tab\there", "tab\there"),
        ("=1+1", "=1+1"),
        ("NULL", "NULL"),
    ],
)
def test_texts_are_kept_as_they_are(flag: str, value: str | None, tmp_path: Path) -> None:
    repaired = Repaired(lines(line(flag=flag)), tmp_path)
    assert (repaired.reasons, [row[3] for row in repaired.rows]) == ([], [value])


# Lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("last", [True, False], ids=["final newline", "no final newline"])
@pytest.mark.parametrize("bad", [b"", b"x", b'"'], ids=["good", "bad", "quote"])
def test_line_ends(end: bytes, *, last: bool, bad: bytes, tmp_path: Path) -> None:
    content = end.join([HEADER.rstrip(), GOOD, GOOD, *([bad] if bad else [])]) + (end if last else b"")
    repaired = Repaired(content, tmp_path)
    assert repaired.rows == [GOOD_ROW] * 2
    assert [(number, raw) for number, raw, _ in repaired.rejects] == ([(4, bad.decode())] if bad else [])


@pytest.mark.parametrize("blank", [b"", b"\r", b"  ", b"\t", b" \r"])
def test_blank_lines_are_no_rows_but_count_as_lines(blank: bytes, tmp_path: Path) -> None:
    repaired = Repaired(lines(blank, GOOD, blank, blank, b"x", GOOD, blank), tmp_path)
    assert repaired.counts == (2, 4, 0, 1)
    assert repaired.rejects[0][:2] == (6, "x")
    assert repaired.rows == [GOOD_ROW] * 2


@pytest.mark.parametrize("content", [HEADER, HEADER.rstrip(), HEADER + b"\n\n"])
def test_a_file_without_rows(content: bytes, tmp_path: Path) -> None:
    repaired = Repaired(content, tmp_path)
    assert (repaired.repair.good, repaired.rows, repaired.rejects) == (0, [], [])
    assert repaired.repair.lines == content.count(b"\n") - content.startswith(HEADER)


def test_the_header_is_carried_over_as_it_is(tmp_path: Path) -> None:
    header = b'\xef\xbb\xbf"ID" ,PickUp,FARE,flag,dropoff\r\n'
    assert Repaired(header + GOOD, tmp_path).text == header + GOOD + b"\n"


def test_lines_that_fit_are_written_as_they_are_and_others_made_regular(tmp_path: Path) -> None:
    odd = b' 1 ,2019-1-1 0:46:40,+9.50,"a ""b""",2019-01-01T00:53:20'
    repaired = Repaired(lines(GOOD + b"\r", odd), tmp_path)
    assert repaired.text == lines(GOOD + b"\r", b'1,2019-01-01 00:46:40,9.5,"a ""b""",2019-01-01 00:53:20')


# Quotes


def test_a_quoted_text_may_span_lines(tmp_path: Path) -> None:
    spanning = b'1,2019-01-01 00:46:40,9.5,"one\n\ntwo, ""three""\r\nfour",'
    repaired = Repaired(lines(GOOD, spanning, b"x", GOOD), tmp_path)
    assert repaired.counts == (3, 0, 3, 1)
    assert [row[3] for row in repaired.rows] == ["N", 'one\n\ntwo, "three"\r\nfour', "N"]
    assert repaired.rejects[0][:2] == (7, "x"), "counted in lines of the file, not in records"


@pytest.mark.parametrize(("size", "good"), [(10_000, 1), (20_000, 0)])
def test_a_text_that_goes_on_for_too_long_is_a_quote_that_was_never_closed(
    size: int, good: int, tmp_path: Path
) -> None:
    spanning = b'1,2019-01-01 00:46:40,9.5,"' + b"text\n" * (size // 5) + b'",'
    repaired = Repaired(lines(GOOD, spanning, GOOD), tmp_path)
    assert repaired.repair.good == 2 + good
    assert (repaired.rejects[:1] and repaired.rejects[0][::2]) == ([] if good else (3, UNTERMINATED))
    assert repaired.repair.lines == 3 + size // 5


STRAY = b'1,2019-01-01 00:46:40,9.5,"N,2019-01-01 00:53:20'


@pytest.mark.parametrize(
    ("content", "bad"),
    [
        ([STRAY, GOOD, GOOD], {2: UNTERMINATED}),
        ([GOOD, GOOD, STRAY], {4: UNTERMINATED}),
        ([GOOD, STRAY, GOOD, b"x", GOOD], {3: UNTERMINATED, 5: "has 1 fields"}),
        ([STRAY, GOOD, b"", GOOD, STRAY, GOOD], {2: UNTERMINATED, 6: UNTERMINATED}),
        ([b'"', GOOD, GOOD], {2: UNTERMINATED}),
        ([b'"', GOOD, b'"', GOOD, b'"'], {2: UNTERMINATED, 4: UNTERMINATED, 6: UNTERMINATED}),
        ([b'"', b'"', b'"', GOOD], {2: UNTERMINATED, 3: UNTERMINATED, 4: UNTERMINATED}),
        # Together they would be one record of the right width, with two good lines in its text.
        ([STRAY, GOOD, GOOD, STRAY.replace(b'"N', b'"')], {2: UNTERMINATED, 5: UNTERMINATED}),
        ([STRAY, *[GOOD] * 400, STRAY, GOOD], {2: UNTERMINATED, 403: UNTERMINATED}),
        ([STRAY, *[line(flag="é")] * 400, STRAY, GOOD], {2: UNTERMINATED, 403: UNTERMINATED}),
        ([b'1,2019-01-01 00:46:40,9.5,N",', GOOD], {2: UNTERMINATED}),
    ],
)
def test_a_stray_quote_costs_its_own_line_and_no_other(
    content: list[bytes], bad: dict[int, str], tmp_path: Path
) -> None:
    repaired = Repaired(lines(*content), tmp_path)
    assert {number: reason[: len(bad.get(number, ""))] for number, _, reason in repaired.rejects} == bad
    assert [raw for _, raw, _ in repaired.rejects] == [content[number - 2].decode() for number in bad]
    assert repaired.repair.good == sum(text in (GOOD, line(flag="é")) for text in content)
    assert repaired.repair.continued == 0
    assert repaired.repair.lines == len(content)


# Too many rejects


def test_the_limit_is_the_last_number_that_is_allowed(tmp_path: Path) -> None:
    content = lines(GOOD, b"x", GOOD, b"y")
    assert Repaired(content, tmp_path, most_rejects=2).repair.good == 2
    with pytest.raises(TooManyRejects, match="more than the allowed 1 rows"):
        Repaired(content, tmp_path, most_rejects=1)


def test_the_error_names_the_first_lines_and_the_setting(tmp_path: Path) -> None:
    with pytest.raises(TooManyRejects) as refused:
        Repaired(lines(b"x" * 5000, b"1,,,,", GOOD), tmp_path, most_rejects=1)
    message = str(refused.value)
    assert "line 2: has 1 fields where the header has 5" in message
    assert "line 3: pickup: is empty" in message
    assert "TAXI_MAX_REJECT_RATIO" in message
    assert len(message) < 500


def test_an_unterminated_quote_at_the_end_counts_towards_the_limit(tmp_path: Path) -> None:
    with pytest.raises(TooManyRejects):
        Repaired(lines(GOOD, STRAY), tmp_path, most_rejects=0)


def test_progress_is_reported_in_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_repair, "READ_BYTES", 100)
    (tmp_path / "source.csv").write_bytes(lines(*[GOOD] * 10, b"", b"x"))
    seen: list[int] = []
    with Rejects(tmp_path / "rejects.parquet") as rejects:
        repair = repair_csv(
            tmp_path / "source.csv",
            tmp_path / "target.csv.gz",
            TINY,
            MATCH,
            rejects,
            most_rejects=1,
            report=lambda done, _: seen.append(done),
        )
    assert seen == sorted(seen)
    assert seen[-1] == repair.lines == 12
    assert len(seen) > 3


# Blocks

NASTY = [
    GOOD,
    b"",
    GOOD + b"\r",
    STRAY,
    GOOD,
    b"x",
    b'1,2019-01-01 00:46:40,9.5,"one\ntwo",',
    b"\xff" * 50,
    line(number="1.0"),
    b'"',
    GOOD,
    b"1,2019-01-01 00:46:40,9.5,\0,",
    line(flag="é" * 30),
    b"\r",
]


@pytest.mark.parametrize("last", [b"", b"\n"], ids=["no final newline", "final newline"])
def test_where_a_block_ends_changes_nothing(
    last: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = lines(*NASTY)[:-1] + last
    whole = Repaired(content, tmp_path)
    assert whole.counts == (7, 2, 1, 5)
    for size in range(1, len(content) + 1):
        monkeypatch.setattr(csv_repair, "READ_BYTES", size)
        split = Repaired(content, tmp_path)
        assert (split.repair, split.text) == (whole.repair, whole.text), size


@pytest.mark.parametrize("members", [1, 3])
def test_a_gzipped_source_is_read_whole(members: int, tmp_path: Path) -> None:
    content = lines(*NASTY)
    size = len(content) // members + 1
    packed = b"".join(gzip.compress(content[at : at + size]) for at in range(0, len(content), size))
    assert Repaired(packed, tmp_path).repair == Repaired(content, tmp_path).repair


# Properties: any lines

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


@st.composite
def good_lines(draw: st.DrawFn) -> bytes:
    """A line that fits, in one of the many ways to write its values."""
    number = draw(st.sampled_from(["", "0", "-7", "+3", "1.0", "42.", "9223372036854775807"]))
    fare = draw(
        st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.sampled_from(["", ".5", "-0.0"])
    )
    timestamps = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)).map(  # noqa: DTZ001
        lambda timestamp: timestamp.isoformat(sep=draw(st.sampled_from(" T")))
    )
    flag = draw(st.text(PRINTABLE + "é\N{TAXI}", max_size=5))
    if '"' in flag or "," in flag or draw(st.booleans()):
        flag = '"' + flag.replace('"', '""') + '"'
    end = draw(st.sampled_from(["", "\r"]))
    return f"{number},{draw(timestamps)},{fare},{flag},{draw(timestamps)}{end}".encode()


@st.composite
def mutated_lines(draw: st.DrawFn) -> bytes:
    """A good line with some bytes put in, taken out or changed."""
    text = bytearray(draw(good_lines()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        put = draw(
            st.sampled_from([b"", b",", b'"', b"\0", b"\xff", b" ", b"9", b"-", b".", b"e", b":", b'""'])
        )
        text[at : at + draw(st.integers(0, 2))] = put
    return bytes(text)


@st.composite
def any_lines(draw: st.DrawFn) -> list[tuple[bytes, bool]]:
    """Lines, each with whether it is valid."""
    good = good_lines().map(lambda text: (text, True))
    bad = (mutated_lines() | st.binary(max_size=40)).map(lambda text: (text.replace(b"\n", b""), False))
    return draw(st.lists(st.one_of(good, bad, st.just((b"", False)), st.just((b'"', False))), max_size=8))


def convert(text: str, kind: ColumnType) -> object:
    """A value by Python's own conversions; NOTE: of a text that is known to fit."""
    if kind is ColumnType.TEXT:
        return text or None
    text = text.strip()
    if not text:
        return None
    if kind is ColumnType.INTEGER:
        return int(text.partition(".")[0])
    if kind is ColumnType.FLOAT:
        return float(text)
    year, month, day, hour, minute, second, fraction = [*re.findall(r"\d+", text), "0", "0"][:7]
    midnight = dt.datetime(int(year), int(month), int(day))  # noqa: DTZ001
    return midnight + dt.timedelta(
        hours=int(hour), minutes=int(minute), seconds=int(second), microseconds=int(fraction.ljust(6, "0"))
    )


def read_record(record: bytes) -> Row:
    text = record.decode().removesuffix("\r")
    values = next(csv.reader(io.StringIO(text, newline=""), strict=True)) if '"' in text else text.split(",")
    return tuple(convert(value, column.type) for value, column in zip(values, TINY.columns, strict=True))


def read_what_was_not_rejected(texts: list[bytes], rejected: set[int]) -> list[Row]:
    """Another reading of the same lines: leave out the rejects, join what quotes join, convert."""
    rows, open_record = [], b""
    for number, text in enumerate(texts, 2):
        if number in rejected:
            assert not open_record
            continue
        record = open_record + text
        open_record = b""
        if record.count(b'"') % 2:
            open_record = record + b"\n"
        elif record.strip():
            rows.append(read_record(record))
    assert not open_record
    return rows


@given(generated=any_lines(), final_newline=st.booleans(), size=st.sampled_from([7, 64, 2**20]))
@example(
    generated=[(STRAY, False), (GOOD, True), (STRAY.replace(b'"N', b'"'), False)], final_newline=True, size=7
)
@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
def test_every_line_is_accounted_for_and_every_value_is_right(
    generated: list[tuple[bytes, bool]],
    *,
    final_newline: bool,
    size: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # Good lines come first and are the most: trailing commas in most lines would be the file's own habit.
    generated = [(GOOD, True)] * 9 + generated
    content = lines(*(text for text, _ in generated))
    content = content if final_newline else content.removesuffix(b"\n")
    texts = content.split(b"\n")[1:]
    texts = texts[:-1] if texts and not texts[-1] else texts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_repair, "READ_BYTES", size)
        repaired = Repaired(content, tmp_path_factory.getbasetemp())

    assert repaired.repair.lines == len(texts)
    assert repaired.repair.good == len(repaired.rows)
    numbers = [number for number, _, _ in repaired.rejects]
    assert numbers == sorted(set(numbers))
    for number, raw, reason in repaired.rejects:
        assert reason
        assert raw == _shown(texts[number - 2].rstrip(b"\r"))
        assert not generated[number - 2][1], "a good line was rejected"
    assert repr(repaired.rows) == repr(read_what_was_not_rejected(texts, set(numbers)))


NEAR_VALUES = {
    ColumnType.INTEGER: [
        "",
        "0",
        "-7",
        "+1",
        "1.",
        "1.0",
        "1.5",
        "-",
        ".0",
        "9" * 18,
        "9" * 19,
        "9" * 21,
        "1e3",
        "٣",
    ],
    ColumnType.FLOAT: [
        "",
        "0",
        "-0.0",
        "1.",
        ".5",
        ".",
        "-.5",
        "+1",
        "1e3",
        "9" * 300,
        "9" * 301,
        "nan",
        "0." + "1" * 400,
    ],
    ColumnType.TEXT: ["", "N", "a b", "!#$~", "é", "a\tb", 'a"b', '""', "a,b", "\x7f", "\0", "\r"],
    ColumnType.TIMESTAMP: [
        "",
        "2019-01-01 00:00:00.5",
        "2019-1-1 00:00:00",
        "2019-01-01T00:00:00",
        " 2019-01-01 00:00:00",
    ],
}


def near_value(kind: ColumnType, randoms: random.Random) -> str:
    """A value at the border of what its type takes."""
    if kind is ColumnType.TIMESTAMP and randoms.random() < 0.9:
        year = randoms.choice(["0000", "0001", "0100", "1900", "2000", "2019", "2020", "2100", "9999"])
        month, day, hour = randoms.randint(0, 13), randoms.randint(26, 32), randoms.randint(0, 24)
        timestamp = (
            f"{year}-{month:02}-{day:02} {hour:02}:{randoms.randint(0, 60):02}:{randoms.randint(0, 60):02}"
        )
        return timestamp if randoms.random() < 0.9 else f'"{timestamp}"'
    if kind is ColumnType.INTEGER and randoms.random() < 0.2:
        return str(randoms.randint(-(2**65), 2**65))
    if kind is ColumnType.FLOAT and randoms.random() < 0.2:
        return repr(randoms.uniform(-1e6, 1e6))
    value = randoms.choice(NEAR_VALUES[kind])
    return value if randoms.random() < 0.8 else f'"{value}"'


def near_line(randoms: random.Random) -> bytes:
    """A good line with one or two values from the border."""
    values = GOOD.decode().split(",")
    for at in randoms.choices(range(len(values)), k=2):
        values[at] = near_value(TINY.columns[at].type, randoms)
    return (",".join(values) + randoms.choice(["", "", "\r"])).encode()


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_the_pattern_takes_no_line_that_the_slow_way_refuses_and_reads_the_same(seed: int) -> None:
    randoms, pattern = random.Random(seed), line_pattern(TINY.columns)
    texts = [near_line(randoms) for _ in range(400)]
    taken = [text + b"\n" for text in texts if pattern.fullmatch(text + b"\n")]
    assert len(taken) > len(texts) // 10, "the pattern is what is tested"
    slowly = [regular_line(text, TINY.columns) for text in taken]  # raises InvalidLine if it refuses one
    plain = [text.replace(b'""', b"") for text in taken]  # as the repair writes them
    fast, slow = (read_with_polars(HEADER + b"".join(some)) for some in (plain, slowly))
    for text, ours, theirs in zip(taken, fast, slow, strict=True):
        assert repr(ours) == repr(theirs) == repr(read_record(text.removesuffix(b"\n"))), text


def test_the_pattern_takes_a_run_of_lines_and_stops_before_the_first_it_does_not_know() -> None:
    pattern = line_pattern(TINY.columns)
    run = (GOOD + b"\n") * 5000
    match = pattern.match(run + b"x\n" + run)
    assert match
    assert match.end() == len(run)
    assert pattern.match(b"\n") is None


def test_a_line_that_almost_fits_is_left_without_backtracking(tmp_path: Path) -> None:
    texts = [line(fare="9" * 300 + "x"), line(number="1" * 18 + "x"), b"1," * 5000, b"9" * 50_000]
    randoms = random.Random(1)
    noise = [bytes(randoms.choices(b"0123456789.,:- ", k=2000)) for _ in range(50)]
    assert Repaired(lines(*texts, *noise), tmp_path).repair.lines == 54


@pytest.mark.parametrize("text", [GOOD, line(number="x")])
def test_one_line_by_itself(text: bytes) -> None:
    if text is GOOD:
        assert regular_line(text, TINY.columns) == GOOD + b"\n"
    else:
        with pytest.raises(InvalidLine):
            regular_line(text, TINY.columns)
