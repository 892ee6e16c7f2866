"""The catalogue: which URL holds a month, and which calls are refused before anything starts."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from flows.errors import UsageError
from flows.settings import Settings
from flows.sources import check_months, locate_source
from flows.sources.catalogue import check_template
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

    from flows.sources import SourceFile

JANUARY = TripMonth("yellow", 2021, 1)


def located(source: str, month: TripMonth = JANUARY) -> SourceFile:
    return locate_source(source, month, Settings())


def refusal(source: str, month: TripMonth = JANUARY) -> str:
    with pytest.raises(UsageError) as refused:
        located(source, month)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# --- the publishers


@pytest.mark.parametrize(
    ("source", "color", "year", "month", "url"),
    [
        (
            "dtc",
            "yellow",
            2021,
            1,
            "https://github.com/DataTalksClub/nyc-tlc-data/releases/download/yellow/yellow_tripdata_2021-01.csv.gz",
        ),
        (
            "dtc",
            "fhv",
            2019,
            12,
            "https://github.com/DataTalksClub/nyc-tlc-data/releases/download/fhv/fhv_tripdata_2019-12.csv.gz",
        ),
        (
            "tlc",
            "green",
            2025,
            3,
            "https://d37ci6vzurychx.cloudfront.net/trip-data/green_tripdata_2025-03.parquet",
        ),
        (
            "tlc",
            "fhvhv",
            2019,
            2,
            "https://d37ci6vzurychx.cloudfront.net/trip-data/fhvhv_tripdata_2019-02.parquet",
        ),
    ],
)
def test_a_publisher_has_each_month_at_its_url(
    source: str, color: str, year: int, month: int, url: str
) -> None:
    file = located(source, TripMonth(color, year, month))
    assert file.url == url
    assert file.file_name == url.rpartition("/")[2]


@pytest.mark.parametrize(("year", "month"), [(2018, 12), (2021, 8), (2024, 1)])
def test_dtc_has_no_month_outside_of_its_collection(year: int, month: int) -> None:
    message = refusal("dtc", TripMonth("yellow", year, month))
    for part in ("2019-01 to 2021-07", f"{year}-{month:02}", "--source tlc"):
        assert part in message


@pytest.mark.parametrize(("year", "month"), [(2019, 1), (2021, 7)])
def test_dtc_has_the_first_and_the_last_month_of_its_collection(year: int, month: int) -> None:
    assert f"{year}-{month:02}" in located("dtc", TripMonth("green", year, month)).url


@pytest.mark.parametrize("source", ["dtc", "tlc", "synthetic", "https://h/{color}{year}{month}.csv"])
@pytest.mark.parametrize("color", ["yellow", "green", "fhv", "fhvhv"])
def test_no_source_has_a_month_before_the_dataset_began(source: str, color: str) -> None:
    first = TripMonth(color, 2019, 1).dataset.first_month
    message = refusal(source, TripMonth(color, int(first[:4]) - 1, 12))
    assert color in message
    assert first in message


def test_a_synthetic_month_is_named_by_its_size_and_seed() -> None:
    settings = Settings(synthetic_rows=5, synthetic_seed=7, synthetic_broken_rows=1)
    file = locate_source("synthetic", JANUARY, settings)
    assert file.url == "synthetic://yellow/2021-01?rows=5&seed=7&broken_rows=1"
    assert file.file_name == "yellow_tripdata_2021-01.csv.gz"


# --- templates


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("http://h/{color}/{year}-{month:02}.csv", "http://h/yellow/2021-01.csv"),
        ("https://h:8443/a?c={color}&y={year}&m={month}", "https://h:8443/a?c=yellow&y=2021&m=1"),
        ("HTTPS://h/{color}{year}{month:02}", "HTTPS://h/yellow202101"),
        ("gs://bucket/{color}/{year}{month:02}.csv.gz", "gs://bucket/yellow/202101.csv.gz"),
        ("file:///trips/{color}_{year}-{month:02}.csv", "file:///trips/yellow_2021-01.csv"),
        ("/trips/{color}_{year}-{month:02}.csv", "file:///trips/yellow_2021-01.csv"),
        ("/with space/50%/{color}{month:02}", "file:///with%20space/50%25/yellow01"),
        ("/{{literal}}/{month:02}", "file:///%7Bliteral%7D/01"),
    ],
)
def test_a_template_is_filled_in(template: str, url: str) -> None:
    assert located(template).url == url


def test_a_relative_path_starts_from_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert located("trips/{month:02}.csv").url == (tmp_path / "trips/01.csv").as_uri()


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert located("~/trips/{month:02}.csv").url == (tmp_path / "trips/01.csv").as_uri()


def test_the_home_of_nobody_is_refused() -> None:
    assert "~no-such-user" in refusal("~no-such-user/{month:02}.csv")


def test_an_existing_file_of_one_word_is_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trips.csv").touch()
    assert located("trips.csv").url == (tmp_path / "trips.csv").as_uri()


@pytest.mark.parametrize(
    "source",
    [
        "/{color.__class__}/{month}",
        "/{color.__class__.__mro__[1]}/{month}",
        "/{color[0]}/{month}",
        "/{color[a]}/{month}",
        "/{month[0]}/x",
        "/{month.real}/x",
        "/{0}/x",
        "/{}/x",
        "/{colour}/{month}",
        "/{settings}",
        "/{year:{month}}/x",
        "/{year:{color.__class__}}/x",
        "/{color/{month}",
        "/color}/{month}",
        "/{",
        "/}",
        "/{color:d}/x",
        "/{month:s}/x",
        "/{month!r}/x",
        "/{month!z}/x",
    ],
)
def test_an_illegal_placeholder_is_refused(source: str) -> None:
    message = refusal(source)
    assert source in message
    assert "{color}_tripdata_{year}-{month:02}" in message  # what a legal one looks like


@pytest.mark.parametrize("source", ["dct", "DTC", "", "no_such_file.csv"])
def test_an_unknown_name_is_refused_with_the_legal_ones(source: str) -> None:
    message = refusal(source)
    for legal in (repr(source), "dtc", "tlc", "synthetic", "template"):
        assert legal in message


@pytest.mark.parametrize(
    "source",
    [
        "s3://bucket/{color}/{month}",
        "ftp://h/{month}",
        "synthetic://yellow/2021-01",
        "://h/{month}",
        "my_scheme://h/{month}",
        "{color}://h/{month}",
        "http//h://{month}",
    ],
)
def test_an_unknown_scheme_is_refused(source: str) -> None:
    message = refusal(source)
    assert repr(source) in message
    assert "no way to read" in message


@pytest.mark.parametrize("source", ["http://[h/{month}", "https:///{month}", "http://h:port/{month}"])
def test_an_impossible_url_is_refused(source: str) -> None:
    assert repr(source) in refusal(source)


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("https://h/{color}.csv", "{month}"),
        ("https://h/{color}_{year}.csv", "{month}"),
        ("/trips.csv", "{month}"),
    ],
)
def test_one_file_for_every_month_is_refused(source: str, missing: str) -> None:
    months = [TripMonth("yellow", 2021, month) for month in (1, 2)]
    with pytest.raises(UsageError, match="the same file for every month") as refused:
        check_months(source, months)
    assert missing in str(refused.value)


def test_one_file_for_every_year_is_refused() -> None:
    months = [TripMonth("yellow", year, 1) for year in (2020, 2021)]
    with pytest.raises(UsageError, match="the same file for every year"):
        check_months("https://h/{color}_{month:02}.csv", months)


@pytest.mark.parametrize("source", ["https://h/trips.csv", "/trips.csv", "dtc", "synthetic"])
def test_one_file_for_one_month_is_fine(source: str) -> None:
    check_months(source, [JANUARY])


@pytest.mark.parametrize("source", ["dtc", "tlc", "synthetic", "https://h/{month}.csv"])
def test_one_file_per_month_is_fine(source: str) -> None:
    check_months(source, [TripMonth("yellow", 2021, month) for month in range(1, 13)])


def test_a_template_tells_its_placeholders() -> None:
    assert check_template("https://h/{color}/{month:02}.csv") == {"color", "month"}


# --- the name under which a file lands


@pytest.mark.parametrize(
    "template",
    [
        "https://h/{color}_tripdata_{year}-{month:02}.csv.gz",
        "https://h/{color}/{year}/{month:02}/trips.csv.gz",
        "https://h/{color}_{year}{month}.csv",
        "https://h/{month:02}/{color}_{year}.csv",
        "https://h/{year}/{month}/{color}_1_2_01_02_10_11_12_{year}.csv",
        "https://h/{year}/{color}_{month:02}_2019_2020_2021.csv",
        "https://h/download?year={year}&month={month:02}",
        "https://h/download/?{color}-{year}-{month:02}.csv",
        "https://h/{color}{year}{month:02}/",
        "https://h/{color}{year}{month:02}/..",
        "/trips/{year}-{month:02}",
        "https://h?{year}{month}",
    ],
)
def test_no_two_months_land_under_the_same_name(template: str) -> None:
    months = [TripMonth("yellow", year, month) for year, month in product(range(2009, 2027), range(1, 13))]
    files = [located(template, month) for month in months]
    assert len({file.url for file in files}) == len(months)
    assert len({file.file_name for file in files}) == len(months)


@pytest.mark.parametrize(
    "template",
    [
        "https://h/{color}{year}{month:02}/..",
        "https://h/../../../etc/passwd?{color}{year}{month:02}",
        "https://h/..%2f..%2f..%2fetc%2fpasswd{color}{year}{month:02}",
        "https://h/%2e%2e/%2e%2e?{color}{year}{month:02}",
        "https://h/a/%2e%2e%2f?{color}{year}{month:02}",
        "https://h/{color}{year}{month:02}%2f%2fetc%2fpasswd",
        "https://h/{color}{year}{month:02}%00.csv",
        "https://h/{color}{year}{month:02}%0a%1b[2J.csv",
        "https://h/{color}{year}{month:02}%252f..%252f",
        "file:///{color}{year}{month:02}/%2e%2e",
        "https://h//{year}//",
        "https://h/",
        "https://h",
    ],
)
def test_a_file_can_only_land_in_its_own_directory(template: str, tmp_path: Path) -> None:
    name = located(template).file_name
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()
    assert name.isprintable()
    (tmp_path / name).touch()  # a name that the file system takes
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_the_name_is_the_sources_own_without_percent_signs() -> None:
    file = located("https://h/d/my%20{color}_tripdata_{year}-{month:02}.csv.gz?token=abc")
    assert file.file_name == "my yellow_tripdata_2021-01.csv.gz"


# --- secrets


@pytest.mark.parametrize(
    "source",
    [
        "https://user:hunter2@h/{colour}?{month}",
        "https://user:hunter2@h/{color",
        "ftp://user:hunter2@h/{month}",
        "https://user:hunter2@h:port/{month}",
        "https://h/{colour}?token=hunter2&{month}",
        "https://user:hunter2@/{month}",
    ],
)
def test_a_refusal_shows_no_secret(source: str) -> None:
    assert "hunter2" not in refusal(source)


def test_a_refusal_of_one_file_for_every_month_shows_no_secret() -> None:
    with pytest.raises(UsageError) as refused:
        check_months(
            "https://user:hunter2@h/{year}?token=hunter2",
            [TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)],
        )
    assert "hunter2" not in str(refused.value)


def test_a_source_file_is_shown_without_its_secrets() -> None:
    file = located("https://user:hunter2@h/{color}_{year}-{month:02}.csv?token=hunter2")
    assert "hunter2" in file.url
    assert "hunter2" not in repr(file)
