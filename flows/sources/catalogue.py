"""Which URL holds a month: the known publishers, synthetic trips, or any template."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from flows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.settings import Settings
    from transforms.trip_month import TripMonth

PLACEHOLDERS = ("color", "year", "month")
SCHEMES = ("http", "https", "gs", "file", "synthetic")
EXAMPLE = "'https://host/{color}_tripdata_{year}-{month:02}.csv.gz'"


@dataclass(frozen=True, slots=True)
class Publisher:
    """A known place where months are published.

    Attributes:
        template: its URL template.
        first, last: the months (`YYYY-MM`) it has; None: no bound but the dataset's own.
    """

    template: str
    first: str | None = None
    last: str | None = None


PUBLISHERS = {
    # The CSV files of the tutorial, kept by DataTalksClub as releases; the collection is closed.
    "dtc": Publisher(
        "https://github.com/DataTalksClub/nyc-tlc-data/releases/download/"
        "{color}/{color}_tripdata_{year}-{month:02}.csv.gz",
        first="2019-01",
        last="2021-07",
    ),
    # The TLC's own Parquet files; a month appears about two months after its end.
    "tlc": Publisher(
        "https://d37ci6vzurychx.cloudfront.net/trip-data/"
        "{color}_tripdata_{year}-{month:02}.parquet"
    ),
}
SYNTHETIC = "synthetic"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file at its source.

    Attributes:
        url: http(s), gs, file or synthetic URL.
        file_name: the name under which it lands, unique for its month.
    """

    url: str
    file_name: str


def locate_source(source: str, month: TripMonth, settings: Settings) -> SourceFile:
    """The file that holds `month`, without asking the network.

    Args:
        source: `dtc`, `tlc`, `synthetic`, or a template with `{color}`, `{year}`, `{month:02}` that
            is a URL (http, https, gs, file) or a path.
        month: which month.
        settings: size and seed of synthetic months.

    Raises:
        UsageError: unknown source, bad template, or a month the source cannot have.
    """
    if month.iso < month.dataset.first_month:
        raise UsageError(
            f"there is no {month.label}: {month.color} starts with {month.dataset.first_month}"
        )
    if source == SYNTHETIC:
        query = (
            f"rows={settings.synthetic_rows}&seed={settings.synthetic_seed}"
            f"&broken_rows={settings.synthetic_broken_rows}"
        )
        return SourceFile(
            f"synthetic://{month.color}/{month.iso}?{query}", f"{month.stem}.csv.gz"
        )
    if publisher := PUBLISHERS.get(source):
        _check_published(source, publisher, month)
        return _fill(publisher.template, month)
    check_template(source)
    return _fill(source, month)


def check_months(source: str, months: Sequence[TripMonth]) -> None:
    """Refuse a template that would read the same file for several months.

    Raises:
        UsageError: names the placeholder that is missing.
    """
    if source == SYNTHETIC or source in PUBLISHERS:
        return
    fields = check_template(source)
    for field in ("year", "month"):
        if field not in fields and len({getattr(month, field) for month in months}) > 1:
            raise UsageError(
                f"--source {source!r} would read the same file for every {field}; put {{{field}}} "
                f"into it, such as {EXAMPLE}"
            )


def check_template(source: str) -> set[str]:
    """The placeholders of a template.

    Raises:
        UsageError: not a name, a URL or a path; or a placeholder other than the three.
    """
    known = f"legal are {', '.join([*PUBLISHERS, SYNTHETIC])}, or a template such as {EXAMPLE}"
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(source) if name is not None}
        source.format(color="yellow", year=2021, month=1)
    except (ValueError, LookupError, AttributeError) as error:
        raise UsageError(f"--source {source!r} is not a template ({error}); {known}") from None
    # Only the bare names: {color.__class__} would reach into objects.
    if fields - set(PLACEHOLDERS):
        raise UsageError(f"--source {source!r} has placeholders other than {PLACEHOLDERS}; {known}")
    scheme = urlsplit(source).scheme if "://" in source else ""
    if scheme and scheme not in SCHEMES[:-1]:
        raise UsageError(f"--source {source!r}: no way to read {scheme}://; {known}")
    if not scheme and not fields and "/" not in source and not Path(source).exists():
        raise UsageError(f"unknown --source {source!r}; {known}")
    return fields


def _check_published(source: str, publisher: Publisher, month: TripMonth) -> None:
    first, last = publisher.first or "", publisher.last or "9999-12"
    if not first <= month.iso <= last:
        raise UsageError(
            f"--source {source} has {first} to {last}, not {month.iso}; "
            "--source tlc has every month the TLC has published"
        )


def _fill(template: str, month: TripMonth) -> SourceFile:
    url = template.format(color=month.color, year=month.year, month=month.month)
    if "://" not in url:
        url = Path(url).expanduser().absolute().as_uri()
    name = Path(unquote(urlsplit(url).path)).name or "trips"
    # A name that does not tell its month (download?month=1) would collide with the next one's.
    if not (str(month.year) in name and f"{month.month:02}" in name and month.color in name):
        name = f"{month.stem}-{name}"
    return SourceFile(url, name)
