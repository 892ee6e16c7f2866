"""Charts as plain SVG: a few rectangles and lines need no library, and the text stays text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 760
OURS, OTHERS, BOUND, GRID, TEXT = "#0b6e99", "#9aa5b1", "#cfd6de", "#e3e7eb", "#1f2933"
FONT = "font-family='system-ui, sans-serif' font-size='13'"
ROW, BAR, LABELS, NUMBERS = 24, 15, 200, 150  # pixels


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart.

    Attributes:
        label: who.
        value: how long the bar is.
        text: what stands beside it.
        kind: `ours`, `other`, or `bound`: does less work than the others.
    """

    label: str
    value: float
    text: str
    kind: str = "other"


@dataclass(frozen=True)
class Line:
    """Points over the number of rows.

    Attributes:
        title: with the unit.
        points: (rows, value).
    """

    title: str
    points: Sequence[tuple[int, float]]


def bar_chart(title: str, panels: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Panels of bars; each panel has its own scale, which starts at 0."""
    parts, y = [_text(16, 26, title, weight="bold")], 44
    for name, bars in panels:
        parts.append(_text(16, y + 16, name, weight="bold"))
        y += ROW + 4
        longest = max((bar.value for bar in bars), default=1) or 1
        for bar in bars:
            width = max(1, round(bar.value / longest * (WIDTH - LABELS - NUMBERS)))
            fill = {"ours": OURS, "bound": BOUND}.get(bar.kind, OTHERS)
            parts.append(_text(LABELS - 8, y + 12, bar.label, anchor="end"))
            parts.append(f"<rect x='{LABELS}' y='{y}' width='{width}' height='{BAR}' fill='{fill}'/>")
            parts.append(_text(LABELS + width + 6, y + 12, bar.text))
            y += ROW
        y += 12
    return _svg(title, y, parts)


def line_charts(title: str, lines: Sequence[Line]) -> str:
    """One panel beside the other over the number of rows (a logarithmic axis); values start at 0."""
    parts = [_text(16, 26, title, weight="bold")]
    width, height, top = (WIDTH - 40) // max(1, len(lines)), 180, 70
    for at, line in enumerate(lines):
        parts += _panel(line, left=60 + at * width, top=top, width=width - 70, height=height)
    return _svg(title, top + height + 50, parts)


def _panel(line: Line, *, left: int, top: int, width: int, height: int) -> list[str]:
    logs = [math.log10(rows) for rows, _ in line.points]
    least, span = min(logs), (max(logs) - min(logs)) or 1
    highest = _round_up(max(value for _, value in line.points))
    parts = [_text(left, top - 14, line.title)]
    for share in (0, 0.5, 1):
        y = round(top + height * (1 - share), 1)
        parts.append(f"<line x1='{left}' x2='{left + width}' y1='{y}' y2='{y}' stroke='{GRID}'/>")
        parts.append(_text(left - 6, y + 4, f"{highest * share:g}", anchor="end"))
    places = [
        (round(left + (log - least) / span * width, 1), round(top + height * (1 - value / highest), 1))
        for log, (_, value) in zip(logs, line.points, strict=True)
    ]
    path = " ".join(f"{x},{y}" for x, y in places)
    parts.append(f"<polyline points='{path}' fill='none' stroke='{OURS}' stroke-width='2'/>")
    for (x, y), (rows, value) in zip(places, line.points, strict=True):
        parts.append(f"<circle cx='{x}' cy='{y}' r='4' fill='{OURS}'/>")
        parts.append(_text(x, y - 9, f"{value:.3g}", anchor="middle"))
        parts.append(_text(x, top + height + 18, short(rows), anchor="middle"))
    return parts


def short(rows: int) -> str:
    """`1.44 M` for 1,440,000."""
    return f"{rows / 1e6:.3g} M" if rows >= 100_000 else f"{rows:,}"


def _round_up(value: float) -> float:
    """The next 1, 2, 3, 5 or 8 times a power of ten, with room for a number above the highest point."""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 3, 5, 8, 10, 20) if step * power >= value * 1.15)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f"<text x='{x}' y='{y}' {FONT} font-weight='{weight}' text-anchor='{anchor}' fill='{TEXT}'>"
        f"{escape(text)}</text>"
    )


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' "
        f"viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{escape(title, quote=True)}'>"
    )
    # A white background, because a README may be shown on a dark one.
    ground = f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>"
    return "\n".join([head, ground, *parts, "</svg>", ""])
