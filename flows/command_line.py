"""The command line of `flows/parent.py`: its options, and what is wrong with a call."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from flows.destinations import DEFAULT_DESTINATION, DESTINATIONS
from flows.errors import UsageError
from flows.request import checked_months
from flows.settings import get_settings
from transforms.cleaning import ROW_TRANSFORMS
from transforms.datasets import DATASETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transforms.trip_month import TripMonth

DEFAULT_YEAR = 2021


@dataclass(frozen=True, slots=True)
class Command:
    """A checked call of `flows/parent.py`; see `--help` for the meaning of each field."""

    months: list[TripMonth]
    to: tuple[str, ...]
    source: str
    data_dir: Path
    concurrency: int
    force: bool
    dry_run: bool
    allow_new_columns: bool
    row_transforms: tuple[str, ...]
    summary: Path | None


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with a call as a `UsageError`, in one line, instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        """Raise."""
        raise UsageError(f"{message}; see --help")


def parser() -> argparse.ArgumentParser:
    """Every option with its legal values and default."""
    settings = get_settings()
    made = OneLineParser(
        prog="python flows/parent.py",
        description="Load months of NYC TLC trips: download, verify, stage as Parquet, publish.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--color", required=True, choices=list(DATASETS), help="dataset")
    add("--months", required=True, nargs="+", type=int, metavar="M", help="1 to 12, one or more")
    add("--year", type=int, default=DEFAULT_YEAR, help="default: %(default)s")
    add(
        "--to",
        nargs="+",
        choices=list(DESTINATIONS),
        default=[DEFAULT_DESTINATION],
        help="where to publish; default: duckdb, a local file",
    )
    add(
        "--source",
        default="dtc",
        metavar="dtc|tlc|synthetic|TEMPLATE",
        help="dtc: the tutorial's CSV files, 2019-01 to 2021-07 (default); tlc: the TLC's Parquet "
        "files; synthetic: generated here, no network; or a URL or path with {color}, {year} and "
        "{month:02} in it",
    )
    add(
        "--data-dir",
        type=Path,
        default=settings.data_dir,
        metavar="DIR",
        help="files and local warehouse; default: %(default)s",
    )
    add(
        "--concurrency",
        type=int,
        default=settings.concurrency,
        metavar="N",
        help="months at once; default: %(default)s",
    )
    add("--force", action="store_true", help="fetch, stage and publish even what is unchanged")
    add("--dry-run", action="store_true", help="say what would be fetched and replaced, and stop")
    add("--summary", type=Path, metavar="FILE", help="write what was done as JSON")
    add(
        "--allow-new-columns",
        action="store_true",
        help="carry columns that the dataset does not declare along as text instead of failing",
    )
    add(
        "--transform",
        nargs="+",
        default=[],
        choices=list(ROW_TRANSFORMS),
        metavar="NAME",
        help=f"change rows as the tutorial does: {', '.join(ROW_TRANSFORMS)}; default: none",
    )
    return made


def check_directory(option: str, path: Path) -> None:
    """Refuse a directory that cannot be made or written to, without making it.

    Raises:
        UsageError: names the option and the directory that is in the way.
    """
    there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise UsageError(f"{option} {path}: {there} is a file; name a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: no permission to write to {there}; name another directory")


def parse_command(arguments: Sequence[str] | None = None) -> Command:
    """Read a call and check it.

    Args:
        arguments: without the program's name; None: those of the process.

    Raises:
        UsageError: in one line, before anything has started.
    """
    given = parser().parse_args(arguments)
    if given.concurrency < 1:
        raise UsageError(f"--concurrency {given.concurrency}: at least 1 month at once")
    check_directory("--data-dir", given.data_dir)
    if given.summary and given.summary.is_dir():
        raise UsageError(f"--summary {given.summary} is a directory; name a file")
    if given.summary:
        check_directory("--summary", given.summary.absolute().parent)
    to = tuple(dict.fromkeys(given.to))
    months = checked_months(
        given.color,
        given.year,
        given.months,
        to=to,
        source=given.source,
        data_dir=given.data_dir,
        row_transforms=given.transform,
    )
    return Command(
        months=months,
        to=to,
        source=given.source,
        data_dir=given.data_dir,
        concurrency=min(given.concurrency, len(months)),
        force=given.force,
        dry_run=given.dry_run,
        allow_new_columns=given.allow_new_columns,
        row_transforms=tuple(given.transform),
        summary=given.summary,
    )
