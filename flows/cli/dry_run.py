"""`--dry-run`: what a run would fetch and replace, without doing either."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.markup import escape
from rich.table import Table

from flows.cli.console import table_console
from flows.cli.inventory import query_holdings
from flows.cli.logs import print_line
from flows.errors import TaxiError
from flows.request import LoadRequest, configured_destination
from flows.runtime import Layout
from flows.settings import get_settings
from flows.sources import (
    CONCURRENT_PROBES,
    SourceFile,
    find_landed,
    locate_source,
    probe_source,
    without_secrets,
)
from flows.staging import schema_version

if TYPE_CHECKING:
    from flows.destinations import Holding
    from transforms.trip_month import TripMonth

Fetch = Literal["new", "changed", "forced", "unchanged", "failed"]
COLOUR_OF: dict[Fetch, str | None] = {"failed": "red", "changed": "yellow"}


@dataclass(frozen=True, slots=True)
class _MonthPlan:
    """What a run would fetch for a month.

    Attributes:
        month: the month.
        url: its source, without secrets.
        fetch: how the source compares with the landed file; `failed`: the source cannot be queried.
        note: the size of the download, or what went wrong.
        sha256: checksum of the landed file if it would be kept, else None.
    """

    month: TripMonth
    url: str
    fetch: Fetch
    note: str
    sha256: str | None = None


def print_plan(request: LoadRequest) -> int:
    """Print what a run would do. Several months are probed at once; each destination gets one query.

    Args:
        request: what is asked for.

    Returns:
        The exit code: 0, or 1 if the source of a month or a destination cannot be queried.

    Raises:
        UsageError: the source cannot serve the request.
        SourceNotFound, SourceUnreachable, SourceBusy, SourceCorrupt: the source does not tell which months
            it has.
    """
    months = request.selection.resolve(request.color, request.source)
    destinations = [configured_destination(name, request.directory) for name in request.to]
    between = (months[0].first_day, months[-1].first_day)
    holdings, refusals = query_holdings(destinations, months[0].dataset, between)
    held = {
        name: {holding.file_month: holding for holding in of_destination}
        for name, of_destination in holdings.items()
    }
    with ThreadPoolExecutor(CONCURRENT_PROBES, "plan") as pool:
        plans = list(pool.map(lambda month: _plan_month(request, month), months))
    table = Table(title="dry run: nothing is fetched or written", title_justify="left")
    for name in ("month", "source", "would fetch", *request.to):
        table.add_column(name, overflow="fold")
    for plan in plans:
        first_day = plan.month.first_day
        actions = [
            _action(request, plan, held[name].get(first_day)) if name in held else "?" for name in request.to
        ]
        cells = (plan.month.iso, plan.url, plan.note, *actions)
        table.add_row(*map(escape, cells), style=COLOUR_OF.get(plan.fetch))
    out = table_console()
    out.print(table)
    out.print(_totals(plans), highlight=False)
    for name, reason in refusals.items():
        print_line(f"error: {name}: {reason}")
    return 1 if refusals or any(plan.fetch == "failed" for plan in plans) else 0


def _totals(plans: list[_MonthPlan]) -> str:
    """Such as `31 months: 12 unchanged, 1 changed at the source, 18 not here yet`."""
    words: dict[Fetch, str] = {
        "unchanged": "unchanged",
        "changed": "changed at the source",
        "new": "not here yet",
        "forced": "to be fetched again",
        "failed": "cannot be had",
    }
    counts = Counter(plan.fetch for plan in plans)
    parts = ", ".join(f"{counts[fetch]} {text}" for fetch, text in words.items() if counts[fetch])
    return f"{len(plans)} month{'s' if len(plans) > 1 else ''}: {parts}"


def _plan_month(request: LoadRequest, month: TripMonth) -> _MonthPlan:
    file = locate_source(request.source, month, get_settings())
    try:
        return _plan_fetch(request, month, file)
    except TaxiError as error:
        return _MonthPlan(month, without_secrets(file.url), "failed", f"error: {error.message}")


def _plan_fetch(request: LoadRequest, month: TripMonth, file: SourceFile) -> _MonthPlan:
    landed = find_landed(Layout(request.directory).raw(month.color) / file.file_name)
    if landed and landed.identity != file.identity:
        landed = None
    url = without_secrets(file.url)
    probe = probe_source(file, get_settings(), landed.version if landed and not request.force else None)
    if probe.unchanged and landed:
        return _MonthPlan(month, url, "unchanged", "nothing: unchanged", landed.sha256)
    size = "size unknown" if probe.bytes is None else f"{probe.bytes / 1e6:,.1f} MB"
    if landed is None:
        return _MonthPlan(month, url, "new", size)
    if request.force and probe.version is not None and probe.version == landed.version:
        return _MonthPlan(month, url, "forced", f"{size}, unchanged")
    return _MonthPlan(month, url, "changed", f"{size}, changed at the source")


def _action(request: LoadRequest, plan: _MonthPlan, holding: Holding | None) -> str:
    """What would happen to the month in a destination."""
    if plan.fetch == "failed":
        return "-"
    if holding is None:
        return "add the month"
    load = holding.load
    if load is None or not holding.reconciles:
        rows = "what is there" if holding.rows is None else f"{holding.rows:,} rows"
        in_ledger = f"{load.row_count:,} rows" if load else "nothing"
        return f"replace {rows}; the ledger says {in_ledger}"
    is_same = load.is_of(plan.sha256, schema_version(plan.month), request.staging.row_transforms)
    if is_same and not request.force:
        return f"nothing: has its {load.row_count:,} rows"
    return f"replace {load.row_count:,} rows of {load.loaded_at:%Y-%m-%d}"
