"""Who works on the months of a run, and which choices cannot work; `flows.runners` does the work."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from flows.destinations import bound_to_this_machine
from flows.errors import UsageError
from flows.request.read_blocks import prefect_api_url
from flows.settings import get_settings

RunnerName: TypeAlias = Literal["threads", "direct", "dask", "deployment"]
RUNNERS: tuple[RunnerName, ...] = get_args(RunnerName)
DASK_ADDRESS = re.compile(r"((tcp|tls)://)?(\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+):\d+")


@dataclass(frozen=True, slots=True)
class Runner:
    """Who works on the months, and what that needs.

    Attributes:
        name: one of `RUNNERS`.
        concurrency: months at once, for `threads` and `direct`; elsewhere the workers decide. None: the
            setting.
        dask_address: address of the scheduler, for `dask`.
    """

    name: RunnerName = "threads"
    concurrency: int | None = None
    dask_address: str | None = None

    @property
    def months_at_once(self) -> int:
        """`concurrency`, or the setting of this machine."""
        return self.concurrency or get_settings().concurrency

    @property
    def is_remote(self) -> bool:
        """Whether other machines may work on the months."""
        return self.name in ("dask", "deployment")

    def check(self, to: Sequence[str]) -> None:
        """Refuse a choice that cannot work; nothing is started or connected to.

        Args:
            to: destinations by name.

        Raises:
            UsageError: what is wrong, and what to do instead.
        """
        if self.name not in RUNNERS:
            raise UsageError(f"unknown runner {self.name!r}; legal are {', '.join(RUNNERS)}")
        if self.name == "dask":
            _check_dask(self.dask_address)
        elif self.dask_address:
            raise UsageError(f"--dask-address is for --runner dask, not for --runner {self.name}")
        if not self.is_remote:
            return
        _check_shared(self.name, to)
        if not prefect_api_url():
            raise UsageError(
                f"--runner {self.name} needs a Prefect server that every worker can reach; start one with "
                "`taxi-etl server` and set PREFECT_API_URL, here and for the workers"
            )


def _check_dask(address: str | None) -> None:
    if not address:
        raise UsageError(
            "--runner dask needs --dask-address tcp://HOST:8786, the address that `dask scheduler` prints"
        )
    if not DASK_ADDRESS.fullmatch(address):
        raise UsageError(
            f"--dask-address {address!r} is no address; legal is tcp://HOST:PORT or tls://HOST:PORT"
        )
    if importlib.util.find_spec("prefect_dask") is None:
        raise UsageError(
            "--runner dask needs the extra `dask`; pip install 'taxi-etl[dask]', here and on the workers"
        )


def _check_shared(runner: str, to: Sequence[str]) -> None:
    """Refuse destinations that only this machine can reach."""
    for name in to:
        if bound := bound_to_this_machine(name, get_settings()):
            what, instead = bound
            raise UsageError(
                f"{what}, and --runner {runner} works on others; use --runner threads, or {instead}"
            )
