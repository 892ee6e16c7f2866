"""One request: what to load, from where, to where and how; built and checked once, then handed on whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from flows.destinations import DESTINATIONS
from flows.errors import UsageError
from flows.request.read_blocks import configured_destination, without_blocks
from flows.request.runner import Runner
from flows.request.selection import Selection
from flows.settings import get_settings
from flows.sources import check_months, check_open_ended, locate_source
from flows.staging import StagingOptions, check_row_transforms
from transforms.datasets import DATASETS
from transforms.gates import legal_measures, unknown_measures


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Everything a user may ask of a load. The command line and the flows' parameters are its flat form.

    Attributes:
        color: dataset: `yellow`, `green`, `fhv` or `fhvhv`.
        selection: which months.
        to: destinations by name.
        source: `dtc`, `tlc`, `synthetic` or a template; user, password and query may be redacted.
        data_dir: files and local warehouse; None: the setting of the machine that works on the month.
        force: fetch, stage and publish even what is unchanged.
        staging: what the staging does with the rows.
        runner: who works on the months.
    """

    color: str
    selection: Selection
    to: tuple[str, ...] = field(default_factory=lambda: get_settings().to)
    source: str = "dtc"
    data_dir: Path | None = None
    force: bool = False
    staging: StagingOptions = field(default_factory=StagingOptions)
    runner: Runner = field(default_factory=Runner)

    @property
    def directory(self) -> Path:
        """`data_dir`, or the setting of this machine."""
        return self.data_dir or get_settings().data_dir

    @classmethod
    def from_parameters(cls, **parameters: Any) -> Self:  # noqa: ANN401 - of as many types as there are parameters
        """Build a request from its flat form; nothing is checked.

        Args:
            parameters: fields of this class, of `Selection` and of `StagingOptions` by name, `runner` as the
                runner's name, `concurrency` and `dask_address`. None and a missing one mean the default.

        Returns:
            The request, the settings filled in for `to`, `data_dir` and `max_reject_ratio`.
        """
        settings = get_settings()
        given: dict[str, Any] = {
            "to": settings.to,
            "data_dir": settings.data_dir,
            "max_reject_ratio": settings.max_reject_ratio,
            **{name: _frozen(value) for name, value in parameters.items() if value is not None},
        }
        runner = Runner(given.pop("runner", "threads"), **_take(given, "concurrency", "dask_address"))
        selection = Selection(**_take(given, *(one.name for one in fields(Selection))))
        staging = StagingOptions(**_take(given, *(one.name for one in fields(StagingOptions))))
        return cls(**given, selection=selection, staging=staging, runner=runner)

    def parameters(self) -> dict[str, Any]:
        """The flat form: `LoadRequest.from_parameters(**request.parameters())` is the same request."""
        return {
            "color": self.color,
            **asdict(self.selection),
            "to": self.to,
            "source": self.source,
            "data_dir": self.data_dir,
            "force": self.force,
            **asdict(self.staging),
            "runner": self.runner.name,
            "concurrency": self.runner.concurrency,
            "dask_address": self.runner.dask_address,
        }

    def check_rows(self) -> None:
        """Refuse a dataset, months, row transforms or measures that do not exist; nothing is connected to.

        Raises:
            UsageError: what is wrong, and the legal values.
        """
        check_color(self.color)
        self.selection.check(self.color)
        columns = tuple(DATASETS[self.color].column)
        check_row_transforms(self.staging.row_transforms, self.color, columns)
        check_measures(self.staging.accept, self.color)

    def check(self) -> None:
        """Refuse a request that makes no sense as a whole; the source is not asked for anything.

        Raises:
            UsageError: what is wrong, and the legal values.
        """
        self.check_rows()
        months = self.selection.known_months(self.color)
        check_months(self.source, months)
        if self.selection.is_open_ended:
            check_open_ended(self.source)
        for month in months:
            locate_source(self.source, month, get_settings())
        if self.runner.name == "direct":
            with without_blocks():
                _check_without_blocks(self.to, self.directory)
        else:
            check_destinations(self.to, self.directory)
        self.runner.check(self.to)


_already_checked: ContextVar[LoadRequest | None] = ContextVar("already_checked", default=None)


@contextlib.contextmanager
def already_checked(request: LoadRequest) -> Generator[None]:
    """Spare a request that has been checked a second check by the flow that is called with it.

    Args:
        request: as checked.
    """
    token = _already_checked.set(request)
    try:
        yield
    finally:
        _already_checked.reset(token)


def checked_request(
    check: Callable[[LoadRequest], None] = LoadRequest.check,
    /,
    **parameters: Any,  # noqa: ANN401 - see `LoadRequest.from_parameters`
) -> LoadRequest:
    """The request of a flow's parameters; without any months it is the tutorial's, January to March.

    Args:
        check: refuses a request that makes no sense; not called for one that is `already_checked`.
        parameters: see `LoadRequest.from_parameters`.

    Raises:
        UsageError: the request makes no sense; names the legal values.
    """
    request = LoadRequest.from_parameters(**parameters)
    request = replace(request, selection=request.selection.or_tutorial_months())
    if request != _already_checked.get():
        check(request)
    return request


def check_color(color: str) -> None:
    """Raise `UsageError` unless there is a dataset of that name.

    Args:
        color: as the user gave it.
    """
    if color not in DATASETS:
        raise UsageError(f"unknown color {color!r}; legal are {', '.join(DATASETS)}")


def check_measures(names: Iterable[str], color: str) -> None:
    """Raise `UsageError` unless all of these are measures of a dataset.

    Args:
        names: as the user gave them.
        color: the dataset.
    """
    if unknown := unknown_measures(names, tuple(DATASETS[color].column)):
        raise UsageError(
            f"--accept {' '.join(unknown)}: no such measure; legal are {', '.join(legal_measures())}"
        )


def check_destinations(names: Iterable[str], data_dir: Path) -> None:
    """Refuse destinations that do not exist or are not configured.

    Args:
        names: as the user gave them.
        data_dir: of the local warehouse.

    Raises:
        UsageError: names the legal values, or every place where a setting was looked for.
    """
    names = tuple(names)
    if not names:
        raise UsageError(f"no destination; legal are {', '.join(DESTINATIONS)}")
    for name in names:
        if name not in DESTINATIONS:
            raise UsageError(f"unknown destination {name!r}; legal are {', '.join(DESTINATIONS)}")
        configured_destination(name, data_dir)


def _check_without_blocks(names: Iterable[str], data_dir: Path) -> None:
    try:
        check_destinations(names, data_dir)
    except UsageError as error:
        if "Prefect block" not in error.message:
            raise
        raise UsageError(
            f"{error.message}. --runner direct reads no block: set it in the environment, or choose another "
            "runner"
        ) from None


def _take(parameters: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: parameters.pop(name) for name in names if name in parameters}


def _frozen(value: Any) -> Any:  # noqa: ANN401 - of any type
    return tuple(value) if isinstance(value, (list, range)) else value
