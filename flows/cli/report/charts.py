"""The pictures of the report as Vega-Lite specifications."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from flows.cli.report.figures import MONTH, Figures
from flows.cli.report.vega import (
    HEIGHT,
    LABEL,
    Spec,
    category,
    chart,
    colours,
    dataset_colours,
    month_category,
    month_name,
    quantity,
)
from transforms.dimensions import dimensions
from transforms.report_queries import LAST_MILE, LAST_TIP_PERCENT, TIP_STEP_PERCENT

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
TOP_ZONES = 10
NOT_RECORDED = "Not recorded"

MOST_TOOLTIPS = 400
"""A line of more points has no tooltips, which would be most of the page's bytes."""


def over_time(figures: Figures, dataset: str, field: str) -> Spec:
    """Trips or revenue by day; a gap where no month is loaded.

    Args:
        figures: of the warehouse.
        dataset: whose.
        field: `trips` or `revenue`.
    """
    unit, frame = figures.over_time(dataset)
    names = "%Y-%m-%d" if unit == "day" else "%Y-%m"
    rows = [
        {"at": f"{at}", "trips": None, "revenue": None}
        for at in frame.filter(pl.col("trips").is_null())["at"]
    ]
    rows += [
        {"at": f"{at}", "trips": trips, "revenue": cents / 100}
        | {LABEL: f"{at.strftime(names)}: {trips:,} trips, ${cents / 100:,.2f}"}
        for at, trips, cents in frame.drop_nulls("trips").iter_rows()
    ]
    colour, y = f"var(--{dataset})", quantity(field, "$~s" if field == "revenue" else "~s")
    axis = {"format": "%b %Y", "labelOverlap": True, "labelFlush": True, "grid": False, "tickCount": 5}
    x: Spec = {"field": "at", "type": "temporal", "scale": {"type": "utc"}, "title": None, "axis": axis}
    line: Spec = {"line": {"color": colour, "strokeWidth": 1.5}}
    area: Spec = {"type": "area", "color": colour, "fillOpacity": 0.18, "aria": False, **line}
    layers: list[Spec] = [{"mark": area, "encoding": {"x": x, "y": y}}]
    if len(rows) <= MOST_TOOLTIPS:  # bars that nobody sees, for their tooltips
        days: Spec = {"field": "at", "type": "temporal", "timeUnit": "utcyearmonthdate", "bandPosition": 0}
        bars = chart([], {"type": "bar", "opacity": 0, "width": {"band": 1}}, x=days, y=y)
        is_loaded = {"transform": [{"filter": "datum.trips !== null"}]}
        layers.append(is_loaded | {key: bars[key] for key in ("mark", "encoding")})
    return {"data": {"values": rows}, "height": HEIGHT, "layer": layers}


def week(figures: Figures, dataset: str) -> Spec:
    """A heat map of the hours of the week.

    Args:
        figures: of the warehouse.
        dataset: whose.
    """
    rows = [
        {"day": WEEKDAYS[day - 1], "hour": hour, "trips": trips}
        | {LABEL: f"{WEEKDAYS[day - 1]} {hour:02}:00 to {hour:02}:59: {trips:,} trips"}
        for day, hour, trips in figures.by_hour(dataset).iter_rows()
    ]
    bare: Spec = {"labelOverlap": False, "ticks": False, "domain": False, "labelPadding": 6}
    shade = {"field": "trips", "type": "quantitative", "scale": {"range": [0.06, 1], "zero": True}}
    hours = {"values": [0, 6, 12, 18, 23], **bare}
    return chart(
        rows,
        {"type": "rect", "fill": f"var(--{dataset})"},
        x=category("hour", axis=hours, scale={"paddingInner": 0.08}),
        y=category("day", axis=bare, scale={"paddingInner": 0.12}),
        fillOpacity={**shade, "legend": None},
    )


def top_zones(figures: Figures, dataset: str) -> Spec:
    """The zones with the most pick-ups.

    Args:
        figures: of the warehouse.
        dataset: whose.
    """
    zones = figures.zones.filter(dataset=dataset).with_columns(pl.col("zone").fill_null(NOT_RECORDED))
    zones = zones.sort(["trips", "location_id"], descending=[True, False]).head(TOP_ZONES)
    rows = [
        {"zone": zone, "trips": trips, "count": f"{trips:,}"}
        | {LABEL: f"{zone}{f', {borough}' if borough else ''}: {trips:,} trips"}
        for borough, zone, trips in zones.select("borough", "zone", "trips").iter_rows()
    ]
    names: Spec = {
        "labelOverlap": False,
        "labelLimit": 140,
        "minExtent": 156,
        "ticks": False,
        "domain": False,
        "labelPadding": 4,
    }
    # Room for the numbers to the right of the longest bar.
    most = 1.25 * int(zones["trips"].item(0))
    bars = chart(
        rows,
        {"type": "bar", "color": f"var(--{dataset})"},
        x=quantity("trips", "~s", axis=None, scale={"domain": [0, most]}),
        y=category("zone", axis=names),
    )
    numbers: Spec = {"mark": {"type": "text", "align": "left", "dx": 4, "aria": False}}
    numbers["encoding"] = {"text": {"field": "count"}}
    return _layered(bars, numbers) | {"height": {"step": 18}}


def payments(figures: Figures, dataset: str) -> Spec:
    """How trips were paid for, by month.

    Args:
        figures: of the warehouse.
        dataset: whose.
    """
    [table] = (table for table in dimensions() if table.name == "taxi_payment_types")
    words = {code: str(word) for code, word in table.rows}
    sums = figures.kinds.filter(dataset=dataset).group_by(MONTH, "payment_type").agg(pl.col("trips").sum())
    sums = sums.with_columns(total=pl.col("trips").sum().over(MONTH)).sort(MONTH, "payment_type")
    rows = [
        {"month": month_name(month), "payment": words.get(code, NOT_RECORDED), "trips": trips}
        | {LABEL: f"{month:%Y-%m}, {words.get(code, NOT_RECORDED)}: {trips:,} trips, {trips / total:.1%}"}
        for month, code, trips, total in sums.iter_rows()
    ]
    common = ["Credit card", "Cash", NOT_RECORDED]
    names = {row["payment"] for row in rows}
    order = [*(name for name in common if name in names), *sorted(names - {*common})]
    picture = chart(
        rows,
        {"type": "bar"},
        x=month_category(sums[MONTH]),
        y=quantity("trips", "~%", stack="normalize"),
        color=colours("payment", order),
        order={"field": "order"},
    )
    return picture | {"transform": [{"calculate": f"indexof({order}, datum.payment)", "as": "order"}]}


def odd_trips(figures: Figures, dataset: str) -> Spec:
    """The share of odd trips, by month and reason.

    Args:
        figures: of the warehouse.
        dataset: whose.
    """
    sums = figures.by_reason(dataset).with_columns(pl.col("reason").str.replace_all("_", " "))
    rows = [
        {"month": month_name(month), "reason": reason, "share": share}
        | {LABEL: f"{month:%Y-%m}, {reason}: {trips:,} of {total:,} trips, {share:.2%}"}
        for month, total, reason, trips, share in sums.sort(MONTH, "reason").iter_rows()
    ]
    points = chart(
        rows,
        {"type": "point", "filled": True, "size": 28, "opacity": 1},
        x=month_category(sums[MONTH]),
        y=quantity("share", "~%"),
        color=colours("reason", sorted({*sums["reason"]})),
    )
    line: Spec = {"mark": {"type": "line", "strokeWidth": 1.5, "aria": False}}
    return _layered(points, line)


def distances(figures: Figures) -> Spec:
    """The trips by whole miles.

    Args:
        figures: of the warehouse.
    """
    names = {mile: f"{mile}" for mile in range(LAST_MILE)} | {LAST_MILE: f"{LAST_MILE}+"}
    return _histogram(figures.shares("miles"), names, "miles")


def tips(figures: Figures) -> Spec:
    """The trips paid by card, by their tips in per cent of the fare.

    Args:
        figures: of the warehouse.
    """
    steps = range(0, LAST_TIP_PERCENT, TIP_STEP_PERCENT)
    names = {step: f"{step} to {step + TIP_STEP_PERCENT}" for step in steps}
    return _histogram(
        figures.shares("tip_percent"), names | {LAST_TIP_PERCENT: f"{LAST_TIP_PERCENT}+"}, "% of the fare"
    )


def rejects(figures: Figures) -> Spec:
    """The rejected rows by month.

    Args:
        figures: of the warehouse.
    """
    sums = figures.rejects.group_by(MONTH, "dataset").agg(pl.col("lines").sum()).sort(MONTH, "dataset")
    rows = [
        {"month": month_name(month), "dataset": dataset, "lines": lines}
        | {LABEL: f"{dataset} {month:%Y-%m}: {lines:,} rejected rows"}
        for month, dataset, lines in sums.iter_rows()
    ]
    return chart(
        rows,
        {"type": "bar"},
        x=month_category(figures.months[MONTH]),
        y=quantity("lines", "~s"),
        color=dataset_colours(rows),
    )


def _layered(described: Spec, *others: Spec) -> Spec:
    """A picture with more layers, which share its channels and have no tooltips."""
    encoding = dict(described["encoding"])
    label = {"encoding": {"description": encoding.pop("description")}}
    layers = [{"mark": described["mark"]} | label, *others]
    return {"data": described["data"], "height": HEIGHT, "encoding": encoding, "layer": layers}


def _histogram(shares: pl.DataFrame, names: Mapping[int, str], title: str) -> Spec:
    """Bars beside each other for each dataset: the share of its trips in each group."""
    rows = [
        {"dataset": dataset, "group": names[group], "share": share}
        | {LABEL: f"{dataset}, {names[group]} {title}: {trips:,} trips, {share:.1%}"}
        for dataset, group, trips, share in shares.iter_rows()
    ]
    return chart(
        rows,
        {"type": "bar"},
        x=category("group", [*names.values()], title=title),
        y=quantity("share", "~%"),
        xOffset={"field": "dataset"},
        color=dataset_colours(rows),
    )
