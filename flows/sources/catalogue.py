"""Which URL holds a month: the known publishers, synthetic trips, or any template."""

from __future__ import annotations

import hashlib
import re
import string
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from flows.errors import UsageError
from flows.sources.redaction import restore, without_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.settings import Settings
    from transforms.trip_month import TripMonth

PLACEHOLDERS = ("color", "year", "month")
WIDTH = re.compile(r"0?\d?d?")  # what may stand behind a placeholder's colon
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
        "https://d37ci6vzurychx.cloudfront.net/trip-data/{color}_tripdata_{year}-{month:02}.parquet"
    ),
}
SYNTHETIC = "synthetic"
LONGEST_NAME_BYTES = 180  # of the 255 that most file systems take


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file at its source.

    Attributes:
        url: http(s), gs, file or synthetic URL; it may hold a key, so it is not shown.
        file_name: the name under which it lands, unique for its month.
    """

    url: str = field(repr=False)
    file_name: str

    @property
    def identity(self) -> str:
        """Tells this address from every other, query and user included, without giving them away."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]


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
    source = restore(source)
    if month.iso < month.dataset.first_month:
        raise UsageError(f"there is no {month.label}: {month.color} starts with {month.dataset.first_month}")
    if source == SYNTHETIC:
        query = (
            f"rows={settings.synthetic_rows}&seed={settings.synthetic_seed}"
            f"&broken_rows={settings.synthetic_broken_rows}"
        )
        return SourceFile(f"synthetic://{month.color}/{month.iso}?{query}", f"{month.stem}.csv.gz")
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
    for name in ("year", "month"):
        if name not in fields and len({getattr(month, name) for month in months}) > 1:
            raise UsageError(
                f"--source {without_secrets(source)!r} would read the same file for every {name}; "
                f"put {{{name}}} into it, such as {EXAMPLE}"
            )


def check_template(source: str) -> set[str]:
    """The placeholders of a template.

    Raises:
        UsageError: not a name, a URL or a path; or a placeholder other than the three.
    """
    source = restore(source)
    shown = repr(without_secrets(source))
    known = f"legal are {', '.join([*PUBLISHERS, SYNTHETIC])}, or a template such as {EXAMPLE}"
    try:
        fields = _placeholders(source)
        address = urlsplit(source.format(color="yellow", year=2021, month=1))
        has_host = bool(address.hostname) and address.port != 0  # a port that is no number raises
    except ValueError as error:
        raise UsageError(f"--source {shown} is not a template ({error}); {known}") from None
    if "://" in source and address.scheme not in SCHEMES[:-1]:
        scheme = without_secrets(source).partition("://")[0]
        raise UsageError(f"--source {shown}: no way to read {scheme}://; {known}")
    if "://" in source and address.scheme != "file" and not has_host:
        raise UsageError(f"--source {shown} names no host; {known}")
    if not fields and "/" not in source and not Path(source).is_file():
        raise UsageError(f"unknown --source {shown}; {known}")
    return fields


def _placeholders(template: str) -> set[str]:
    """Its fields; a ValueError says which one is not just a name and a width."""
    fields: set[str] = set()
    for _, name, width, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        # Only the bare names: {color.__class__} would reach into objects.
        if name not in PLACEHOLDERS or conversion or not WIDTH.fullmatch(width or ""):
            raise ValueError(f"a placeholder other than {', '.join(PLACEHOLDERS)}")
        fields.add(name)
    return fields


def _check_published(source: str, publisher: Publisher, month: TripMonth) -> None:
    first, last = publisher.first or "", publisher.last or "9999-12"
    if not first <= month.iso <= last:
        raise UsageError(
            f"--source {source} has {first} to {last}, not {month.iso}; "
            "--source tlc has every month the TLC has published"
        )


def _fill(template: str, month: TripMonth) -> SourceFile:
    url, name = _address(template, month)
    # A name that does not tell its month (download?month=1) would collide with the next one's. One
    # that does is another in another year, and in another month.
    others = (replace(month, year=month.year + 1), replace(month, month=month.month % 12 + 1))
    names = {name, *(_address(template, other)[1] for other in others)}
    is_own = len(names) > len(others) or (month.iso in name and "{" not in template)
    if not (is_own and month.color in name):
        name = f"{month.stem}-{name}"
    return SourceFile(url, name)


def _address(template: str, month: TripMonth) -> tuple[str, str]:
    """URL of a month, and the name of the file there."""
    url = template.format(color=month.color, year=month.year, month=month.month)
    if "://" not in url:
        try:
            url = Path(url).expanduser().absolute().as_uri()
        except RuntimeError as error:
            raise UsageError(f"--source {template!r} is not a path ({error})") from None
    name = Path(unquote(urlsplit(url).path)).name or "trips"
    return url, _short("".join(letter if letter.isprintable() else "_" for letter in name))


def _short(name: str) -> str:
    """The name, if a file system takes it with ours around it, else its ends and a checksum."""
    if len(name.encode()) <= LONGEST_NAME_BYTES:
        return name
    return f"{name[:30]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}-{name[-20:]}"
