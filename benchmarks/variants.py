"""The variants of our command: sides of the group `as typed`."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from rivals import missing_programs
from whole_processes import ROOT, Command, Job, Side

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

INTO_DUCKDB = "--to duckdb"
PLAIN, MADE, NONE, FIRST, DIRECT = "plain server", "make server", "no server", "first run ever", "direct"
OURS = {
    PLAIN: "the command, while a plain `prefect server start` runs",
    MADE: "the command, while `make server` runs",
    NONE: "the command without a server; Prefect starts a temporary one",
    FIRST: "the same, and the first run of Prefect ever: its database is made too",
    DIRECT: "the command with `--runner direct`, without Prefect",
}


@cache
def _help() -> str:
    call = [sys.executable, "flows/parent.py", "--help"]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True)
class OurSides:
    """The variants of our command.

    Attributes:
        prefect_environment: returns the settings of Prefect for a variant, by its name.
    """

    prefect_environment: Callable[[str], Mapping[str, str]]

    def side(self, name: str) -> Side:
        """A variant by its name."""
        missing = ""
        if name == DIRECT and not re.search(r"--runner \{[^}]*\bdirect\b", _help()):
            missing = "--runner direct is not a choice of flows/parent.py"
        if name == MADE:
            missing = missing_programs("make")

        def command(job: Job) -> Command:
            return self.command(name, job)

        return Side(name, OURS[name], command, ours=True, missing=missing, table="yellow_taxi_trips")

    def into_duckdb(self) -> Side:
        """The command with `--to duckdb`, which another destination is compared with."""

        def command(job: Job) -> Command:
            return self.command(PLAIN, replace(job, to="duckdb"))

        what = f"{OURS[PLAIN]}, with `--to duckdb`"
        return Side(INTO_DUCKDB, what, command, table="yellow_taxi_trips", loads="duckdb")

    def command(self, name: str, job: Job, *, force: bool = True) -> Command:
        """The command of a variant.

        Args:
            name: of the variant.
            job: what to load.
            force: load what is unchanged too.
        """
        call = [sys.executable, "flows/parent.py", "--color", "yellow", "--source", job.template]
        call += ["--months", *(str(month + 1) for month in range(job.months))]
        call += ["--to", job.to, "--data-dir", str(job.directory)]
        call += ["--force"] if force else []
        call += ["--runner", "direct"] if name == DIRECT else []
        return Command(call, {**self.prefect_environment(name), "TAXI_POSTGRES_URL": job.database.url}, ROOT)
