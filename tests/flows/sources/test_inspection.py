"""The inspection: a file in pieces of any size gives the same verdict, and every refusal says why."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
import zipfile
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows.errors import SourceCorrupt
from flows.sources import inspection
from flows.sources.csv_census import HEADER_LIMIT_BYTES, Census, TextCensus
from flows.sources.inspection import Inspection, Inspector, parquet_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

UNLIMITED = 2**40
TRIPS = b"VendorID,fare\n1,2.5\n2,-3\n"
GOOD_GZIP = gzip.compress(TRIPS)
# A comment's worth of everything that the census counts, and of what could be taken for it.
ALPHABET = [b",", b"\n", b"\r\n", b'"', b"\0", b"x", b"12.5", "é€".encode(), b"\xff"]


def inspect(pieces: Iterable[bytes], limit: int = UNLIMITED) -> Inspection:
    inspector = Inspector(limit)
    for piece in pieces:
        inspector.feed(piece)
    return inspector.finish()


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    ends = [*sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def in_pieces(data: bytes) -> list[list[bytes]]:
    """At once, byte by byte, and cut in two at every place near the start."""
    single = [data[at : at + 1] for at in range(len(data))]
    return [[data], single, *(pieces_of(data, [cut]) for cut in range(min(len(data), 40)))]


def parquet_file(rows: int) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"fare": list(range(rows))}), file)
    return file.getvalue()


# --- the census


@st.composite
def csv_texts(draw: st.DrawFn) -> bytes:
    names = draw(st.lists(st.sampled_from(["a", "fare", "é"]), min_size=1, max_size=4))
    line_end = draw(st.sampled_from([b"\n", b"\r\n"]))
    rest = draw(st.lists(st.sampled_from(ALPHABET), max_size=60))
    return ",".join(names).encode() + line_end + b"".join(rest)


@given(
    text=csv_texts(),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    member_ends=st.lists(st.integers(0, 200), max_size=3),
    compressed=st.booleans(),
    block_bytes=st.sampled_from([1, 2, 7, 64, 2**22]),
)
@example(text=b"a\n", cuts=[], member_ends=[], compressed=False, block_bytes=7)
@example(text=b"a", cuts=[], member_ends=[], compressed=True, block_bytes=7)
def test_the_census_is_what_an_independent_count_says(
    text: bytes, cuts: list[int], member_ends: list[int], compressed: bool, block_bytes: int
) -> None:
    members = pieces_of(text, member_ends)
    data = b"".join(gzip.compress(m, mtime=0) for m in members) if compressed else text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "BLOCK_BYTES", block_bytes)
        findings = inspect(pieces_of(data, cuts))
    assert findings.kind == ("csv.gz" if compressed else "csv")
    assert findings.bytes == len(data)
    assert findings.sha256 == hashlib.sha256(data).hexdigest()
    assert findings.header == tuple(text.split(b"\n")[0].rstrip(b"\r").decode().split(","))
    lines = text.split(b"\n")
    assert findings.census == Census(
        lines=len(lines) - (lines[-1] == b""),
        separators=len(text.split(b",")) - 1,
        quotes=sum(byte == 0x22 for byte in text),
        nuls=sum(byte == 0 for byte in text),
        bytes=len(text),
    )


def test_the_census_of_a_large_file_is_right_over_many_blocks() -> None:
    seeded = random.Random(1)
    lines = [f"{seeded.random()},{seeded.random()},{n}" for n in range(150_000)]
    text = "\n".join(["a,b,c", *lines]).encode()
    assert len(text) > inspection.BLOCK_BYTES
    data = gzip.compress(text, 1)
    findings = inspect(data[at : at + 65_536] for at in range(0, len(data), 65_536))
    assert findings.census == Census(150_001, 300_002, 0, 0, len(text))


@pytest.mark.parametrize("more", range(-3, 4))
def test_a_text_that_fills_the_last_block_is_whole(more: int) -> None:
    text = b"a\n" + b"1" * (inspection.BLOCK_BYTES - 2 + more)
    assert inspect([gzip.compress(text)]).census == Census(1 + (len(text) > 2), 0, 0, 0, len(text))


@pytest.mark.parametrize(
    ("text", "regular"),
    [
        (b"a,b,c\n1,2,3\n", True),
        (b"a,b,c\n1,2,3", True),
        (b"a,b,c\r\n1,2,3\r\n", True),
        (b"a,b,c\n,,\n", True),
        (b"a,b,c\n1,2\n", False),
        (b"a,b,c\n1,2,3,4\n", False),
        (b"a,b,c\n1,2,3\n\n", False),
        (b'a,b,c\n1,"2",3\n', False),
        (b"a,b,c\n1,\0,3\n", False),
    ],
)
def test_only_a_file_of_equal_lines_without_quotes_is_regular(text: bytes, regular: bool) -> None:
    census = inspect([text]).census
    assert census is not None
    assert census.is_regular(columns=3) is regular


def test_a_file_of_one_column_is_regular() -> None:
    census = inspect([b"a\n1\n2\n"]).census
    assert census is not None
    assert census.is_regular(columns=1)
    assert not census.is_regular(columns=2)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        (b"\xef\xbb\xbfa,b\n", ("a", "b")),
        (b"a,b\r\n", ("a", "b")),
        (b"a, b ,\n", ("a", " b ", "")),
        (b"a,b", ("a", "b")),
        (b'"a","b"\n', ('"a"', '"b"')),
        (b"\n1,2\n", ("",)),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["csv", "csv.gz"])
def test_the_header_is_the_first_line_as_written(
    text: bytes, header: tuple[str, ...], pack: Callable[[bytes], bytes]
) -> None:
    assert {inspect(pieces).header for pieces in in_pieces(pack(text))} == {header}


# --- kinds, by content


def test_parquet_is_known_by_its_first_bytes() -> None:
    data = parquet_file(5)
    for pieces in in_pieces(data):
        findings = inspect(pieces)
        assert (findings.kind, findings.header, findings.census) == ("parquet", (), None)
        assert (findings.bytes, findings.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("text", [b"a", b"a\n", b"PAR", b"a,b\n1,2\n", b"PA,R1\n1,2\n", b"P\nK\n"])
def test_a_small_text_is_csv(text: bytes) -> None:
    assert {inspect(pieces).kind for pieces in in_pieces(text)} == {"csv"}


def test_gzip_in_several_members_with_zeros_between_them_is_one_file() -> None:
    zeros = b"\0" * 700
    data = zeros.join(gzip.compress(part) for part in (b"a,b\n", b"1,", b"", b"2\n3,4")) + zeros
    for pieces in in_pieces(data):
        assert inspect(pieces).census == Census(3, 3, 0, 0, 11)


def test_a_gzip_member_with_name_and_comment_is_read() -> None:
    named = b"\x1f\x8b\x08\x18" + GOOD_GZIP[4:10] + b"trips.csv\0a comment\0" + GOOD_GZIP[10:]
    assert inspect([named]).kind == "csv.gz"


# --- what is refused, and how


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("trips.csv", TRIPS)
    return file.getvalue()


BAD_STARTS = {
    "html": (b"<!DOCTYPE html>\n<html><body>Not here</body></html>", "an HTML or XML page"),
    "html behind blanks": (b"\r\n" * 30 + b"<html></html>", "an HTML or XML page"),
    "html behind a BOM": (b"\xef\xbb\xbf\n<html></html>", "an HTML or XML page"),
    "xml": (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "an HTML or XML page"),
    "json": (b'{"message": "Not Found"}', "a JSON document"),
    "short json": (b"{}", "a JSON document"),
    "zip": (zipped(), "a ZIP archive"),
    "bzip2": (bz2.compress(TRIPS), "a bzip2 file"),
    "xz": (lzma.compress(TRIPS), "an xz file"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x58rest of it", "a zstd file"),
}
REFUSED = {
    "nothing": (b"", r"the file is empty \(0 bytes\)"),
    "nothing, gzipped": (gzip.compress(b""), "the file is empty once unpacked"),
    "gzip magic only": (GOOD_GZIP[:2], r"truncated file"),
    "gzip header only": (GOOD_GZIP[:10], r"truncated file"),
    "gzip cut in the data": (GOOD_GZIP[:-12], r"truncated file"),
    "gzip cut in the checksum": (GOOD_GZIP[:-5], r"truncated file"),
    "gzip cut by one byte": (GOOD_GZIP[:-1], r"truncated file"),
    "second member cut": (GOOD_GZIP + GOOD_GZIP[:-1], r"truncated file"),
    "second member's magic only": (GOOD_GZIP + GOOD_GZIP[:2], r"truncated file"),
    "wrong checksum": (flipped(GOOD_GZIP, len(GOOD_GZIP) - 8), r"gzip data is damaged"),
    "wrong length": (flipped(GOOD_GZIP, len(GOOD_GZIP) - 1), r"gzip data is damaged"),
    "wrong checksum in the second member": (
        GOOD_GZIP + flipped(GOOD_GZIP, len(GOOD_GZIP) - 8),
        r"gzip data is damaged",
    ),
    "unknown compression method": (flipped(GOOD_GZIP, 2), r"gzip data is damaged"),
    "garbage behind": (GOOD_GZIP + b"<html>", r"garbage behind the gzip data"),
    "one byte behind": (GOOD_GZIP + b"x", r"garbage behind the gzip data"),
    "half a magic behind": (GOOD_GZIP + b"\x1f", r"garbage behind the gzip data"),
    "garbage behind zeros": (GOOD_GZIP + b"\0\0\0x\0", r"garbage behind the gzip data"),
    "gzip in gzip": (gzip.compress(GOOD_GZIP), r"compressed twice"),
    "gzip in gzip, second member first": (
        gzip.compress(b"") + gzip.compress(GOOD_GZIP),
        r"compressed twice",
    ),
    "bare carriage returns": (b"a,b\r1,2\r3,4\r", r"bare carriage return"),
    "bare carriage returns in a large file": (
        b"a,b\r" + b"1,2\r" * HEADER_LIMIT_BYTES,
        r"bare carriage return",
    ),
    "UTF-16": ("a,b\n".encode("utf-16"), r"first line is not text"),
    "Latin-1": (b"fa\xe9,b\n", r"first line is not text"),
    "noise": (b"\x80\x81\x82\x83" * 20, r"first line is not text"),
    "no line end": (b"1" * (HEADER_LIMIT_BYTES + 1), r"first line is longer than 65,536 bytes"),
    "long header": (
        b"1" * (HEADER_LIMIT_BYTES + 1) + b"\n1\n",
        r"first line is longer than 65,536 bytes",
    ),
}
REFUSED |= {name: (data, f"sent {what} instead") for name, (data, what) in BAD_STARTS.items()}
REFUSED |= {
    f"gzipped {name}": (gzip.compress(data), f"sent {what} instead")
    for name, (data, what) in BAD_STARTS.items()
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_trip_file_is_refused_with_its_reason_in_pieces_of_any_size(name: str) -> None:
    data, reason = REFUSED[name]
    for pieces in in_pieces(data) if len(data) < 2000 else [[data], pieces_of(data, [9, 999])]:
        with pytest.raises(SourceCorrupt, match=reason) as refused:
            inspect(pieces)
        message = str(refused.value)
        assert "\n" not in message
        assert len(message) < 300


def test_a_header_of_the_longest_legal_size_is_read() -> None:
    assert len(inspect([b"1" * HEADER_LIMIT_BYTES + b"\n1\n"]).header) == 1


def test_a_page_is_refused_before_all_of_it_has_come() -> None:
    inspector = Inspector(UNLIMITED)
    with pytest.raises(SourceCorrupt, match="HTML"):
        inspector.feed(b"<!DOCTYPE html>")


def test_blanks_without_end_are_not_collected() -> None:
    inspector = Inspector(UNLIMITED)
    inspector.feed(b" " * HEADER_LIMIT_BYTES)
    with pytest.raises(SourceCorrupt, match="first line is longer"):
        inspector.feed(b" ")


def test_a_damaged_byte_anywhere_in_the_data_is_found() -> None:
    text = b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(300))
    data = gzip.compress(text, mtime=0)
    for at in range(10, len(data)):
        with pytest.raises(SourceCorrupt):
            inspect([flipped(data, at)])


@pytest.mark.parametrize("limit", [1, 999, 1000, 10**6 + 3])
def test_a_bomb_is_refused_at_the_limit(limit: int) -> None:
    bomb = gzip.compress(b"a,b\n" + b"0" * 10**6, 9)
    assert len(bomb) < 1100
    with pytest.raises(SourceCorrupt, match=f"more than {limit:,} bytes.*TAXI_MAX_UNCOMPRESSED"):
        inspect([bomb], limit)


def test_a_file_of_just_the_limit_is_taken() -> None:
    assert inspect([gzip.compress(b"a,b\n" + b"0" * 996)], 1000).kind == "csv.gz"


def test_the_members_of_a_bomb_count_together() -> None:
    with pytest.raises(SourceCorrupt, match="more than 1,000 bytes"):
        inspect([gzip.compress(b"a,b\n" * 125) * 3], 1000)


@pytest.mark.parametrize("start", [b"a,b\n", b"PAR1"], ids=["csv", "parquet"])
def test_a_file_without_an_end_is_refused_at_the_same_limit(start: bytes) -> None:
    inspector = Inspector(100_000)
    inspector.feed(start)
    for _ in range(24):
        inspector.feed(b"1,2\n" * 1000)
    with pytest.raises(SourceCorrupt, match=r"more than 100,000 bytes.*TAXI_MAX_UNCOMPRESSED"):
        inspector.feed(b"1,2\n" * 1000)
    inspect([b"a,b\n" + b"1,2\n" * 249], 1000)  # just the limit


def test_a_bomb_is_not_unpacked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    feed = TextCensus.feed

    def counting(self: TextCensus, text: bytes) -> None:
        sizes.append(len(text))
        feed(self, text)

    monkeypatch.setattr(TextCensus, "feed", counting)
    inspect([gzip.compress(b"a\n" + b"0" * 5 * inspection.BLOCK_BYTES, 9)])
    assert sum(sizes) > 5 * inspection.BLOCK_BYTES
    assert max(sizes) <= inspection.BLOCK_BYTES


def test_the_rows_of_a_parquet_file_are_those_of_its_footer(tmp_path: Path) -> None:
    file = tmp_path / "trips.parquet"
    file.write_bytes(parquet_file(1234))
    assert parquet_rows(file) == 1234


@pytest.mark.parametrize("left", [4, 8, 200, -1, -4, -8, -30])
def test_a_parquet_file_without_its_end_is_refused(tmp_path: Path, left: int) -> None:
    file = tmp_path / "trips.parquet"
    file.write_bytes(parquet_file(1000)[:left])
    with pytest.raises(SourceCorrupt, match="no readable footer") as refused:
        parquet_rows(file)
    assert "\n" not in str(refused.value)
