"""Servers that misbehave: the right file in the end, or an error that says why; no good-looking wreck."""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.landing import (
    ATTEMPTS,
    BAD,
    GZIP,
    HALF,
    NAME,
    OLD_GZIP,
    PAGE,
    PART,
    PART_VERSION,
    PATH,
    RECORD,
    files_in,
    leave_part,
    refuse,
    settings,
    statuses,
    web_source,
)

from flows.errors import SourceBusy
from flows.sources import find_landed, land

if TYPE_CHECKING:
    from pathlib import Path

    from support.web import Web


@pytest.mark.parametrize("earlier", [False, True], ids=["first landing", "earlier copy"])
@pytest.mark.parametrize("name", BAD)
def test_a_server_that_misbehaves(web: Web, raw: Path, name: str, earlier: bool) -> None:
    bad, source = BAD[name], web_source(web)
    old = None
    if earlier:
        web.put(PATH, OLD_GZIP)
        old = replace(land(source, raw, settings()), fetched=False)
    web.put(PATH, GZIP)
    web.misbehave(PATH, **bad.how)
    if bad.error is None:
        land(source, raw, settings(**bad.changes))
    else:
        error = refuse(source, raw, **bad.changes)
        assert isinstance(error, bad.error)
        assert isinstance(error, SourceBusy) == (bad.error is SourceBusy)
        assert re.search(bad.message, error.message)
        # Whole or not at all: the copy of before, or none.
        assert find_landed(raw / NAME) == old
        assert not earlier or (raw / NAME).read_bytes() == OLD_GZIP
        expected = ({NAME, RECORD} if earlier else set()) | ({PART, PART_VERSION} if bad.part else set())
        assert files_in(raw) <= expected
        web.heal()
        assert land(source, raw, settings()).fetched
    assert (raw / NAME).read_bytes() == GZIP
    landed = find_landed(raw / NAME)
    assert landed is not None
    assert landed.sha256 == hashlib.sha256(GZIP).hexdigest()
    assert files_in(raw) == {NAME, RECORD}


def test_a_server_that_drips_is_given_up_and_what_it_sent_is_kept(web: Web, raw: Path) -> None:
    impatient = {"http_rate_window_seconds": 0.2, "http_least_bytes_per_second": 1000}
    web.put(PATH, GZIP)
    web.misbehave(PATH, times=1, drip_after=HALF)
    web.misbehave(PATH, drip_after=0)
    error = refuse(web_source(web), raw, **impatient)
    assert isinstance(error, SourceBusy)
    assert re.search(r"only \d+ bytes came in .*TAXI_HTTP_LEAST_BYTES_PER_SECOND", error.message)
    assert len(web.requests) <= ATTEMPTS + 1, "a few bytes are no progress"
    assert HALF <= (raw / PART).stat().st_size < len(GZIP)
    web.heal()
    land(web_source(web), raw, settings(**impatient))
    assert (raw / NAME).read_bytes() == GZIP
    assert statuses(web) == [206]


def test_a_slow_server_is_waited_for_if_it_is_fast_enough(web: Web, raw: Path) -> None:
    body = b"a,b\n1,2\n" * 5
    web.put(PATH, body)
    web.misbehave(PATH, drip_after=0)
    land(web_source(web), raw, settings(http_rate_window_seconds=0.05, http_least_bytes_per_second=0))
    assert (raw / NAME).read_bytes() == body
    assert len(web.requests) == 1


def test_a_file_that_never_stays_the_same_is_given_up(web: Web, raw: Path) -> None:
    versions = itertools.count()

    def change() -> None:
        web.put(PATH, GZIP, etag=f'"v{next(versions)}"')

    change()
    web.misbehave(PATH, cut_after=HALF, ignore_if_range=True, then=change)
    error = refuse(web_source(web), raw)
    assert isinstance(error, SourceBusy)
    assert "the file changed while it was being read" in error.message
    assert "run it again later" in error.message
    assert files_in(raw) <= {PART, PART_VERSION}
    web.heal()
    land(web_source(web), raw, settings())
    assert (raw / NAME).read_bytes() == GZIP


@pytest.mark.parametrize(
    ("how", "requests"),
    [
        ({"status": 503}, ATTEMPTS),
        ({"raw": b""}, ATTEMPTS),
        ({"cut_after": 1000, "ignore_range": True}, ATTEMPTS + 1),  # of which the first brought some
        ({"status": 404}, 1),
        ({"body": PAGE}, 1),
    ],
)
def test_only_what_may_pass_is_tried_again(web: Web, raw: Path, how: dict[str, Any], requests: int) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, **how)
    refuse(web_source(web), raw)
    assert len(web.requests) == requests


def test_bytes_of_an_earlier_run_are_not_new_ones(web: Web, raw: Path) -> None:
    url = web.put(PATH, GZIP, etag='"v1"')
    leave_part(raw, url, '"v1"', GZIP[:HALF])
    web.misbehave(PATH, status=503)
    refuse(web_source(web), raw)
    assert len(web.requests) == ATTEMPTS
    assert (raw / PART).stat().st_size == HALF  # for a better day


@pytest.mark.parametrize(
    ("retry_after", "least"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("86400", 120),
        ("0", 0),
        ("", 0),
        ("-1", 0),
        ("1e9", 0),
        ("\xb2", 0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0),
    ],
)
def test_a_pause_is_as_long_as_the_server_asks(
    web: Web, raw: Path, pauses: list[float], retry_after: str, least: float
) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, status=429, headers={"Retry-After": retry_after}, times=1)
    land(web_source(web), raw, settings())
    assert len(pauses) == 1
    assert least <= pauses[0] <= least + 1


def test_what_the_server_asks_for_is_passed_on_in_the_end(web: Web, raw: Path, pauses: list[float]) -> None:
    web.misbehave(PATH, status=503, headers={"Retry-After": "7"})
    error = refuse(web_source(web), raw)
    assert isinstance(error, SourceBusy)
    assert error.retry_after_seconds == 7


def test_pauses_grow(web: Web, raw: Path, pauses: list[float]) -> None:
    web.misbehave(PATH, status=500)
    refuse(web_source(web), raw, http_attempts=8, http_backoff_seconds=1)
    assert len(pauses) == 7
    for number, seconds in enumerate(pauses):
        assert min(2**number, 30) <= seconds <= min(1.25 * 2**number, 30)


def test_pauses_grow_anew_after_every_new_byte(web: Web, raw: Path, pauses: list[float]) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, cut_after=len(GZIP) // 8)
    land(web_source(web), raw, settings(http_backoff_seconds=1))
    assert len(pauses) >= 7
    assert max(pauses) <= 2


def test_pauses_are_told_in_the_log(web: Web, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, status=502, times=1)
    with caplog.at_level(logging.INFO, logger="flows"):
        land(web_source(web), raw, settings())
    assert "answered HTTP 502" in caplog.text
    assert "Trying again in 0.0 s" in caplog.text
