"""The command line of `flows/parent.py`: its options, and what is wrong with a call."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from flows.destinations import DEFAULT_DESTINATION, DESTINATIONS
from flows.errors import UsageError
from flows.request import DEFAULT_YEAR, RUNNERS, Runner, Selection, check_request, month_numbers
from flows.settings import get_settings
from flows.sources import redact
from transforms.cleaning import ROW_TRANSFORMS
from transforms.datasets import DATASETS

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Command:
    """A checked call of `flows/parent.py`; see `--help` for the meaning of each field."""

    color: str
    selection: Selection
    to: tuple[str, ...]
    source: str
    data_dir: Path
    concurrency: int
    force: bool
    dry_run: bool
    allow_new_columns: bool
    row_transforms: tuple[str, ...]
    summary: Path | None
    runner: Runner

    def parameters(self) -> dict[str, Any]:
        """The same request as the parent flow's parameters."""
        asked = self.selection
        return {
            "color": self.color,
            "months": asked.months,
            "year": asked.year,
            "since": asked.since,
            "until": asked.until,
            "latest": asked.latest,
            "to": self.to,
            # Parameters are stored by the server; whoever works elsewhere needs the whole address, though.
            "source": redact(self.source) if self.runner.name == "threads" else self.source,
            "data_dir": self.data_dir,
            "concurrency": self.concurrency,
            "force": self.force,
            "allow_new_columns": self.allow_new_columns,
            "row_transforms": self.row_transforms,
            "runner": self.runner.name,
            "dask_address": self.runner.dask_address,
        }


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
    add_month_options(made)
    add(
        "--latest",
        type=int,
        metavar="N",
        help="instead: the N newest months that the source has, found by asking it",
    )
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
        help="months at once on this machine; default: %(default)s",
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
    add(
        "--runner",
        choices=RUNNERS,
        default="threads",
        help="who works on the months: threads of this process (default); dask: the workers of a Dask "
        "cluster; deployment: the workers of a Prefect work pool",
    )
    add("--dask-address", metavar="tcp://HOST:PORT", help="the scheduler, for --runner dask")
    return made


def add_month_options(parser: argparse.ArgumentParser) -> None:
    """The options that name months; `selected` reads them."""
    add = parser.add_argument
    add(
        "--months",
        nargs="+",
        type=month_numbers,
        metavar="M",
        help="1 to 12, one or more, or ranges such as 3-5",
    )
    add("--year", type=int, help=f"of all of --months; default: {DEFAULT_YEAR}")
    add("--since", metavar="YYYY-MM", help="instead: every month from this one on, ...")
    add("--until", metavar="YYYY-MM", help="... to this one, or to the newest that there is")


def selected(given: argparse.Namespace) -> Selection:
    """What the options say of months; not checked."""
    months = None if given.months is None else tuple(month for some in given.months for month in some)
    return Selection(months, given.year, given.since, given.until, getattr(given, "latest", None))


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


def check_common_options(given: argparse.Namespace) -> None:
    """Refuse what no command can do with `--concurrency`, `--data-dir` and `--summary`.

    Raises:
        UsageError: names the option.
    """
    if given.concurrency < 1:
        raise UsageError(f"--concurrency {given.concurrency}: at least 1 month at once")
    check_directory("--data-dir", given.data_dir)
    if given.summary and given.summary.is_dir():
        raise UsageError(f"--summary {given.summary} is a directory; name a file")
    if given.summary:
        check_directory("--summary", given.summary.absolute().parent)


def parse_command(arguments: Sequence[str] | None = None) -> Command:
    """Read a call and check it.

    Args:
        arguments: without the program's name; None: those of the process.

    Raises:
        UsageError: in one line, before anything has started.
    """
    given = parser().parse_args(arguments)
    check_common_options(given)
    to, selection = tuple(dict.fromkeys(given.to)), selected(given)
    check_request(
        given.color,
        selection,
        to=to,
        source=given.source,
        data_dir=given.data_dir,
        row_transforms=given.transform,
    )
    runner = Runner(given.runner, given.concurrency, given.dask_address)
    runner.check(to)
    return Command(
        color=given.color,
        selection=selection,
        to=to,
        source=given.source,
        data_dir=given.data_dir,
        concurrency=given.concurrency,
        force=given.force,
        dry_run=given.dry_run,
        allow_new_columns=given.allow_new_columns,
        row_transforms=tuple(given.transform),
        summary=given.summary,
        runner=runner,
    )
