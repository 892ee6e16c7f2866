"""Asking a source what it has, without a download: one file, or its newest months."""

from __future__ import annotations

import logging
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from flows.errors import SourceBusy, SourceNotFound, SourceUnreachable, UsageError
from flows.sources.catalogue import PUBLISHERS, SYNTHETIC, check_template, locate_source
from flows.sources.redaction import without_secrets
from flows.sources.source_request import SourceAbsent, SourceRequest
from flows.sources.transports import open_source
from transforms.trip_month import TripMonth, months_between

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Generator

    from flows.settings import Settings
    from flows.sources.catalogue import SourceFile

logger = logging.getLogger(__name__)

ASKED_AT_ONCE = 8
"""Questions under way at the same time."""

GAP_MONTHS = 12
"""So many months in a row without a file, and the source has no older ones worth asking for."""

USUAL_DELAY_MONTHS = 3
"""So many more are asked for at first: the TLC publishes a month some two months after its end."""

LONGEST_PAUSE_SECONDS = 30.0
UNREACHABLE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a source says of a file.

    Attributes:
        bytes: its size; None: the source does not say.
        version: its validator; None: the source gives none.
        unchanged: it is still the version that was asked about.
    """

    bytes: int | None
    version: str | None
    unchanged: bool


def probe_source(file: SourceFile, settings: Settings, known: str | None = None) -> ProbeResult:
    """Ask what is there; a server that is busy is asked again, with growing pauses.

    Args:
        file: which one.
        settings: time-outs and attempts.
        known: the version that landed before.

    Raises:
        SourceAbsent: the source answered, and has no such file.
        SourceNotFound, SourceUnreachable, SourceBusy, SourceCorrupt: see `flows.errors`.
    """

    def hopeless(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        most = UNREACHABLE_ATTEMPTS if isinstance(error, SourceUnreachable) else settings.http_attempts
        return state.attempt_number >= min(most, settings.http_attempts)

    def pause_seconds(state: RetryCallState) -> float:
        first = settings.http_backoff_seconds
        backoff = first * 2 ** min(state.attempt_number - 1, 16) + random.uniform(0, first)  # noqa: S311 - no secret
        asked_for = getattr(state.outcome and state.outcome.exception(), "retry_after_seconds", 0.0)
        return max(min(backoff, LONGEST_PAUSE_SECONDS), asked_for)

    def ask() -> ProbeResult:
        with open_source(SourceRequest(file.url, known=known, probe=True), settings) as opened:
            return ProbeResult(opened.total, opened.version, opened.unchanged)

    retrying = Retrying(
        retry=retry_if_exception_type((SourceBusy, SourceUnreachable)),
        stop=hopeless,
        wait=pause_seconds,
        reraise=True,
    )
    return retrying(ask)


def newest_months(
    source: str,
    color: str,
    count: int,
    settings: Settings,
    *,
    today: dt.date,
    since: TripMonth | None = None,
) -> list[TripMonth]:
    """The newest months that a source has, in calendar order, found by asking for them.

    Asks from this month back (`dtc`: from its last month; `synthetic`: from the last whole month) until
    there are enough, or until twelve months in a row have no file.

    Args:
        source: see `locate_source`.
        color: dataset.
        count: how many; fewer come back, with a warning, if the source has no more.
        settings: time-outs and attempts.
        today: from where on to look back.
        since: no month before this one.

    Raises:
        UsageError: every month would be the same file.
        SourceNotFound: the source has no month there.
        SourceUnreachable, SourceBusy, SourceCorrupt: it cannot be asked; that is not "not published".
    """
    check_open_ended(source)
    left, search = _candidates(source, color, today, since), _Search(count)
    if not left:
        bound = since.iso if since else "its beginning"
        raise SourceNotFound(f"{without_secrets(source)} has no month of {color} from {bound} on")
    while left and not search.is_over:
        at_once = min(ASKED_AT_ONCE, count - len(search.found) + USUAL_DELAY_MONTHS)
        batch, left = left[:at_once], left[at_once:]
        for month, answer in _asked(source, batch, settings):
            search.note(month, answer)
            if search.is_over:
                break
    found = search.found[::-1]
    if not found:
        raise SourceNotFound(
            f"{without_secrets(source)} has no file of {color} from {search.missing[-1].iso} to "
            f"{search.missing[0].iso} ({search.answer.partition(';')[0]}); if it has older ones, name them "
            "with --since and --until"
        )
    if len(found) < count:
        logger.warning(
            "%s: %d months were asked for, %s has %d: %s to %s",
            color,
            count,
            without_secrets(source),
            len(found),
            found[0].iso,
            found[-1].iso,
        )
    return found


class _Search:
    """What has been found so far, newest first, and how long the gap is behind it."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.found: list[TripMonth] = []
        self.missing: list[TripMonth] = []
        self.answer = ""

    @property
    def is_over(self) -> bool:
        return len(self.found) == self._count or len(self.missing) == GAP_MONTHS

    def note(self, month: TripMonth, answer: str | None) -> None:
        if answer is None:
            self.found.append(month)
            self.missing.clear()
        else:
            self.missing.append(month)
            self.answer = answer


def check_open_ended(source: str) -> None:
    """Refuse a template without year or month: it has no newest month.

    Raises:
        UsageError: names the placeholder that is missing.
    """
    if source == SYNTHETIC or source in PUBLISHERS:
        return
    if lacking := [f"{{{name}}}" for name in ("year", "month") if name not in check_template(source)]:
        raise UsageError(
            f"--source {without_secrets(source)!r} has no newest month without {' and '.join(lacking)} in "
            "it; name the months with --months"
        )


def _candidates(source: str, color: str, today: dt.date, since: TripMonth | None) -> list[TripMonth]:
    """The months to ask for, newest first."""
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


def _asked(
    source: str, months: list[TripMonth], settings: Settings
) -> Generator[tuple[TripMonth, str | None]]:
    """Each month, in order, with None if it is there, else with what the source said; asked side by side."""

    def ask(month: TripMonth) -> tuple[TripMonth, str | None]:
        try:
            probe_source(locate_source(source, month, settings), settings)
        except SourceAbsent as absent:
            return month, absent.message
        return month, None

    with ThreadPoolExecutor(ASKED_AT_ONCE, "ask") as pool:
        yield from pool.map(ask, months)
