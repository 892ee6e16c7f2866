"""What months on other machines need: a source that is there too, and receipts that are verified here."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from flows.errors import DestinationRefused, SourceNotFound, TaxiError, error_context
from flows.month import MonthFailed, MonthOutcome
from flows.request import configured_destination
from flows.settings import get_settings
from flows.sources import PUBLISHERS, SYNTHETIC, locate_source

if TYPE_CHECKING:
    from transforms.trip_month import TripMonth


def portable_source(source: str) -> str:
    """The source in a form that means the same on every machine: a relative path becomes absolute.

    Args:
        source: `dtc`, `tlc`, `synthetic` or a template.
    """
    if source == SYNTHETIC or source in PUBLISHERS or "://" in source:
        return source
    return str(Path(source).expanduser().absolute())


def check_source_on_worker(month: TripMonth, source: str) -> None:
    """Refuse early a path that this machine does not have; other sources are not asked.

    Args:
        month: which one.
        source: see `flows.sources.locate_source`.

    Raises:
        MonthFailed: there is no such file here; names the machine.
    """
    url = urlsplit(locate_source(source, month, get_settings()).url)
    path = Path(unquote(url.path))
    if url.scheme != "file" or path.exists():
        return
    error = SourceNotFound(
        f"the worker on {socket.gethostname()} has no file {path}; put it there under the same path, or "
        "name a source that every worker can reach (http, https, gs)"
    )
    error.where = month.label
    raise MonthFailed(str(error), MonthOutcome(month, error=str(error))) from error


def verify_outcome(outcome: MonthOutcome, data_dir: Path) -> MonthOutcome:
    """Compare what a worker reports with the destinations configured on this machine.

    A worker has settings of its own. One that was given another database would load a month where nobody
    looks for it, and report success.

    Args:
        outcome: as reported.
        data_dir: of this machine.

    Returns:
        The same outcome; a receipt that a destination does not confirm has become a failure.
    """
    for name, receipt in list(outcome.receipts.items()):
        try:
            with error_context(f"{outcome.month.label} -> {name}"):
                destination = configured_destination(name, data_dir)
                load = destination.loaded(outcome.month)
                if load is None or load.row_count != receipt.rows:
                    has = "nothing of it" if load is None else f"{load.row_count:,} rows"
                    raise DestinationRefused(
                        f"the worker reports {receipt.rows:,} rows, but the {name} configured here has "
                        f"{has}; give the worker the same settings (TAXI_*) and run it again"
                    )
        except TaxiError as error:
            del outcome.receipts[name]
            outcome.failures[name] = str(error)
    if outcome.failures and outcome.error is None:
        outcome.error = "; ".join(outcome.failures.values())
    outcome.finish()
    return outcome
