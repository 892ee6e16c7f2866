"""The report as one HTML file: no scripts, nothing from elsewhere, light or dark as the system is."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flows
from flows.cli.report import charts
from flows.cli.report.figures import MONTH
from flows.cli.report.vega import CONFIG, Spec
from flows.errors import UsageError
from flows.runtime import atomic_write

if TYPE_CHECKING:
    from flows.cli.report.figures import Figures

TEMPLATE = Path(__file__).with_name("page.html.jinja")
CITY = Path(__file__).with_name("city.json")
"""The outlines of the boroughs as SVG paths, and the airports by their zones; the documents say whose."""

WIDE, NARROW = 480, 300
"""Widths in pixels of each picture: for two columns, and for a phone. Scaled text would be unreadable."""

_MARK = re.compile(
    r'<(path|text) aria-label="([^"]*)" role="graphics-symbol" aria-roledescription="[^"]*"([^>]*?)/>'
)
_PLACE = re.compile(r' (?:d|transform|x2|y2)="[^"]*"')


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with its words.

    Attributes:
        title, note: above and below it.
        legend: names and colours, unless there is only one.
        wide, narrow: SVG.
    """

    title: str
    note: str
    legend: list[tuple[str, str]]
    wide: str
    narrow: str


def require_packages() -> None:
    """Refuse to draw without the packages of the extra `report`.

    Raises:
        UsageError: one is not installed.
    """
    for name in ("jinja2", "vl_convert"):
        try:
            import_module(name)
        except ImportError as error:
            raise UsageError(
                f"the report needs the package {name}, which is not installed; "
                "install the extra: pip install 'taxi-etl[report]'"
            ) from error


def write_page(figures: Figures, path: Path) -> None:
    """Draw the pictures and write the page; an earlier one is replaced in one step.

    Args:
        figures: of the warehouse.
        path: of the file.

    Raises:
        UsageError: the packages of the extra `report` are not installed.
        LocalStorageError: the file cannot be written.
    """
    html = _render(figures)
    with atomic_write(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _render(figures: Figures) -> str:
    require_packages()
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text("utf-8"))
    first, last = figures.range
    return template.render(
        figures=figures,
        large=_large,
        first=f"{first:%B %Y}",
        last=f"{last:%B %Y}",
        months=len(figures.months),
        gaps=len(figures.gaps),
        made_at=f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        version=flows.__version__,
        calendar=_calendar(figures),
        city=json.loads(CITY.read_text("utf-8")),
        boroughs=figures.boroughs().rows(),
        airports={zone: _airport(figures, int(zone)) for zone in ("1", "132", "138")},
        sections=[_section(figures, dataset) for dataset in figures.datasets],
        distances=_distances(figures),
        rejects=_rejects(figures),
        reasons=figures.rejects.group_by("dataset", "reason")
        .sum()
        .sort("lines", descending=True)
        .select("dataset", "reason", "lines")
        .head(8)
        .rows(),
        warnings=figures.months.drop_nulls("warnings").select("dataset", MONTH, "warnings").rows(),
    )


def _calendar(figures: Figures) -> list[dict[str, Any]]:
    """A row for each dataset and year, with a state for each month."""
    rows: list[dict[str, Any]] = []
    for dataset in figures.months["dataset"].unique(maintain_order=True):
        have = {
            month: (trips, expected)
            for month, expected, trips in figures.months.filter(dataset=dataset)
            .select(MONTH, "row_count", "trips")
            .iter_rows()
        }
        for year in range(min(have).year, max(have).year + 1):
            months = [dt.date(year, month, 1) for month in range(1, 13)]
            cells = [_cell(month, have, min(have), max(have)) for month in months]
            rows.append({"dataset": dataset, "year": year, "cells": cells})
    return rows


def _cell(
    month: dt.date, have: dict[dt.date, tuple[int, int | None]], first: dt.date, last: dt.date
) -> dict[str, str]:
    name = f"{month:%Y-%m}"
    if month not in have:
        state = "gap" if first < month < last else "none"
        return {
            "state": state,
            "text": "",
            "title": f"{name}: {'missing' if state == 'gap' else 'not loaded'}",
        }
    trips, expected = have[month]
    if trips != expected:
        return {
            "state": "differs",
            "text": _short(trips),
            "title": f"{name}: {trips:,} trips, the ledger says {expected or 0:,}",
        }
    return {"state": "loaded", "text": _short(trips), "title": f"{name}: {trips:,} trips"}


def _short(number: float) -> str:
    """Such as `940`, `12 k` or `1.4 M`."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * unit:
            value = number / unit
            return f"{value:.0f}{name}" if value >= 9.95 else f"{value:.1f}{name}"
    return f"{number:.0f}"


def _large(number: float) -> str:
    """In full up to a billion, which is as much as there is room for."""
    return f"{number / 1e9:,.2f} billion" if number >= 1e9 else f"{number:,.0f}"


def _airport(figures: Figures, zone: int) -> int:
    return int(figures.zones.filter(location_id=zone)["trips"].sum())


def _section(figures: Figures, dataset: str) -> dict[str, Any]:
    """The pictures of a dataset; those of which it has no values are left out."""
    unit, over_time = figures.over_time(dataset)
    trips, cents = int(over_time["trips"].sum()), int(over_time["cents"].sum())
    kinds = figures.kinds.filter(dataset=dataset)
    pictures = [_draw(f"Trips by {unit}", f"{trips:,} trips", charts.over_time(figures, dataset, "trips"))]
    if cents:
        spec = charts.over_time(figures, dataset, "revenue")
        pictures.append(_draw(f"Revenue by {unit}", f"${cents / 100:,.2f}", spec))
    busiest = figures.by_hour(dataset).sort("trips", descending=True).row(0)
    note = f"Most on {charts.WEEKDAYS[busiest[0] - 1]} from {busiest[1]:02}:00: {busiest[2]:,} trips"
    pictures.append(_draw("Hours of the week", note, charts.week(figures, dataset)))
    pictures.append(_draw("Busiest zones", "By pick-ups", charts.top_zones(figures, dataset)))
    if kinds["payment_type"].drop_nulls().len():
        pictures.append(
            _draw(
                "How trips are paid for",
                "Share of trips by month of the file",
                charts.payments(figures, dataset),
            )
        )
    if odd := int(figures.odd.filter(dataset=dataset)["trips"].sum()):
        total = int(kinds["trips"].sum())
        note = f"{odd:,} odd trips, {odd / total:.2%}; one may have several reasons"
        pictures.append(_draw("What is odd", note, charts.odd_trips(figures, dataset)))
    return {"dataset": dataset, "trips": int(kinds["trips"].sum()), "pictures": pictures}


def _distances(figures: Figures) -> list[Picture]:
    pictures: list[Picture] = []
    if len(figures.shares("miles")):
        pictures.append(_draw("How far trips go", "Share of trips by whole miles", charts.distances(figures)))
    if means := figures.mean_tips:
        note = "Paid by card; tips in all: " + ", ".join(
            f"{name} {mean:.1%} of the fares" for name, mean in means.items()
        )
        pictures.append(_draw("What is tipped", note, charts.tips(figures)))
    return pictures


def _rejects(figures: Figures) -> Picture | None:
    if not figures.rejected:
        return None
    return _draw("Rejected rows", f"{figures.rejected:,} rows by month of the file", charts.rejects(figures))


def _draw(title: str, note: str, spec: Spec) -> Picture:
    wide, narrow = (_svg(spec, width, title) for width in (WIDE, NARROW))
    scale = spec.get("encoding", {}).get("color", {}).get("scale", {})
    legend = list(zip(scale.get("domain", ()), scale.get("range", ()), strict=True))
    return Picture(title, note, legend if len(legend) > 1 else [], wide, narrow)


def _svg(spec: Spec, width: int, title: str) -> str:
    """Draw one picture; what a mark says of itself becomes its tooltip, for which no script is needed."""
    import vl_convert

    size: Spec = {"width": width, "autosize": {"type": "fit-x", "contains": "padding"}, "padding": 2}
    svg = vl_convert.vegalite_to_svg({**spec, **size, "config": CONFIG})
    # Tenths of a pixel are enough; Vega writes up to 16 digits.
    svg = _PLACE.sub(lambda place: re.sub(r"(\.\d)\d+", r"\1", place[0]), svg)
    # A phone has no pointer that could rest on a mark.
    tooltip = r"<\1\3><title>\2</title></\1>" if width == WIDE else r"<\1\3/>"
    svg = _MARK.sub(tooltip, svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
