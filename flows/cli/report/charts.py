"""The pictures of the report as Vega-Lite specifications.

Colours are CSS variables of the page, so one picture serves the light and the dark scheme; where a value is a
shade, it is the opacity of such a colour. Each mark is described by its value: `page` makes that its tooltip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import polars as pl

from flows.cli.report.figures import MONTH, Figures
from transforms.dimensions import dimensions
from transforms.report_queries import LAST_MILE, LAST_TIP_PERCENT, TIP_STEP_PERCENT
from transforms.trip_month import TripMonth, months_between

Spec: TypeAlias = dict[str, Any]
"""A Vega-Lite specification without its width."""

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
TOP_ZONES = 10
MOST_TOOLTIPS = 400
"""A line of more points has no tooltips, which would be most of the page's bytes."""

CONFIG: Spec = {
    "background": None,
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "text": {"color": "var(--muted)", "fontSize": 11},
}


def over_time(figures: Figures, dataset: str, field: str) -> Spec:
    """Trips or revenue by day; a gap where no month is loaded.

    Args:
        figures: of the warehouse.
        dataset: whose.
        field: `trips` or `revenue`.
    """
    unit, frame = figures.over_time(dataset)
    rows = [
        {"at": f"{at}", "trips": trips, "revenue": cents / 100 if cents is not None else None}
        | {"label": f"{at}" if trips is None else f"{_day(at, unit)}: {trips:,} trips, ${cents / 100:,.2f}"}
        for at, trips, cents in frame.iter_rows()
    ]
    colour = f"var(--{dataset})"
    x = {"field": "at", "type": "temporal", "scale": {"type": "utc"}, "title": None, "axis": _TIME_AXIS}
    y = {
        "field": field,
        "type": "quantitative",
        "title": None,
        "axis": {"format": "$~s" if field == "revenue" else "~s"},
    }
    y["axis"] |= {"tickCount": 4}
    line = {
        "mark": {"type": "area", "color": colour, "fillOpacity": 0.18, "aria": False}
        | {"line": {"color": colour, "strokeWidth": 1.5}},
        "encoding": {"x": x, "y": y},
    }
    layers = [line]
    if len(rows) <= MOST_TOOLTIPS:
        band = {"field": "at", "type": "temporal", "timeUnit": "utcyearmonthdate", "bandPosition": 0}
        layers.append(
            {
                "transform": [{"filter": "datum.trips !== null"}],
                "mark": {"type": "bar", "color": colour, "opacity": 0, "width": {"band": 1}},
                "encoding": {
                    "x": band,
                    "y": {"field": field, "type": "quantitative"},
                    "description": {"field": "label"},
                },
            }
        )
    return {"data": {"values": rows}, "height": 150, "layer": layers}


def week(figures: Figures, dataset: str) -> Spec:
    """A heat map of the hours of the week.

    Args:
        figures: of the warehouse.
        dataset: whose.
    """
    rows = [
        {"day": WEEKDAYS[day - 1], "hour": hour, "trips": trips}
        | {"label": f"{WEEKDAYS[day - 1]} {hour:02}:00 to {hour:02}:59: {trips:,} trips"}
        for day, hour, trips in figures.by_hour(dataset).iter_rows()
    ]
    return {
        "data": {"values": rows},
        "height": 150,
        "mark": {"type": "rect", "fill": f"var(--{dataset})"},
        "encoding": {
            "x": {
                "field": "hour",
                "type": "ordinal",
                "title": None,
                "scale": {"paddingInner": 0.08},
                "axis": {"labelAngle": 0, "values": [0, 6, 12, 18, 23], "ticks": False, "domain": False},
            },
            "y": {
                "field": "day",
                "type": "ordinal",
                "sort": list(WEEKDAYS),
                "title": None,
                "scale": {"paddingInner": 0.12},
                "axis": {"ticks": False, "domain": False},
            },
            "fillOpacity": {
                "field": "trips",
                "type": "quantitative",
                "scale": {"range": [0.06, 1], "zero": True},
                "legend": None,
            },
            "description": {"field": "label"},
        },
    }


def top_zones(figures: Figures, dataset: str) -> Spec:
    """The zones with the most pick-ups.

    Args:
        figures: of the warehouse.
        dataset: whose.
    """
    zones = figures.zones.filter(dataset=dataset).sort(["trips", "location_id"], descending=[True, False])
    rows = [
        {"zone": zone or "Not recorded", "trips": trips, "count": f"{trips:,}"}
        | {"label": f"{zone or 'Not recorded'}{f', {borough}' if borough else ''}: {trips:,} trips"}
        for borough, zone, trips in zones.head(TOP_ZONES).select("borough", "zone", "trips").iter_rows()
    ]
    y = {"field": "zone", "type": "nominal", "sort": None, "title": None, "axis": _ZONE_AXIS}
    # Room for the numbers to the right of the longest bar.
    x = {"field": "trips", "type": "quantitative", "axis": None}
    x["scale"] = {"domain": [0, 1.25 * max((row["trips"] for row in rows), default=1)]}
    bars = {"mark": {"type": "bar", "color": f"var(--{dataset})"}}
    bars["encoding"] = {"description": {"field": "label"}}
    numbers = {"mark": {"type": "text", "align": "left", "dx": 4, "aria": False}}
    numbers["encoding"] = {"text": {"field": "count"}}
    return {
        "data": {"values": rows},
        "height": {"step": 18},
        "encoding": {"x": x, "y": y},
        "layer": [bars, numbers],
    }


def payments(figures: Figures, dataset: str) -> Spec:
    """How trips were paid for, by month.

    Args:
        figures: of the warehouse.
        dataset: whose.
    """
    [words] = [dict(table.rows) for table in dimensions() if table.name == "taxi_payment_types"]
    sums = figures.kinds.filter(dataset=dataset).group_by(MONTH, "payment_type").agg(pl.col("trips").sum())
    totals = pl.col("trips").sum().over(MONTH)
    rows = [
        {"month": f"{month:%b %Y}", "payment": words.get(code, "Not recorded"), "trips": trips}
        | {"label": f"{month:%Y-%m}, {words.get(code, 'Not recorded')}: {trips:,} trips, {trips / total:.1%}"}
        for month, code, trips, total in sums.with_columns(total=totals)
        .sort(MONTH, "payment_type")
        .iter_rows()
    ]
    # The colours go by importance; rare ways of payment share the last ones.
    order = [
        "Credit card",
        "Cash",
        "Not recorded",
        "Flex fare",
        "No charge",
        "Dispute",
        "Unknown",
        "Voided trip",
    ]
    colour = _colours([name for name in order if any(row["payment"] == name for row in rows)])
    y = {"field": "trips", "type": "quantitative", "stack": "normalize", "title": None}
    y["axis"] = {"format": "%", "tickCount": 4}
    return {
        "data": {"values": rows},
        "transform": [{"calculate": f"indexof({order}, datum.payment)", "as": "order"}],
        "height": 150,
        "mark": {"type": "bar"},
        "encoding": {
            "x": _months(figures),
            "y": y,
            "color": {"field": "payment", "type": "nominal", **colour},
            "order": {"field": "order"},
            "description": {"field": "label"},
        },
    }


def odd_trips(figures: Figures, dataset: str) -> Spec:
    """The share of odd trips, by month and reason.

    Args:
        figures: of the warehouse.
        dataset: whose.
    """
    rows = [
        {"month": f"{month:%b %Y}", "reason": reason.replace("_", " "), "share": share}
        | {"label": f"{month:%Y-%m}, {reason.replace('_', ' ')}: {trips:,} of {total:,} trips, {share:.2%}"}
        for month, total, reason, trips, share in figures.by_reason(dataset).sort(MONTH, "reason").iter_rows()
    ]
    colour = _colours(sorted({row["reason"] for row in rows}))
    return {
        "data": {"values": rows},
        "height": 150,
        "mark": {"type": "line", "point": {"size": 24}, "strokeWidth": 1.5},
        "encoding": {
            "x": _months(figures),
            "y": {
                "field": "share",
                "type": "quantitative",
                "title": None,
                "axis": {"format": "~%", "tickCount": 4},
            },
            "color": {"field": "reason", "type": "nominal", **colour},
            "description": {"field": "label"},
        },
    }


def distances(figures: Figures) -> Spec:
    """The trips by whole miles.

    Args:
        figures: of the warehouse.
    """
    names = {mile: f"{mile}" for mile in range(LAST_MILE)} | {LAST_MILE: f"{LAST_MILE}+"}
    return _histogram(figures.shares("miles"), names, "miles", "miles")


def tips(figures: Figures) -> Spec:
    """The trips paid by card, by their tips in per cent of the fare.

    Args:
        figures: of the warehouse.
    """
    steps = range(0, LAST_TIP_PERCENT, TIP_STEP_PERCENT)
    names = {step: f"{step}\u2013{step + TIP_STEP_PERCENT}" for step in steps}
    names[LAST_TIP_PERCENT] = f"{LAST_TIP_PERCENT}+"
    return _histogram(figures.shares("tip_percent"), names, "% of the fare", "tip in per cent of the fare")


def rejects(figures: Figures) -> Spec:
    """The rejected rows by month.

    Args:
        figures: of the warehouse.
    """
    sums = figures.rejects.group_by(MONTH, "dataset").agg(pl.col("lines").sum()).sort(MONTH, "dataset")
    rows = [
        {"month": f"{month:%b %Y}", "dataset": dataset, "lines": lines}
        | {"label": f"{dataset} {month:%Y-%m}: {lines:,} rejected rows"}
        for month, dataset, lines in sums.iter_rows()
    ]
    y = {
        "field": "lines",
        "type": "quantitative",
        "title": None,
        "axis": {"format": "~s", "tickCount": 4, "tickMinStep": 1},
    }
    return {
        "data": {"values": rows},
        "height": 150,
        "mark": {"type": "bar"},
        "encoding": {
            "x": _months(figures),
            "y": y,
            "color": _of_dataset(rows),
            "description": {"field": "label"},
        },
    }


_TIME_AXIS: Spec = {"format": "%b %Y", "labelOverlap": True, "labelFlush": True, "labelBound": True}
_TIME_AXIS |= {"grid": False, "tickCount": 5}
_BAND_AXIS: Spec = {"labelAngle": 0, "labelOverlap": True, "ticks": False}
_ZONE_AXIS: Spec = {"labelLimit": 150, "minExtent": 150, "ticks": False, "domain": False}


def _months(figures: Figures) -> Spec:
    """A place for each month of the report, so that one that is missing leaves a gap."""
    first, last = (TripMonth.of_date("yellow", month) for month in figures.range)
    names = [f"{month.first_day:%b %Y}" for month in months_between(first, last)]
    return {
        "field": "month",
        "type": "ordinal",
        "title": None,
        "scale": {"domain": names},
        "axis": _BAND_AXIS,
    }


def _histogram(frame: pl.DataFrame, names: Mapping[int, str], title: str, words: str) -> Spec:
    """Bars beside each other for each dataset: the share of its trips in each group."""
    rows = [
        {"dataset": dataset, "group": names[group], "share": share}
        | {"label": f"{dataset}, {names[group]} {words}: {trips:,} trips, {share:.1%}"}
        for dataset, group, trips, share in frame.iter_rows()
    ]
    x: Spec = {"field": "group", "type": "ordinal", "title": title, "axis": _BAND_AXIS}
    x["scale"] = {"domain": [*names.values()]}
    y = {"field": "share", "type": "quantitative", "title": None, "axis": {"format": "~%", "tickCount": 4}}
    return {
        "data": {"values": rows},
        "height": 150,
        "mark": {"type": "bar"},
        "encoding": {
            "x": x,
            "y": y,
            "xOffset": {"field": "dataset"},
            "color": _of_dataset(rows),
            "description": {"field": "label"},
        },
    }


def _of_dataset(rows: Iterable[Mapping[str, Any]]) -> Spec:
    datasets = sorted({row["dataset"] for row in rows})
    scale = {"domain": datasets, "range": [f"var(--{name})" for name in datasets]}
    return {"field": "dataset", "type": "nominal", "scale": scale, "legend": None}


def _colours(domain: Sequence[str]) -> Spec:
    """A scale; the legend is the page's, because Vega's neither wraps nor knows the page's font."""
    names = [f"var(--c{number})" for number, _ in enumerate(domain, 1)]
    return {"scale": {"domain": domain, "range": names}, "legend": None}


def _day(at: object, unit: str) -> str:
    return f"{at}" if unit == "day" else f"{at}"[:7]
