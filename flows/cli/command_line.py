"""The options of the commands that load months, and what is wrong with a call."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import flows
from flows.cli.logs import add_log_options
from flows.cli.paths import check_directory, check_summary, path_argument
from flows.destinations import DESTINATIONS
from flows.errors import UsageError
from flows.request import DEFAULT_YEAR, RUNNERS, LoadRequest, Selection, month_numbers
from flows.settings import get_settings
from flows.sources import redact
from transforms.datasets import DATASETS
from transforms.row_transforms import ROW_TRANSFORMS


@dataclass(frozen=True, slots=True)
class LoadCommand:
    """A call of a command that loads months.

    Attributes:
        request: what is asked for, checked.
        dry_run: only say what would be done.
        summary: where the run's JSON goes, see `flows.cli.paths`; None: none is written.
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


def command_parser(
    script: str, description: str, *options: str, required: Collection[str] = ("--color",), **texts: str
) -> argparse.ArgumentParser:
    """A parser with some of the options that several commands share.

    Args:
        script: which command it is for.
        description: what the command does.
        options: such as `--color`; named as the parameters of the flow.
        required: those that have to be given.
        texts: help of an option that means something else here, by its name, such as `data_dir`.
    """
    shared = _shared_options()
    program = flows.subcommand or f"python {script}"
    parser = OneLineParser(prog=program, description=description, allow_abbrev=False)
    parser.add_argument("--version", action=_PrintVersion, help="print the version and stop")
    for option in options:
        text = texts.get(option.removeprefix("--").replace("-", "_"))
        argument = shared[option] | ({"help": text} if text else {})
        parser.add_argument(option, **argument, required=option in required)
    add_log_options(parser)
    return parser


class _PrintVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, *names: Any, **options: Any) -> None:  # noqa: ANN401 - as argparse hands them over
        super().__init__(*names, **options, nargs=0)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"taxi-etl {flows.__version__}")
        parser.exit()


def _shared_options() -> dict[str, dict[str, Any]]:
    """What `argparse` needs to know of each option."""
    settings = get_settings()
    return {
        "--color": {"choices": list(DATASETS), "help": "dataset"},
        "--months": {
            "nargs": "+",
            "type": month_numbers,
            "metavar": "M",
            "help": "1 to 12, one or more, or ranges such as 3-5",
        },
        "--year": {"type": int, "help": f"of all of --months; default: {DEFAULT_YEAR}"},
        "--since": {"metavar": "YYYY-MM", "help": "instead: every month from this one on, ..."},
        "--until": {"metavar": "YYYY-MM", "help": "... to this one, or to the newest that there is"},
        "--latest": {
            "type": int,
            "metavar": "N",
            "help": "instead: the N newest months that the source has, found by asking it",
        },
        "--to": {
            "nargs": "+",
            "choices": list(DESTINATIONS),
            "default": settings.to,
            "help": f"where to publish; default: {' '.join(settings.to)} (TAXI_TO)",
        },
        "--source": {
            "default": "dtc",
            "metavar": "dtc|tlc|synthetic|TEMPLATE",
            "help": "dtc: the tutorial's CSV files, 2019-01 to 2021-07 (default); tlc: the TLC's Parquet "
            "files; synthetic: generated here, no network; or a URL or path with {color}, {year} and "
            "{month:02} in it",
        },
        "--data-dir": {
            "type": path_argument,
            "default": settings.data_dir,
            "metavar": "DIR",
            "help": "files and local warehouse; default: %(default)s",
        },
        "--concurrency": {
            "type": int,
            "default": settings.concurrency,
            "metavar": "N",
            "help": "months at once on this machine; default: %(default)s",
        },
        "--force": {"action": "store_true", "help": "fetch, stage and publish even what is unchanged"},
        "--dry-run": {
            "action": "store_true",
            "help": "say what would be fetched and replaced, and stop",
        },
        "--summary": {
            "type": path_argument,
            "metavar": "FILE",
            "help": "write what was done as JSON, to a file or a FIFO; -: to standard output, and the table "
            "to standard error",
        },
        "--allow-new-columns": {
            "action": "store_true",
            "help": "carry columns that the dataset does not declare along as text instead of failing",
        },
        "--max-reject-ratio": {
            "type": _ratio,
            "metavar": "R",
            "help": "share of a month's rows that may be rejected before the month fails, 0 to 1; default: "
            f"{settings.max_reject_ratio:g}",
        },
        "--accept": {
            "nargs": "+",
            "default": [],
            "metavar": "MEASURE",
            "help": "publish a month although this measure of it is beyond its threshold; default: none; "
            "see taxi-etl gates",
        },
        "--transform": {
            "dest": "row_transforms",
            "nargs": "+",
            "default": [],
            "choices": list(ROW_TRANSFORMS),
            "metavar": "NAME",
            "help": f"change rows as the tutorial does: {', '.join(ROW_TRANSFORMS)}; default: none",
        },
        "--runner": {
            "choices": RUNNERS,
            "default": "threads",
            "help": "who works on the months: threads of this process (default); direct: "
            "the same without Prefect: no server, no history; dask: the workers of a "
            "Dask cluster; deployment: the workers of a Prefect work pool",
        },
        "--dask-address": {
            "metavar": "tcp://HOST:PORT",
            "help": "the scheduler, for --runner dask",
        },
    }


def _ratio(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (ratio := float(text)) <= 1:
            return ratio
    raise argparse.ArgumentTypeError(f"{text!r} is no share; legal are 0 to 1, such as 0.05")


MONTH_OPTIONS = ("--months", "--year", "--since", "--until")
LOAD_OPTIONS = (
    *("--color", *MONTH_OPTIONS, "--latest", "--to", "--source", "--data-dir", "--concurrency", "--force"),
    *(
        "--dry-run",
        "--summary",
        "--allow-new-columns",
        "--max-reject-ratio",
        "--accept",
        "--transform",
        "--runner",
        "--dask-address",
    ),
)


def load_parser() -> argparse.ArgumentParser:
    """The parser of `flows/parent.py`."""
    description = "Load months of NYC TLC trips: download, verify, stage as Parquet, publish."
    return command_parser("flows/parent.py", description, *LOAD_OPTIONS)


def selection_from(given: argparse.Namespace) -> Selection:
    """The months that the options name; not checked.

    Args:
        given: as parsed.
    """
    months = None if given.months is None else tuple(chain.from_iterable(given.months))
    # Not every command has all of these options.
    names = ("year", "since", "until", "latest")
    return Selection(months, *(getattr(given, name, None) for name in names))


def request_from(given: argparse.Namespace) -> LoadRequest:
    """The request that the options make; only `--concurrency`, `--data-dir` and `--summary` are checked.

    Args:
        given: as parsed; options that are no parameters of a load are ignored.

    Raises:
        UsageError: names the option.
    """
    if given.concurrency < 1:
        raise UsageError(f"--concurrency {given.concurrency}: at least 1 month at once")
    check_directory("--data-dir", given.data_dir)
    if given.summary:
        check_summary(given.summary, given.data_dir)
    parameters = {name: value for name, value in vars(given).items() if name not in ("summary", "dry_run")}
    parameters |= asdict(selection_from(given))
    parameters["to"] = tuple(dict.fromkeys(given.to))
    return LoadRequest.from_parameters(**parameters)


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
    if given.runner in ("threads", "direct"):
        given.source = redact(given.source)
    request = request_from(given)
    request.check()
    return LoadCommand(request, given.dry_run, given.summary)
