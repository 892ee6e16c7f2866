"""Asking a source what it has, without downloading: about one file, or for its newest months."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.errors import SourceNotFound
from flows.runtime import retry_transient
from flows.sources.catalogue import PUBLISHERS, SYNTHETIC, SourceFile, check_open_ended, locate_source
from flows.sources.redaction import without_secrets
from flows.sources.source_request import SourceFileMissing, SourceRequest
from flows.sources.transports import RETRIED_ERRORS, open_source, source_retry_policy
from transforms.trip_month import TripMonth, months_between

if TYPE_CHECKING:
    from flows.settings import Settings

logger = logging.getLogger(__name__)

CONCURRENT_PROBES = 8
GAP_MONTHS = 12  # after so many months in a row without a file, there are hardly any older ones
USUAL_DELAY_MONTHS = 3  # the TLC publishes a month about two months after its end


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a source says about a file.

    Attributes:
        bytes: its size; None if the source does not say.
        version: see `SourceResponse`; None if the source has none.
        unchanged: whether it still has the version given to `probe_source`.
    """

    bytes: int | None
    version: str | None
    unchanged: bool


def probe_source(file: SourceFile, settings: Settings, known_version: str | None = None) -> ProbeResult:
    """Ask a source about a file; transient errors are retried with growing pauses.

    Args:
        file: the file.
        settings: time-outs and attempts.
        known_version: version of the file that landed before.

    Returns:
        Size, version, and whether the version is still the known one.

    Raises:
        SourceFileMissing: the source answered that it has no such file.
        SourceNotFound, SourceUnreachable, SourceBusy, SourceCorrupt: see `flows.errors`.
    """
    return retry_transient(
        lambda: _probe_once(file, settings, known_version),
        source_retry_policy(settings),
        retry_on=RETRIED_ERRORS,
    )


def newest_months(
    source: str,
    color: str,
    count: int,
    settings: Settings,
    *,
    today: dt.date,
    since: TripMonth | None = None,
) -> list[TripMonth]:
    """Find the newest months that a source has, by asking for one month after the other.

    The search goes back from this month (`dtc`: its last month; `synthetic`: the last complete month) until
    there are enough, or until twelve months in a row have no file.

    Args:
        source: see `locate_source`.
        color: dataset.
        count: number of months; if the source has fewer, all of them are returned, and a warning is logged.
        settings: time-outs and attempts.
        today: the search starts with this day's month.
        since: the oldest month to consider.

    Returns:
        The months, in calendar order.

    Raises:
        UsageError: every month would be the same file.
        SourceNotFound: the source has no month in that range.
        SourceUnreachable, SourceBusy, SourceCorrupt: no answer, which does not mean "not published".
    """
    check_open_ended(source)
    name = without_secrets(source)
    candidates = _candidate_months(source, color, today, since)
    if not candidates:
        first = since.iso if since else "its beginning"
        raise SourceNotFound(f"{name} has no month of {color} from {first} on")
    published: list[TripMonth] = []
    missing: dict[TripMonth, str] = {}  # the gap behind the last published month
    while candidates and len(published) < count and len(missing) < GAP_MONTHS:
        batch_size = min(CONCURRENT_PROBES, count - len(published) + USUAL_DELAY_MONTHS)
        batch, candidates = candidates[:batch_size], candidates[batch_size:]
        for month, refusal in _probe_months(source, batch, settings):
            if refusal is None:
                published.append(month)
                missing.clear()
            else:
                missing[month] = refusal
            if len(published) == count or len(missing) == GAP_MONTHS:
                break  # an error about a month behind these would not matter
    if not published:
        gap = list(missing)
        reason = missing[gap[-1]].partition(";")[0]
        raise SourceNotFound(
            f"{name} has no file of {color} from {gap[-1].iso} to {gap[0].iso} ({reason}); if it has older "
            "ones, name them with --since and --until"
        )
    published.reverse()
    if len(published) < count:
        logger.warning(
            "%s: %d months were asked for, %s has %d: %s to %s",
            color,
            count,
            name,
            len(published),
            published[0].iso,
            published[-1].iso,
        )
    return published


def _candidate_months(source: str, color: str, today: dt.date, since: TripMonth | None) -> list[TripMonth]:
    """The months that the source may have, newest first."""
    newest = TripMonth.of_date(color, today)
    oldest = TripMonth.of_iso(color, newest.dataset.first_month)
    publisher = PUBLISHERS.get(source)
    if publisher and publisher.last:
        newest = min(newest, TripMonth.of_iso(color, publisher.last))
    if publisher and publisher.first:
        oldest = max(oldest, TripMonth.of_iso(color, publisher.first))
    if source == SYNTHETIC:
        newest = newest.later(-1)
    return months_between(max(oldest, since) if since else oldest, newest)[::-1]


def _probe_months(
    source: str, months: list[TripMonth], settings: Settings
) -> Generator[tuple[TripMonth, str | None]]:
    """Ask for all months concurrently; yield each with None, or with the message that it is missing."""

    def probe(month: TripMonth) -> tuple[TripMonth, str | None]:
        try:
            probe_source(locate_source(source, month, settings), settings)
        except SourceFileMissing as missing:
            return month, missing.message
        return month, None

    with ThreadPoolExecutor(CONCURRENT_PROBES, "probe") as pool:
        yield from pool.map(probe, months)


def _probe_once(file: SourceFile, settings: Settings, known_version: str | None = None) -> ProbeResult:
    request = SourceRequest(file.url, known_version=known_version, probe=True)
    with open_source(request, settings) as response:
        return ProbeResult(response.total, response.version, response.unchanged)
