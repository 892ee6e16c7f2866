"""`taxi-etl report`: the page of pictures, its numbers, and how a browser shows it.

With TAXI_TEST_PICTURES=docs/images it takes the picture of the README (`make pictures`).
"""

from __future__ import annotations

import gzip
import html
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from support.trips import SHARED, needs_real_trips

from flows.parent import main as load
from flows.settings import _read_settings
from taxi_etl.report import main

if TYPE_CHECKING:
    from support.browser import Browser

ROOT = Path(__file__).parents[2]
WIDTHS = (1180, 375)
LARGEST_PAGE_BYTES = 2_000_000


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse of two datasets, with a gap and with rejects, and its page."""
    directory = tmp_path_factory.mktemp("report")
    loaded = directory / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXI_SYNTHETIC_ROWS", "3000")
        _read_settings.cache_clear()
        common = ("--data-dir", str(loaded), "--runner", "direct", "--quiet")
        for months in (("yellow", "1", "2", "4"), ("green", "1", "2")):
            assert (
                load(["--color", months[0], "--months", *months[1:], "--source", "synthetic", *common]) == 0
            )
        damaged = loaded / "raw" / "damaged.csv"
        lines = _lines_of_march(loaded)
        damaged.write_text("\n".join([*lines, "2,2021-03-01 10:00:00,and no more", "x,y"]) + "\n")
        march = ("--color", "green", "--months", "3", "--source", str(damaged))
        assert load([*march, *common]) == 0
    _read_settings.cache_clear()
    assert main(["--data-dir", str(loaded)]) == 0
    return loaded


def _lines_of_march(data_dir: Path) -> list[str]:
    landed = data_dir / "raw" / "green" / "green_tripdata_2021-02.csv.gz"
    return gzip.decompress(landed.read_bytes()).decode().replace("2021-02-", "2021-03-").splitlines()


@pytest.fixture(scope="module")
def page(data_dir: Path) -> str:
    return (data_dir / "report.html").read_text()


def query(data_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(data_dir / "warehouse.duckdb", read_only=True) as connection:
        return connection.execute(sql).fetchall()


def tooltips(page: str) -> Counter[str]:
    return Counter(map(html.unescape, re.findall("<title>([^<]*)</title></", page)))


# Numbers


def test_the_main_figures_are_those_of_the_warehouse(data_dir: Path, page: str) -> None:
    shown = dict(re.findall(r'<b id="(\w+)">([^<]*)</b>', page))
    [[trips, revenue]] = query(data_dir, "SELECT count(*), sum(round(total_amount, 2)) FROM taxi_trips")
    [[months]] = query(data_dir, "SELECT count(*) FROM taxi_loads")
    [[odd]] = query(data_dir, "SELECT count(*) FROM taxi_odd_trips")
    [[rejected]] = query(data_dir, "SELECT count(*) FROM taxi_rejects")
    assert rejected == 2
    assert shown == {
        "trips": f"{trips:,}",
        "revenue": f"${revenue:,.0f}",
        "months": f"{months}",
        "odd": f"{odd:,}",
        "rejected": f"{rejected:,}",
    }


def test_the_calendar_shows_months_and_gaps(data_dir: Path, page: str) -> None:
    cells = re.findall(r'<td class="(\w+)" title="(\d{4}-\d\d): ([^"]*)">', page)
    counted = query(
        data_dir,
        "SELECT strftime(file_month, '%Y-%m'), count(*) FROM yellow_taxi_trips GROUP BY ALL UNION ALL "
        "SELECT strftime(file_month, '%Y-%m'), count(*) FROM green_taxi_trips GROUP BY ALL",
    )
    expected = Counter((month, f"{trips:,} trips") for month, trips in counted)
    assert Counter((month, text) for state, month, text in cells if state == "loaded") == expected
    assert [month for state, month, _ in cells if state == "gap"] == ["2021-03"]
    assert {state for state, _, _ in cells} == {"loaded", "gap", "none"}


DAYS = """
    SELECT strftime(pickup_date, '%Y-%m-%d') || ': ' || format('{:,}', trips) || ' trips, $'
           || format('{:,.2f}', revenue)
    FROM taxi_daily WHERE date_trunc('month', pickup_date) IN
        (SELECT file_month FROM taxi_loads WHERE taxi_loads.dataset = taxi_daily.dataset)
"""
HOURS = """
    SELECT strftime(pickup_datetime, '%a %H:00 to %H:59: ') || format('{:,}', count(*)) || ' trips'
    FROM taxi_trips WHERE date_trunc('month', pickup_datetime) IN
        (SELECT file_month FROM taxi_loads WHERE taxi_loads.dataset = taxi_trips.dataset)
    GROUP BY dataset, strftime(pickup_datetime, '%a %H:00 to %H:59: ')
"""
BOROUGHS = """
    SELECT pickup_borough || ': ' || format('{:,}', count(*)) || ' trips' FROM taxi_trips_named
    WHERE pickup_borough IN ('Manhattan', 'Brooklyn', 'Queens', 'Bronx', 'Staten Island')
    GROUP BY pickup_borough
"""
ZONES = """
    SELECT pickup_zone || ', ' || pickup_borough || ': ' || format('{:,}', trips) || ' trips' FROM (
        SELECT *, row_number() OVER (PARTITION BY dataset ORDER BY trips DESC, pickup_location_id) AS place
        FROM (SELECT dataset, pickup_location_id, pickup_zone, pickup_borough, count(*) AS trips
              FROM taxi_trips_named GROUP BY ALL)
    ) WHERE place <= 10
"""
PAYMENTS = """
    SELECT strftime(file_month, '%Y-%m') || ', ' || payment || ': ' || format('{:,}', trips) || ' trips, '
           || format('{:.1f}%', 100 * trips / total)
    FROM (SELECT dataset, file_month, coalesce(payment, 'Not recorded') AS payment, count(*) AS trips,
                 sum(count(*)) OVER (PARTITION BY dataset, file_month) AS total
          FROM taxi_trips_named GROUP BY dataset, file_month, payment)
"""
MILES = """
    SELECT dataset || ', ' || if(miles = 15, '15+', miles::TEXT) || ' miles: ' || format('{:,}', count(*))
           || ' trips, ' || format('{:.1f}%', 100 * count(*) / any_value(total))
    FROM (SELECT dataset, least(floor(trip_distance), 15)::INT AS miles,
                 count(*) OVER (PARTITION BY dataset) AS total
          FROM taxi_trips WHERE trip_distance >= 0) GROUP BY dataset, miles
"""
TIPS = """
    SELECT dataset || ', ' || if(step = 8, '40+', (5 * step) || ' to ' || (5 * step + 5)) || ' % of the '
           || 'fare: ' || format('{:,}', count(*)) || ' trips, '
           || format('{:.1f}%', 100 * count(*) / any_value(total))
    FROM (SELECT dataset, count(*) OVER (PARTITION BY dataset) AS total,
                 least(round(tip_amount * 100)::INT * 20 // round(fare_amount * 100)::INT, 8) AS step
          FROM taxi_trips WHERE payment_type = 1 AND fare_amount > 0 AND tip_amount >= 0)
    GROUP BY dataset, step
"""
ODD = """
    SELECT strftime(file_month, '%Y-%m') || ', ' || replace(reason, '_', ' ') || ': '
           || format('{:,}', count(*)) || ' of ' || format('{:,}', any_value(total)) || ' trips, '
           || format('{:.2f}%', 100 * count(*) / any_value(total))
    FROM (SELECT dataset, file_month, unnest(string_split(reasons, ', ')) AS reason FROM taxi_odd_trips)
    JOIN (SELECT dataset, file_month, count(*) AS total FROM taxi_trips GROUP BY ALL)
    USING (dataset, file_month)
    GROUP BY dataset, file_month, reason
"""
REJECTS = """
    SELECT dataset || ' ' || strftime(file_month, '%Y-%m') || ': ' || count(*) || ' rejected rows'
    FROM taxi_rejects GROUP BY dataset, file_month
"""


@pytest.mark.parametrize(
    ("sql", "pattern", "times"),
    [
        pytest.param(
            DAYS, r"\d{4}-\d\d-\d\d: (?!0 trips).*", 2, id="days"
        ),  # in the pictures of trips and of revenue
        pytest.param(HOURS, r"\w{3} \d\d:00 to .*(?<! 0 trips)", 1, id="hours"),
        pytest.param(BOROUGHS, r"(Manhattan|Brooklyn|Queens|Bronx|Staten Island): .*", 1, id="boroughs"),
        pytest.param(ZONES, r"[^,]*, \D*: [\d,]+ trips", 1, id="zones"),
        pytest.param(PAYMENTS, r"\d{4}-\d\d, [A-Z].* trips, [\d.]+%", 1, id="payments"),
        pytest.param(MILES, r"\w+, \d+\+? miles: .*", 1, id="miles"),
        pytest.param(TIPS, r"\w+, .* % of the fare: .*", 1, id="tips"),
        pytest.param(ODD, r"\d{4}-\d\d, [a-z].* of .*(?<! 0.00%)", 1, id="odd"),
        pytest.param(REJECTS, r"\w+ \d{4}-\d\d: .* rejected rows", 1, id="rejects"),
    ],
)
def test_every_number_is_that_of_a_query(
    data_dir: Path, page: str, sql: str, pattern: str, times: int
) -> None:
    shown = Counter({text: count for text, count in tooltips(page).items() if re.fullmatch(pattern, text)})
    expected = Counter(text for (text,) in query(data_dir, sql))
    assert expected
    assert shown == Counter({text: times * count for text, count in expected.items()})


def test_a_page_needs_nothing_from_elsewhere(page: str) -> None:
    assert len(page.encode()) < LARGEST_PAGE_BYTES
    assert re.findall(r"<script|<link|<img|@import|url\(|\ssrc=", page) == []
    assert {*re.findall(r'https?://[^"]*', page)} <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


# In a browser


def show(browser: Browser, path: Path, width: int, scheme: str = "light") -> None:
    browser.look(width, scheme)
    browser.show(path.as_uri(), "New York taxi trips", "Rejects and warnings")


OVERLAPPING = """
(() => {
  const shown = [...document.querySelectorAll('svg text, figcaption, h1, h2, td, th, .tile b, .key span')]
    .filter(one => one.textContent.trim() && one.getClientRects().length)
    .filter(one => getComputedStyle(one).fontSize !== '0px' && getComputedStyle(one).opacity !== '0');
  const boxes = shown.map(one => {
    const range = document.createRange(); range.selectNodeContents(one);
    return [one, one.closest('svg') ? one.getBoundingClientRect() : range.getBoundingClientRect()];
  });
  const found = [];
  for (const [one, a] of boxes) {
    if (a.left < -1 || a.right > innerWidth + 1) found.push('outside: ' + one.textContent);
    for (const [other, b] of boxes) {
      if (one === other || one.contains(other) || other.contains(one)) continue;
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && down > 3) found.push(one.textContent + ' | ' + other.textContent);
    }
  }
  return found;
})()
"""
EMPTY = """
[...document.querySelectorAll('figure')].filter(figure => {
  const svg = [...figure.querySelectorAll('svg')].find(one => one.getClientRects().length);
  if (!svg) return true;
  const marks = [...svg.querySelectorAll('.role-mark path, .role-mark rect')];
  const boxes = marks.map(mark => mark.getBoundingClientRect());
  return !boxes.some(box => box.width * box.height > 4);
}).map(figure => figure.innerText)
"""

LABELS = """
[...document.querySelectorAll('figure')].filter(figure => figure.innerText.startsWith('Busiest zones'))
  .map(figure => [...figure.querySelectorAll('svg text')].filter(one => one.getClientRects().length).length)
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_overlaps_and_no_picture_is_empty(data_dir: Path, browser: Browser, width: int) -> None:
    browser.remote_urls.clear()
    show(browser, data_dir / "report.html", width)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate("document.querySelectorAll('figure').length") == 15
    assert browser.evaluate(OVERLAPPING) == []
    assert browser.evaluate(EMPTY) == []
    assert browser.remote_urls == []
    assert browser.evaluate(LABELS) == [20, 20]  # ten names and ten numbers for each dataset


def test_the_schemes_differ_and_can_be_read(data_dir: Path, browser: Browser) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        show(browser, data_dir / "report.html", WIDTHS[0], scheme)
        style = "getComputedStyle(document.querySelector('{}')).{}"
        names = (("body", "backgroundColor"), ("body", "color"), ("figure .role-axis text", "fill"))
        colours[scheme] = [
            sum(map(int, re.findall(r"\d+", browser.evaluate(style.format(*name)))[:3])) for name in names
        ]
    assert colours["light"][0] > 2 * colours["light"][1], colours
    assert 2 * colours["dark"][0] < colours["dark"][1], colours
    assert colours["dark"][2] > 1.5 * colours["dark"][0], colours
    assert colours["light"][0] > 1.5 * colours["light"][2], colours


@needs_real_trips
def test_the_page_of_a_real_year(browser: Browser, tmp_path: Path) -> None:
    source = f"{SHARED}/tlc/{{color}}/{{color}}_tripdata_{{year}}-{{month:02}}.csv.gz"
    common = (
        "--year",
        "2019",
        "--source",
        source,
        "--data-dir",
        str(tmp_path),
        "--runner",
        "direct",
        "--quiet",
    )
    assert load(["--color", "yellow", "--months", "1-12", *common]) == 0
    assert main(["--data-dir", str(tmp_path)]) == 0
    page = tmp_path / "report.html"
    assert page.stat().st_size < LARGEST_PAGE_BYTES
    for width in WIDTHS:
        show(browser, page, width)
        assert browser.evaluate(OVERLAPPING) == []
        assert browser.evaluate(EMPTY) == []
    if where := os.environ.get("TAXI_TEST_PICTURES"):
        show(browser, page, WIDTHS[0])
        time.sleep(1)
        browser.picture(ROOT / where / "report.png", height=1500)


# What can go wrong


def test_a_warehouse_without_months_or_views_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data-dir", str(tmp_path)]) == 2
    assert "load a month first" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setenv("TAXI_VIEWS", "false")
        patch.setenv("TAXI_SYNTHETIC_ROWS", "100")
        _read_settings.cache_clear()
        month = ("--color", "yellow", "--months", "1", "--source", "synthetic")
        assert load([*month, "--data-dir", str(tmp_path), "--runner", "direct", "--quiet"]) == 0
    _read_settings.cache_clear()
    assert main(["--data-dir", str(tmp_path)]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "has no taxi_trips, taxi_monthly_zones, taxi_odd_trips" in line
    assert "TAXI_VIEWS" in line
    assert not (tmp_path / "report.html").exists()


def test_without_the_extra_it_says_what_to_install(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert main(["--data-dir", str(data_dir), "--out", str(tmp_path / "page.html")]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "pip install 'taxi-etl[report]'" in line
    assert not (tmp_path / "page.html").exists()


def test_a_directory_is_no_page(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data-dir", str(data_dir), "--out", str(tmp_path)]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "is a directory; name a file" in line


def test_it_imports_no_prefect(data_dir: Path, tmp_path: Path) -> None:
    python = (sys.executable, "-X", "importtime")
    done = subprocess.run(
        [*python, "-m", "taxi_etl", "report", "--data-dir", data_dir, "--out", tmp_path / "page.html"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"report: {tmp_path / 'page.html'}\n"
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "vl_convert" in imported
    assert "prefect" not in imported
