"""The same file, landed twice at once."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support.landing import (
    GZIP,
    NAME,
    PATH,
    RECORD,
    files_in,
    settings,
    start_landing,
    statuses,
    wait_until,
    web_source,
)

from flows.errors import DestinationBusy
from flows.sources import LandedFile, land

if TYPE_CHECKING:
    from pathlib import Path

    from support.web import Web


def test_two_threads_fetch_one_copy(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    web.misbehave(PATH, delay_seconds=0.2, times=1)
    start = threading.Barrier(2)

    def run() -> LandedFile:
        start.wait()
        return land(web_source(web), raw, settings())

    with ThreadPoolExecutor(2) as pool:
        landed = [run.result() for run in [pool.submit(run), pool.submit(run)]]
    assert sorted(statuses(web)) == [200, 304]
    assert sorted(file.fetched for file in landed) == [False, True]
    assert {file.sha256 for file in landed} == {hashlib.sha256(GZIP).hexdigest()}
    assert (raw / NAME).read_bytes() == GZIP
    assert files_in(raw) == {NAME, RECORD}


def test_two_processes_fetch_one_copy(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    both_here = threading.Event()
    web.misbehave(PATH, then=lambda: both_here.wait(20), times=1)
    with start_landing(web, raw) as first, start_landing(web, raw) as second:
        wait_until(lambda: len(web.requests) == 1)
        locks = raw / ".locks"
        wait_until(lambda: any(locks.iterdir()))
        time.sleep(0.3)  # the other one comes to the lock; if it came later, the test would pass too
        both_here.set()
        outputs = [run.communicate(timeout=60)[0].split() for run in (first, second)]
    sha256 = hashlib.sha256(GZIP).hexdigest()
    assert sorted(outputs) == [["False", sha256], ["True", sha256]]
    assert statuses(web) == [200, 304]
    assert files_in(raw) == {NAME, RECORD}


def test_a_landing_that_goes_on_for_too_long_is_not_waited_for(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    release, requested = threading.Event(), threading.Event()

    def hold() -> None:
        requested.set()
        release.wait(20)

    web.misbehave(PATH, then=hold, times=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(land, web_source(web), raw, settings(http_timeout_seconds=30))
        requested.wait(20)
        with pytest.raises(DestinationBusy, match="TAXI_LOCK_TIMEOUT_SECONDS"):
            land(web_source(web), raw, settings(lock_timeout_seconds=0.1))
        release.set()
        assert first.result().fetched
