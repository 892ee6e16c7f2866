"""The catalogue of sources: the URL that holds a month, by publisher, synthetic trips, or any template."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from flows.errors import UsageError
from flows.sources.redaction import restore, without_secrets

if TYPE_CHECKING:
    from flows.settings import Settings
    from transforms.trip_month import TripMonth

PLACEHOLDERS = ("color", "year", "month")
WIDTH = re.compile(r"0?\d?d?")  # the legal format of a placeholder, as in {month:02}
SCHEMES = ("http", "https", "gs", "file")
EXAMPLE = "'https://host/{color}_tripdata_{year}-{month:02}.csv.gz'"


@dataclass(frozen=True, slots=True)
class Publisher:
    """A known place where months are published.

    Attributes:
        template: its URL template.
        first, last: the range of months (`YYYY-MM`) it has; None: no bound but the dataset's own.
    """

    template: str
    first: str | None = None
    last: str | None = None


PUBLISHERS = {
    # The tutorial's CSV files, published by DataTalksClub as releases; no further months will be added.
    "dtc": Publisher(
        "https://github.com/DataTalksClub/nyc-tlc-data/releases/download/"
        "{color}/{color}_tripdata_{year}-{month:02}.csv.gz",
        first="2019-01",
        last="2021-07",
    ),
    # The TLC's own Parquet files; a month appears about two months after its end.
    "tlc": Publisher(
        "https://d37ci6vzurychx.cloudfront.net/trip-data/{color}_tripdata_{year}-{month:02}.parquet"
    ),
}
SYNTHETIC = "synthetic"
LONGEST_NAME_BYTES = 180  # most file systems allow 255; our suffixes need some of them


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file at its source.

    Attributes:
        url: http(s), gs, file or synthetic URL; it may hold a secret, so it is not shown.
        file_name: name under which it lands, unique for its month.
    """

    url: str = field(repr=False)
    file_name: str

    @property
    def identity(self) -> str:
        """A checksum of the complete address, which tells it from others without revealing its secrets."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]


def locate_source(source: str, month: TripMonth, settings: Settings) -> SourceFile:
    """Find the file that holds a month, without using the network.

    Args:
        source: `dtc`, `tlc`, `synthetic`, or a template with `{color}`, `{year}`, `{month:02}` that is a URL
            (http, https, gs, file) or a path; also one marked by `redact`.
        month: dataset and month.
        settings: size and seed of synthetic months.

    Returns:
        Its address, and the name under which it lands.

    Raises:
        UsageError: unknown source, bad template, or a month the source cannot have.

    Example:
        >>> locate_source("tlc", TripMonth("yellow", 2024, 1), settings).file_name  # doctest: +SKIP
        'yellow_tripdata_2024-01.parquet'
    """
    source = restore(source)
    if month.iso < month.dataset.first_month:
        raise UsageError(f"there is no {month.label}: {month.color} starts with {month.dataset.first_month}")
    if source == SYNTHETIC:
        query = (
            f"rows={settings.synthetic_rows}&seed={settings.synthetic_seed}"
            f"&broken_rows={settings.synthetic_broken_rows}"
        )
        return SourceFile(f"synthetic://{month.color}/{month.iso}?{query}", f"{month.stem}.csv.gz")
    publisher = PUBLISHERS.get(source)
    if publisher is None:
        check_template(source)
        return _fill_template(source, month)
    first, last = publisher.first or "", publisher.last or "9999-12"
    if not first <= month.iso <= last:
        raise UsageError(
            f"--source {source} has {first} to {last}, not {month.iso}; "
            "--source tlc has every month the TLC has published"
        )
    return _fill_template(publisher.template, month)


def check_months(source: str, months: Sequence[TripMonth]) -> None:
    """Refuse a template that would read the same file for several months.

    Args:
        source: see `locate_source`.
        months: the months to read.

    Raises:
        UsageError: names the placeholder that is missing.
    """
    placeholders = check_template(source)
    for name in ("year", "month"):
        if name not in placeholders and len({getattr(month, name) for month in months}) > 1:
            raise UsageError(
                f"--source {without_secrets(source)!r} would read the same file for every {name}; "
                f"put {{{name}}} into it, such as {EXAMPLE}"
            )


def check_open_ended(source: str) -> None:
    """Refuse a template that has no newest month, because it lacks year or month.

    Args:
        source: see `locate_source`.

    Raises:
        UsageError: names the placeholder that is missing.
    """
    placeholders = check_template(source)
    if missing := [f"{{{name}}}" for name in ("year", "month") if name not in placeholders]:
        raise UsageError(
            f"--source {without_secrets(source)!r} has no newest month without {' and '.join(missing)} in "
            "it; name the months with --months"
        )


def check_template(source: str) -> set[str]:
    """Check a source, and tell by which placeholders its files differ.

    Args:
        source: see `locate_source`.

    Returns:
        Those of `color`, `year` and `month` that the template contains; all of them for a known name.

    Raises:
        UsageError: neither a known name nor a URL or path, or a placeholder other than the three.
    """
    source = restore(source)
    if source == SYNTHETIC or source in PUBLISHERS:
        return set(PLACEHOLDERS)
    shown = repr(without_secrets(source))
    legal = f"legal are {', '.join([*PUBLISHERS, SYNTHETIC])}, or a template such as {EXAMPLE}"
    try:
        placeholders = _parse_placeholders(source)
        address = urlsplit(source.format(color="yellow", year=2021, month=1))
        has_host = bool(address.hostname) and address.port != 0  # raises ValueError if not a number
    except ValueError as error:
        raise UsageError(f"--source {shown} is not a template ({error}); {legal}") from None
    if "://" in source and address.scheme not in SCHEMES:
        scheme = without_secrets(source).partition("://")[0]
        raise UsageError(f"--source {shown}: no way to read {scheme}://; {legal}")
    if "://" in source and address.scheme != "file" and not has_host:
        raise UsageError(f"--source {shown} names no host; {legal}")
    if not placeholders and "/" not in source and not Path(source).is_file():
        raise UsageError(f"unknown --source {shown}; {legal}")
    return placeholders


def _parse_placeholders(template: str) -> set[str]:
    placeholders: set[str] = set()
    for _, name, width, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        # Only the bare names: {color.__class__} would reach into objects.
        if name not in PLACEHOLDERS or conversion or not WIDTH.fullmatch(width or ""):
            raise ValueError(f"a placeholder other than {', '.join(PLACEHOLDERS)}")
        placeholders.add(name)
    return placeholders


def _fill_template(template: str, month: TripMonth) -> SourceFile:
    url, name = _url_and_name(template, month)
    # A name without its month (download?month=1) would be the same for the next one. A name that holds
    # year and month differs in another year and in another month.
    others = (replace(month, year=month.year + 1), replace(month, month=month.month % 12 + 1))
    names = {name, *(_url_and_name(template, other)[1] for other in others)}
    holds_month = len(names) > len(others) or (month.iso in name and "{" not in template)
    if not (holds_month and month.color in name):
        name = f"{month.stem}-{name}"
    return SourceFile(url, name)


def _url_and_name(template: str, month: TripMonth) -> tuple[str, str]:
    """The URL of a month, and the file name in it, printable and short enough for a file system."""
    url = template.format(color=month.color, year=month.year, month=month.month)
    if "://" not in url:
        try:
            url = Path(url).expanduser().absolute().as_uri()
        except RuntimeError as error:
            raise UsageError(f"--source {template!r} is not a path ({error})") from None
    name = Path(unquote(urlsplit(url).path)).name or "trips"
    name = "".join(letter if letter.isprintable() else "_" for letter in name)
    if len(name.encode()) > LONGEST_NAME_BYTES:
        name = f"{name[:30]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}-{name[-20:]}"
    return url, name
