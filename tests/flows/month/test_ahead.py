"""Files land ahead of their months: once, in order, not without bound, and never in another run's month."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from support.cli import small_month

from flows.errors import UsageError
from flows.month import DirectSteps, MonthFailed, landing_ahead, load_from_source
from flows.month.ahead import Ahead, landed_ahead
from flows.month.steps import extract
from flows.request import LoadRequest
from flows.runtime import Layout, file_lock
from flows.sources import LandedFile
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from support.web import Web

MONTHS = [TripMonth("yellow", 2021, number) for number in range(1, 7)]


@pytest.fixture
def request_for(web: Web, tmp_path: Path) -> LoadRequest:
    for month in MONTHS:
        web.put(f"/{month.iso}.csv.gz", small_month(10))
    return LoadRequest.from_parameters(
        color="yellow",
        months=range(1, 7),
        source=web.url + "/{year}-{month:02}.csv.gz",
        data_dir=tmp_path / "data",
        concurrency=1,
    )


def paths(web: Web) -> list[str]:
    return [seen.path for seen in web.requests]


def wait_for(web: Web, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(web.requests) < count and time.monotonic() < deadline:
        time.sleep(0.01)


def test_files_land_in_order_and_at_most_two_wait_for_their_month(web: Web, request_for: LoadRequest) -> None:
    with landing_ahead(MONTHS, request_for):
        wait_for(web, 2)
        time.sleep(0.5)
        assert paths(web) == ["/2021-01.csv.gz", "/2021-02.csv.gz"]
        first = landed_ahead(MONTHS[0])
        assert isinstance(first.file, LandedFile)
        assert first.file.is_intact()
        assert first.seconds > 0
        wait_for(web, 3)
        assert paths(web)[2:] == ["/2021-03.csv.gz"]
    assert len(web.requests) == 3


def test_a_month_takes_its_file_and_the_source_is_asked_once(web: Web, request_for: LoadRequest) -> None:
    with landing_ahead(MONTHS[:2], request_for), DirectSteps() as steps:
        for month in MONTHS[:2]:
            assert load_from_source(month, request_for, steps).status == "published"
    assert paths(web) == ["/2021-01.csv.gz", "/2021-02.csv.gz"]


def test_a_block_within_another_changes_nothing(web: Web, request_for: LoadRequest) -> None:
    with landing_ahead(MONTHS[:1], request_for):
        with landing_ahead(MONTHS[:1], request_for):
            assert (ahead := landed_ahead(MONTHS[0])).file
        assert landed_ahead(MONTHS[0]) == ahead  # the inner block has ended nothing
    assert len(web.requests) == 1


def test_the_month_of_another_run_is_left_alone(web: Web, request_for: LoadRequest) -> None:
    with file_lock(Layout(request_for.directory).lock(MONTHS[0]), 0), landing_ahead(MONTHS[:1], request_for):
        assert landed_ahead(MONTHS[0]) == Ahead()
    assert not web.requests


def test_a_file_that_changed_after_it_landed_is_fetched_again(web: Web, request_for: LoadRequest) -> None:
    with landing_ahead(MONTHS[:1], request_for), DirectSteps() as steps:
        wait_for(web, 1)
        ahead = landed_ahead(MONTHS[0]).file
        assert isinstance(ahead, LandedFile)
        ahead.path.write_bytes(b"something else")
        source = steps.run(
            extract, MONTHS[0], _source(request_for), ahead.path.parent, force=False, ahead=ahead
        )
    assert source.is_intact()
    assert paths(web) == ["/2021-01.csv.gz"] * 2


def test_what_would_fail_again_fails_the_month_without_asking_again(
    web: Web, request_for: LoadRequest
) -> None:
    web.remove("/2021-01.csv.gz")
    with (
        landing_ahead(MONTHS[:1], request_for),
        DirectSteps() as steps,
        pytest.raises(MonthFailed, match=r"yellow 2021-01: .*404"),
    ):
        load_from_source(MONTHS[0], request_for, steps)
    assert len(web.requests) == 1


def test_a_run_that_ends_before_its_months_does_not_wait_for_downloads(
    web: Web, request_for: LoadRequest
) -> None:
    web.misbehave("/2021-02.csv.gz", delay_seconds=1)
    with pytest.raises(UsageError):
        _raise(UsageError("no server"), web, request_for)
    assert set(paths(web)) <= {"/2021-01.csv.gz", "/2021-02.csv.gz"}


def test_months_that_never_ask_for_their_files_do_not_stop_the_others(
    web: Web, request_for: LoadRequest
) -> None:
    with landing_ahead(MONTHS, request_for):
        wait_for(web, 2)
        landed_ahead(MONTHS[4])
        landed_ahead(MONTHS[5])
    assert len(web.requests) >= 2


def test_ctrl_c_ends_what_is_landing(web: Web, request_for: LoadRequest) -> None:
    from flows.runtime import clear_stop

    web.misbehave("/2021-01.csv.gz", delay_seconds=2)
    before = threading.active_count()
    try:
        with pytest.raises(KeyboardInterrupt):
            _raise(KeyboardInterrupt(), web, request_for)
    finally:
        clear_stop()
    assert threading.active_count() <= before + 1  # the web's own thread that is late
    assert set(paths(web)) == {"/2021-01.csv.gz"}


def _raise(error: BaseException, web: Web, request: LoadRequest) -> None:
    with landing_ahead(MONTHS, request):
        wait_for(web, 1)
        raise error


def _source(request: LoadRequest):  # noqa: ANN202 - a SourceFile
    from flows.settings import get_settings
    from flows.sources import locate_source

    return locate_source(request.source, MONTHS[0], get_settings())
