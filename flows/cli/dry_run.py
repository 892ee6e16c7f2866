"""`--dry-run`: what would be fetched and what would be replaced, without doing either."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.errors import TaxiError, UsageError
from flows.request import configured_destination
from flows.runtime import Layout
from flows.settings import get_settings
from flows.sources import CONCURRENT_PROBES, find_landed, locate_source, probe_source, without_secrets
from flows.staging import schema_version

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from flows.destinations import Holding
    from flows.request import LoadRequest
    from flows.sources import SourceFile
    from transforms.trip_month import TripMonth

Fetch = Literal["new", "changed", "forced", "unchanged", "failed"]
COLOUR_OF: dict[Fetch, str | None] = {"failed": "red", "changed": "yellow"}


@dataclass(frozen=True, slots=True)
class MonthPlan:
    """What a run would do with a month.

    Attributes:
        month: which one.
        url: where it comes from, without secrets.
        fetch: what the source has: nothing new, another version than the one here, a file not here yet.
        note: the size, or what went wrong.
        sha256: of the landed file, if that stays.
    """

    month: TripMonth
    url: str
    fetch: Fetch
    note: str
    sha256: str | None = None


def print_plan(request: LoadRequest) -> int:
    """Print the plan; returns 0, or 1 if a month's source or a destination cannot be asked.

    The source is asked for several months at once, each destination with one question for all of them.

    Raises:
        UsageError: the source cannot be what is asked for.
    """
    try:
        months = request.selection.resolve(request.color, request.source)
    except UsageError:
        raise
    except TaxiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    held, refusals = _held(request, months)
    with ThreadPoolExecutor(CONCURRENT_PROBES, "plan") as pool:
        plans = list(pool.map(lambda month: _plan_month(request, month), months))
    table = Table(title="dry run: nothing is fetched or written", title_justify="left")
    for name in ("month", "source", "would fetch", *request.to):
        table.add_column(name, overflow="fold")
    for plan in plans:
        cells = [_would_do(request, plan, held[name]) if name in held else "?" for name in request.to]
        table.add_row(
            *(escape(cell) for cell in (plan.month.iso, plan.url, plan.note, *cells)),
            style=COLOUR_OF.get(plan.fetch),
        )
    out = Console(width=None if sys.stdout.isatty() else 160)
    out.print(table)
    out.print(_in_all(plans), highlight=False)
    for refusal in refusals:
        print(f"error: {refusal}", file=sys.stderr)
    return 1 if refusals or any(plan.fetch == "failed" for plan in plans) else 0


def _in_all(plans: list[MonthPlan]) -> str:
    """Such as `31 months: 12 unchanged, 1 changed at the source, 18 not here yet`."""
    words: dict[Fetch, str] = {
        "unchanged": "unchanged",
        "changed": "changed at the source",
        "new": "not here yet",
        "forced": "to be fetched again",
        "failed": "cannot be had",
    }
    counts = Counter(plan.fetch for plan in plans)
    said = ", ".join(f"{counts[fetch]} {text}" for fetch, text in words.items() if counts[fetch])
    return f"{len(plans)} month{'s' if len(plans) > 1 else ''}: {said}"


def _held(
    request: LoadRequest, months: list[TripMonth]
) -> tuple[dict[str, Mapping[dt.date, Holding]], list[str]]:
    """What each destination has of the months; and why, of those that cannot be asked."""
    held: dict[str, Mapping[dt.date, Holding]] = {}
    refusals: list[str] = []
    between = (months[0].first_day, months[-1].first_day)
    for name in request.to:
        try:
            found = configured_destination(name, (request.data_dir or get_settings().data_dir)).holdings(
                months[0].dataset, between
            )
            held[name] = {holding.file_month: holding for holding in found}
        except TaxiError as error:
            refusals.append(f"{name}: {error.message}")
    return held, refusals


def _plan_month(request: LoadRequest, month: TripMonth) -> MonthPlan:
    settings = get_settings()
    file = locate_source(request.source, month, settings)
    url = without_secrets(file.url)
    try:
        return _plan_fetch(request, month, file)
    except TaxiError as error:
        return MonthPlan(month, url, "failed", f"error: {error.message}")


def _plan_fetch(request: LoadRequest, month: TripMonth, file: SourceFile) -> MonthPlan:
    landed = find_landed(
        Layout(request.data_dir or get_settings().data_dir).raw(month.color) / file.file_name
    )
    if landed and landed.identity != file.identity:
        landed = None
    url, known = without_secrets(file.url), landed.version if landed and not request.force else None
    found = probe_source(file, get_settings(), known)
    if found.unchanged and landed:
        return MonthPlan(month, url, "unchanged", "nothing: unchanged", landed.sha256)
    size = "size unknown" if found.bytes is None else f"{found.bytes / 1e6:,.1f} MB"
    if landed is None:
        return MonthPlan(month, url, "new", size)
    if request.force and found.version is not None and found.version == landed.version:
        return MonthPlan(month, url, "forced", f"{size}, unchanged")
    return MonthPlan(month, url, "changed", f"{size}, changed at the source")


def _would_do(request: LoadRequest, plan: MonthPlan, held: Mapping[dt.date, Holding]) -> str:
    """What would happen to the month in a destination."""
    if plan.fetch == "failed":
        return "-"
    holding = held.get(plan.month.first_day)
    if holding is None:
        return "add the month"
    load = holding.load
    if load is None or not holding.reconciles:
        rows = "what is there" if holding.rows is None else f"{holding.rows:,} rows"
        noted = f"{load.row_count:,} rows" if load else "nothing"
        return f"replace {rows}; the ledger says {noted}"
    is_same = load.is_of(plan.sha256, schema_version(plan.month), request.staging.row_transforms)
    if is_same and not request.force:
        return f"nothing: has its {load.row_count:,} rows"
    return f"replace {load.row_count:,} rows of {load.loaded_at:%Y-%m-%d}"
