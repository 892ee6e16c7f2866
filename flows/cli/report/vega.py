"""What the pictures have in common, in the words of Vega-Lite (https://vega.github.io/vega-lite/docs/).

Colours are CSS variables of the page, so one picture serves the light and the dark scheme; where a value is a
shade, it is the opacity of such a colour. Legends are the page's, because Vega's do not wrap.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from transforms.trip_month import TripMonth, months_between

Spec: TypeAlias = dict[str, Any]
"""A Vega-Lite specification without its width, or a part of one."""

Rows: TypeAlias = Sequence[Mapping[str, Any]]

HEIGHT = 150
LABEL = "label"
"""The field with a mark's value in words, which becomes its tooltip."""

_DISCRETE_AXIS: Spec = {
    "labelAngle": 0,
    "labelOverlap": True,
    "labelSeparation": 8,
    "labelPadding": 8,
    "ticks": False,
}

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
    "axisBand": _DISCRETE_AXIS,
    "axisPoint": _DISCRETE_AXIS,
    "text": {"color": "var(--muted)", "fontSize": 11},
}


def chart(rows: Rows, mark: Spec, **encoding: Spec) -> Spec:
    """A picture of one kind of marks, each described by its row's label.

    Args:
        rows: the data.
        mark: the marks.
        encoding: of channels, such as `x`.
    """
    described = encoding | {"description": {"field": LABEL}}
    return {"data": {"values": rows}, "height": HEIGHT, "mark": mark, "encoding": described}


def quantity(field: str, axis_format: str, **options: object) -> Spec:
    """A channel for a number from 0 up.

    Args:
        field: of the rows.
        axis_format: of d3, such as `~s` or `~%`.
        options: more of the channel.
    """
    axis = {"format": axis_format, "tickCount": 4}
    return {"field": field, "type": "quantitative", "title": None, "axis": axis, **options}


def category(field: str, domain: Sequence[str] | None = None, **options: object) -> Spec:
    """A channel for words or whole numbers, in a given order or in that of the rows.

    Args:
        field: of the rows.
        domain: all values, also those without a row.
        options: more of the channel.
    """
    order: Spec = {"scale": {"domain": domain}} if domain else {"sort": None}
    return {"field": field, "type": "ordinal", "title": None, **order, **options}


def month_category(months: Iterable[dt.date]) -> Spec:
    """A channel with a place for each month from the first to the last: one that is missing leaves a gap.

    Args:
        months: those that there are.
    """
    have = [TripMonth.of_date("yellow", month) for month in months]
    names = [month_name(month.first_day) for month in months_between(min(have), max(have))]
    return category("month", names)


def month_name(month: dt.date) -> str:
    """The value of a row's `month`.

    Args:
        month: any day of it.
    """
    return f"{month:%b %Y}"


def colours(field: str, domain: Sequence[str]) -> Spec:
    """A channel for the colour of each value.

    Args:
        field: of the rows.
        domain: the values.
    """
    names = [f"var(--c{number})" for number, _ in enumerate(domain, 1)]
    return {"field": field, "scale": {"domain": domain, "range": names}, "legend": None}


def dataset_colours(rows: Rows) -> Spec:
    """A channel for the colours of the datasets.

    Args:
        rows: with a `dataset`.
    """
    names = sorted({row["dataset"] for row in rows})
    scale = {"domain": names, "range": [f"var(--{name})" for name in names]}
    return {"field": "dataset", "scale": scale, "legend": None}
