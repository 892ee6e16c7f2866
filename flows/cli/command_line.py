"""The options of the commands that load months, and what is wrong with a call."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from flows.destinations import DEFAULT_DESTINATION, DESTINATIONS
from flows.errors import UsageError
from flows.request import DEFAULT_YEAR, RUNNERS, LoadRequest, Selection, month_numbers
from flows.settings import get_settings
from flows.sources import redact
from transforms.cleaning import ROW_TRANSFORMS
from transforms.datasets import DATASETS

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class LoadCommand:
    """A call of a command that loads months.

    Attributes:
        request: what is asked for, checked.
        dry_run: only say what would be done.
        summary: file for the run's JSON; None: none is written.
    """

    request: LoadRequest
    dry_run: bool = False
    summary: Path | None = None


class OneLineParser(argparse.ArgumentParser):
    """Reports a wrong call as a `UsageError` of one line instead of exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise.

        Args:
            message: what argparse found wrong.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{message}; see --help")


def load_parser(
    script: str = "flows/parent.py",
    description: str = "Load months of NYC TLC trips: download, verify, stage as Parquet, publish.",
    *,
    has_destinations: bool = True,
) -> argparse.ArgumentParser:
    """A parser with every option of a load. Options are named as the parameters of the flow.

    Args:
        script: which command it is for.
        description: what the command does.
        has_destinations: with `--to`.
    """
    settings = get_settings()
    parser = OneLineParser(prog=f"python {script}", description=description, allow_abbrev=False)
    add = parser.add_argument
    add("--color", required=True, choices=list(DATASETS), help="dataset")
    add_month_options(parser)
    add(
        "--latest",
        type=int,
        metavar="N",
        help="instead: the N newest months that the source has, found by asking it",
    )
    if has_destinations:
        add_destination_option(parser, "where to publish; default: duckdb, a local file")
    add(
        "--source",
        default="dtc",
        metavar="dtc|tlc|synthetic|TEMPLATE",
        help="dtc: the tutorial's CSV files, 2019-01 to 2021-07 (default); tlc: the TLC's Parquet "
        "files; synthetic: generated here, no network; or a URL or path with {color}, {year} and "
        "{month:02} in it",
    )
    add_directory_option(parser, "files and local warehouse")
    add(
        "--concurrency",
        type=int,
        default=settings.concurrency,
        metavar="N",
        help="months at once on this machine; default: %(default)s",
    )
    add("--force", action="store_true", help="fetch, stage and publish even what is unchanged")
    add("--dry-run", action="store_true", help="say what would be fetched and replaced, and stop")
    add_summary_option(parser)
    add(
        "--allow-new-columns",
        action="store_true",
        help="carry columns that the dataset does not declare along as text instead of failing",
    )
    add_transform_option(
        parser, f"change rows as the tutorial does: {', '.join(ROW_TRANSFORMS)}; default: none"
    )
    add(
        "--runner",
        choices=RUNNERS,
        default="threads",
        help="who works on the months: threads of this process (default); dask: the workers of a Dask "
        "cluster; deployment: the workers of a Prefect work pool",
    )
    add("--dask-address", metavar="tcp://HOST:PORT", help="the scheduler, for --runner dask")
    return parser


def add_month_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name months; `selected` reads them.

    Args:
        parser: of the command.
    """
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


def add_destination_option(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--to`.

    Args:
        parser: of the command.
        text: its help.
    """
    parser.add_argument(
        "--to", nargs="+", choices=list(DESTINATIONS), default=[DEFAULT_DESTINATION], help=text
    )


def add_directory_option(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--data-dir`.

    Args:
        parser: of the command.
        text: what the command keeps there.
    """
    default = get_settings().data_dir
    text = f"{text}; default: %(default)s"
    parser.add_argument("--data-dir", type=Path, default=default, metavar="DIR", help=text)


def add_summary_option(parser: argparse.ArgumentParser) -> None:
    """Add `--summary`.

    Args:
        parser: of the command.
    """
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write what was done as JSON")


def add_transform_option(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--transform`.

    Args:
        parser: of the command.
        text: its help.
    """
    parser.add_argument(
        "--transform",
        dest="row_transforms",
        nargs="+",
        default=[],
        choices=list(ROW_TRANSFORMS),
        metavar="NAME",
        help=text,
    )


def selected(given: argparse.Namespace) -> Selection:
    """The months that the options name; not checked.

    Args:
        given: as parsed.
    """
    months = None if given.months is None else tuple(chain.from_iterable(given.months))
    return Selection(months, given.year, given.since, given.until, getattr(given, "latest", None))


def requested(given: argparse.Namespace) -> LoadRequest:
    """The request that the options make; only `--concurrency`, `--data-dir` and `--summary` are checked.

    Args:
        given: as parsed; options that are no parameters of a load are ignored.

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
    parameters = {name: value for name, value in vars(given).items() if name not in ("summary", "dry_run")}
    parameters["months"] = given.months and tuple(chain.from_iterable(given.months))
    parameters["to"] = tuple(dict.fromkeys(given.to))
    return LoadRequest.from_parameters(**parameters)


def check_directory(option: str, path: Path) -> None:
    """Refuse a directory that cannot be created or written to; nothing is created.

    Args:
        option: that named it.
        path: the directory.

    Raises:
        UsageError: names the option and the directory that is in the way.
    """
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise UsageError(f"{option} {path}: {existing} is a file; name a directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: no permission to write to {existing}; name another directory")


def parse_command(
    arguments: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None
) -> LoadCommand:
    """Read a call of a command that loads from a source, and check it.

    Args:
        arguments: without the program's name; None: those of the process.
        parser: of the command; None: that of `flows/parent.py`.

    Raises:
        UsageError: in one line, before anything has started.
    """
    given = (parser or load_parser()).parse_args(arguments)
    # Flow parameters are stored by the Prefect server; other machines need the whole address, though.
    if given.runner == "threads":
        given.source = redact(given.source)
    request = requested(given)
    request.check()
    return LoadCommand(request, given.dry_run, given.summary)
