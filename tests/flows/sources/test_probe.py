"""Asking a source what it has: real HTTP, files and a bucket; nothing is downloaded."""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from flows.errors import SourceBusy, SourceNotFound, SourceUnreachable, UsageError
from flows.settings import Settings
from flows.sources import SourceFile, catalogue, newest_months, probe_source
from flows.sources.source_request import SourceFileMissing
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from support.gcs import Bucket
    from support.web import Web

TODAY = dt.date(2026, 11, 20)
QUICK = Settings(_env_file=None, http_backoff_seconds=0.001, http_attempts=3, http_timeout_seconds=1)
PATH = "/{color}/{year}-{month:02}.parquet"
LARGE = bytes(5_000_000)


def newest(source: str, count: int, color: str = "yellow", since: str | None = None) -> list[str]:
    first = TripMonth.of_iso(color, since) if since else None
    return [m.iso for m in newest_months(source, color, count, QUICK, today=TODAY, since=first)]


def publish(web: Web, *months: str, body: bytes = b"trips") -> str:
    for iso in months:
        web.put(f"/yellow/{iso}.parquet", body)
    return web.url + PATH


def file_at(url: str) -> SourceFile:
    return SourceFile(url, "trips")


# --- the newest months


def test_the_newest_months_are_found_behind_the_usual_delay(web: Web) -> None:
    source = publish(web, "2026-09", "2026-08", "2026-07", "2026-06")
    assert newest(source, 1) == ["2026-09"]
    assert newest(source, 3) == ["2026-07", "2026-08", "2026-09"]


def test_a_month_that_appears_is_the_newest_at_once(web: Web) -> None:
    source = publish(web, "2026-08", "2026-09")
    assert newest(source, 2) == ["2026-08", "2026-09"]
    publish(web, "2026-10")
    assert newest(source, 2) == ["2026-09", "2026-10"]
    publish(web, "2026-11")
    assert newest(source, 2) == ["2026-10", "2026-11"]


def test_months_are_found_over_the_turn_of_years_and_over_gaps(web: Web) -> None:
    there = ["2024-12", "2025-01", "2025-12", "2026-01"]
    source = publish(web, *there)
    assert newest(source, 4) == there


def test_nothing_is_downloaded(web: Web) -> None:
    source = publish(web, "2026-09", "2026-08", body=LARGE)
    assert newest(source, 2) == ["2026-08", "2026-09"]
    assert {seen.body_bytes for seen in web.requests if seen.status != 404} == {1}


def test_a_server_without_ranges_is_asked_too(web: Web) -> None:
    source = publish(web, "2026-09", body=LARGE)
    web.misbehave("/yellow/2026-09.parquet", ignore_range=True)
    assert newest(source, 1) == ["2026-09"]


def test_no_more_is_asked_than_needed(web: Web) -> None:
    source = publish(web, *(f"2026-{month:02}" for month in range(1, 12)))
    newest(source, 2)
    oldest = min(seen.path for seen in web.requests)
    assert "/yellow/2026-07.parquet" <= oldest <= "/yellow/2026-10.parquet"


def test_twelve_months_without_a_file_end_the_search_in_one_line(web: Web) -> None:
    source = publish(web, "2025-11")
    with pytest.raises(SourceNotFound) as refused:
        newest(source, 1)
    message = refused.value.message
    for part in ("yellow", "2025-12 to 2026-11", "HTTP 404", "--since", web.url):
        assert part in message
    assert "\n" not in message
    assert newest(publish(web, "2025-12"), 1) == ["2025-12"]


def test_fewer_than_asked_for_is_said_and_is_no_failure(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    source = publish(web, "2026-08", "2026-09")
    assert newest(source, 5) == ["2026-08", "2026-09"]
    assert "5 months were asked for" in caplog.text
    assert "has 2: 2026-08 to 2026-09" in caplog.text


def test_no_month_before_the_first_is_found(web: Web) -> None:
    source = publish(web, "2026-05", "2026-09")
    assert newest(source, 1, since="2026-06") == ["2026-09"]
    with pytest.raises(SourceNotFound, match="2026-10 to 2026-11"):
        newest(source, 1, since="2026-10")


def test_a_403_is_an_absent_file_as_cloudfront_says_it(web: Web) -> None:
    source = publish(web, "2026-09")
    for month in ("10", "11"):
        web.misbehave(f"/yellow/2026-{month}.parquet", status=403)
    assert newest(source, 1) == ["2026-09"]


def test_a_failure_is_never_taken_for_not_published(web: Web) -> None:
    source = publish(web, "2026-08", "2026-09")
    web.misbehave("/yellow/2026-10.parquet", status=503)
    with pytest.raises(SourceBusy, match="503"):
        newest(source, 1)
    web.heal()
    web.misbehave("/yellow/2026-11.parquet", status=401)
    with pytest.raises(SourceNotFound, match="401"):
        newest(source, 1)
    web.stop()
    with pytest.raises(SourceUnreachable):
        newest(source, 1)


def test_a_server_that_is_busy_for_a_moment_is_asked_again(web: Web) -> None:
    source = publish(web, "2026-09")
    web.misbehave("/yellow/2026-09.parquet", status=503, times=1)
    web.misbehave("/yellow/2026-10.parquet", raw=b"", times=1)
    assert newest(source, 1) == ["2026-09"]


def test_a_failure_behind_the_months_that_were_wanted_does_not_matter(web: Web) -> None:
    source = publish(web, "2026-10", "2026-11")
    web.misbehave("/yellow/2026-09.parquet", status=503)
    assert newest(source, 2) == ["2026-10", "2026-11"]


def test_files_are_looked_for_on_the_disk(tmp_path: Path) -> None:
    for iso in ("2026-09", "2026-07"):
        (tmp_path / f"{iso}.csv").touch()
    assert newest(f"{tmp_path}/{{year}}-{{month:02}}.csv", 2) == ["2026-07", "2026-09"]


def test_objects_are_looked_for_in_the_bucket(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket.settings["storage_emulator_host"])
    for iso in ("2026-09", "2026-07"):
        bucket.write(f"trips/yellow-{iso}.parquet", b"trips")
    source = f"gs://{bucket.settings['gcs_bucket']}/trips/{{color}}-{{year}}-{{month:02}}.parquet"
    assert newest(source, 2) == ["2026-07", "2026-09"]


def test_synthetic_months_go_to_the_last_whole_one() -> None:
    assert newest("synthetic", 2) == ["2026-09", "2026-10"]
    assert newest("synthetic", 1, color="fhvhv", since="2026-01") == ["2026-10"]


def test_a_closed_collection_is_asked_from_its_last_month_back(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtc = catalogue.PUBLISHERS["dtc"]
    monkeypatch.setitem(catalogue.PUBLISHERS, "dtc", replace(dtc, template=web.url + PATH))
    publish(web, "2021-08", "2021-07", "2021-06", "2018-12")
    assert newest("dtc", 2) == ["2021-06", "2021-07"]
    assert newest("dtc", 100) == ["2021-06", "2021-07"]
    assert max(seen.path for seen in web.requests) == "/yellow/2021-07.parquet"


@pytest.mark.parametrize("source", ["http://h/{color}.csv", "http://h/{year}.csv", "http://h/{month}.csv"])
def test_a_template_without_year_and_month_has_no_newest(source: str) -> None:
    with pytest.raises(UsageError, match="no newest month"):
        newest(source, 1)


def test_no_message_shows_a_secret(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    source = publish(web, "2026-09").replace("http://", "http://user:hunter2@") + "?token=hunter2"
    assert newest(source, 2) == ["2026-09"]
    web.remove("/yellow/2026-09.parquet")
    with pytest.raises(SourceNotFound) as refused:
        newest(source, 1)
    assert "hunter2" not in caplog.text + refused.value.message


# --- one file


def test_a_probe_tells_size_and_version_and_whether_it_is_the_same(web: Web) -> None:
    url = web.put("/trips.csv", LARGE)
    first = probe_source(file_at(url), QUICK)
    assert (first.bytes, first.unchanged) == (len(LARGE), False)
    assert first.version
    assert probe_source(file_at(url), QUICK, known_version=first.version).unchanged
    web.put("/trips.csv", LARGE + b"1")
    changed = probe_source(file_at(url), QUICK, known_version=first.version)
    assert (changed.bytes, changed.unchanged) == (len(LARGE) + 1, False)


def test_a_probe_knows_a_file_by_its_date_too(web: Web) -> None:
    url = web.put("/trips.csv", b"trips", etag=None)
    version = probe_source(file_at(url), QUICK).version
    assert probe_source(file_at(url), QUICK, known_version=version).unchanged


def test_an_empty_file_is_there(web: Web) -> None:
    assert probe_source(file_at(web.put("/trips.csv", b"")), QUICK).bytes == 0


def test_what_is_not_there_is_absent(web: Web, tmp_path: Path) -> None:
    for url in (f"{web.url}/trips.csv", (tmp_path / "trips.csv").as_uri()):
        with pytest.raises(SourceFileMissing):
            probe_source(file_at(url), QUICK)


def test_months_are_asked_for_side_by_side(web: Web) -> None:
    months = [f"2026-{month:02}" for month in range(5, 12)]
    source = publish(web, *months)
    together = threading.Barrier(len(months), timeout=10)  # breaks if they come one after the other
    for iso in months:
        web.misbehave(f"/yellow/{iso}.parquet", times=1, then=together.wait)
    assert newest(source, 4) == months[-4:]
