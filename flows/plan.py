"""`--dry-run`: what would be fetched and what would be replaced, without doing either."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.blocks import configured_destination
from flows.errors import TaxiError
from flows.layout import Layout
from flows.settings import get_settings
from flows.sources import locate_source
from flows.sources.landing import landed_before
from flows.sources.transports import Request, open_source, without_secrets
from flows.staged import schema_version

if TYPE_CHECKING:
    from flows.command_line import Command
    from flows.sources import LandedFile, SourceFile
    from transforms.trip_month import TripMonth


def print_plan(command: Command) -> int:
    """Print the plan; returns 0, or 1 if a month's source or destination cannot be asked."""
    table = Table(title="dry run: nothing is fetched or written", title_justify="left")
    for name in ("month", "source", "would fetch", *command.to):
        table.add_column(name, overflow="fold")
    failed = False
    for month in command.months:
        try:
            table.add_row(month.iso, *map(escape, _plan_month(command, month)))
        except TaxiError as error:
            failed = True
            table.add_row(month.iso, escape(f"error: {error.message}"), style="red")
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 1 if failed else 0


def _plan_month(command: Command, month: TripMonth) -> list[str]:
    settings = get_settings()
    file = locate_source(command.source, month, settings)
    landed = landed_before(Layout(command.data_dir).raw(month.color) / file.file_name)
    fetch, sha256 = _plan_fetch(file, landed, force=command.force)
    cells = [without_secrets(file.url), fetch]
    expected = (sha256, schema_version(month), ",".join(command.row_transforms))
    for name in command.to:
        load = configured_destination(name, command.data_dir).loaded(month)
        if load is None:
            cells.append("add the month")
        elif not command.force and expected == (
            load.source_sha256,
            load.schema_version,
            load.row_transforms,
        ):
            cells.append(f"nothing: has its {load.row_count:,} rows")
        else:
            cells.append(f"replace {load.row_count:,} rows of {load.loaded_at:%Y-%m-%d}")
    return cells


def _plan_fetch(file: SourceFile, landed: LandedFile | None, *, force: bool) -> tuple[str, str | None]:
    """What would be fetched, and the checksum of what is here if that would stay."""
    same_place = landed is not None and landed.identity == file.identity
    known = landed.version if landed and same_place and not force else None
    with open_source(Request(file.url, known=known), get_settings()) as opened:
        if opened.unchanged and landed:
            return "nothing: unchanged", landed.sha256
        size = f"{opened.total / 1e6:,.1f} MB" if opened.total else "size unknown"
        return size, None
