"""`--dry-run`: what a run would fetch and replace, without doing either."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.markup import escape
from rich.table import Table

from flows.cli.console import table_console
from flows.cli.inventory import query_holdings
from flows.cli.logs import print_line
from flows.errors import TaxiError
from flows.month import BUCKET, WAREHOUSE, months_in_bucket
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
    table = _table("month", "source", "would fetch", *request.to)
    for plan in plans:
        first_day = plan.month.first_day
        actions = [
            _month_action(request, plan, held[name].get(first_day)) if name in held else "?"
            for name in request.to
        ]
        cells = (plan.month.iso, plan.url, plan.note, *actions)
        table.add_row(*map(escape, cells), style=COLOUR_OF.get(plan.fetch))
    _print(table, _totals(plans), refusals)
    return 1 if refusals or any(plan.fetch == "failed" for plan in plans) else 0


def print_bucket_plan(request: LoadRequest) -> int:
    """Print what a run from the bucket into BigQuery would do; each gets one query.

    Args:
        request: what is asked for.

    Returns:
        The exit code: 0, or 1 if a month is not in the bucket or one of the two cannot be queried.

    Raises:
        SourceNotFound: the bucket does not have the months that are asked for.
        DestinationBusy, DestinationRefused: the bucket does not tell which months it has.
    """
    months = months_in_bucket(request)
    destinations = [configured_destination(name, request.directory) for name in (BUCKET, WAREHOUSE)]
    between = (months[0].first_day, months[-1].first_day)
    holdings, refusals = query_holdings(destinations, months[0].dataset, between)
    stored, loaded = ({one.file_month: one for one in holdings.get(d.name, ())} for d in destinations)
    table, missing = _table("month", "in the bucket", WAREHOUSE), 0
    for month in months:
        object_, held = stored.get(month.first_day), loaded.get(month.first_day)
        if object_ is None or object_.load is None or not object_.reconciles:
            missing += 1
            there = (
                "nothing: upload it first" if object_ is None else "not what was uploaded: upload it again"
            )
            table.add_row(month.iso, there, "-", style=COLOUR_OF["failed"])
            continue
        load = object_.load
        transforms = (*filter(None, load.row_transforms.split(",")), *request.staging.row_transforms)
        wanted = (load.source_sha256, load.schema_version, transforms)
        action = "?" if WAREHOUSE in refusals else _action(held, wanted, force=request.force)
        table.add_row(month.iso, f"{load.row_count:,} rows", action)
    count = f"{len(months)} month{'s' if len(months) > 1 else ''}"
    _print(table, f"{count}: {len(months) - missing} in the bucket, {missing} missing", refusals)
    return 1 if refusals or missing else 0


def _table(*columns: str) -> Table:
    table = Table(title="dry run: nothing is fetched or written", title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _print(table: Table, totals: str, refusals: Mapping[str, str]) -> None:
    out = table_console()
    out.print(table)
    out.print(totals, highlight=False)
    for name, reason in refusals.items():
        print_line(f"error: {name}: {reason}")


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


def _month_action(request: LoadRequest, plan: _MonthPlan, holding: Holding | None) -> str:
    """What would happen to the month of a source in a destination."""
    if plan.fetch == "failed":
        return "-"
    wanted = (plan.sha256, schema_version(plan.month), request.staging.row_transforms)
    return _action(holding, wanted, force=request.force)


def _action(holding: Holding | None, wanted: tuple[str | None, str, tuple[str, ...]], *, force: bool) -> str:
    """What would happen to a month in a destination; `wanted` is as `Load.is_of` takes it."""
    if holding is None:
        return "add the month"
    load = holding.load
    if load is None or not holding.reconciles:
        rows = "what is there" if holding.rows is None else f"{holding.rows:,} rows"
        in_ledger = f"{load.row_count:,} rows" if load else "nothing"
        return f"replace {rows}; the ledger says {in_ledger}"
    if load.is_of(*wanted) and not force:
        return f"nothing: has its {load.row_count:,} rows"
    return f"replace {load.row_count:,} rows of {load.loaded_at:%Y-%m-%d}"
