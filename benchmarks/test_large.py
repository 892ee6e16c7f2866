"""Whole commands at their limits: months at once, and the memory of one large file; with `--runner direct`.

Months come over HTTP and go into a durable Postgres or a new file, as in test_as_typed.py.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from inputs import month_file
from rivals import RIVALS
from support.bigquery import settings_for
from support.bigquery_fake import process
from typed_place import measured_process, source_of
from variants import DIRECT, OURS, OurSides
from whole_processes import Side, run, source_contents

from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from results import Group
    from typed_place import Place
    from whole_processes import Command, Cost, Job

AT_ONCE, LARGE = "months at once", "one large file"
MONTHS = 6
FACTOR = 14
"""With 1,440,000 rows in a month, some 20 million in the large file."""
RIVAL = {"duckdb": "duckdb", "postgres": "psql", "iceberg": ""}


@pytest.mark.parametrize("to", ["duckdb", "postgres"])
def test_months_at_once(to: str, place: Place, group_of: Callable[[str], Group], pairs: int) -> None:
    group = group_of(AT_ONCE)
    group.source = source_of(place)
    place.serve(MONTHS)
    place.prepare(DIRECT)
    ours = OurSides(place.prefect_environment)

    def side(at_once: int) -> Side:
        def command(job: Job) -> Command:
            direct = ours.command(DIRECT, job)
            return replace(direct, arguments=[*direct.arguments, "--concurrency", str(at_once)])

        return Side(f"{at_once} at once", f"{OURS[DIRECT]} and `--concurrency {at_once}`", command, ours=True)

    sides = [side(at_once) for at_once in (1, 2, 3, 4)]
    costs: dict[str, list[tuple[Cost, None]]] = {side.name: [] for side in sides}
    for _ in range(pairs):
        for side in sides:
            job = place.job(to, MONTHS)
            costs[side.name].append((run(side.command(job), job.directory), None))
            assert len(list((job.directory / "yellow").glob("*.parquet"))) == MONTHS
    for side in sides:
        group.processes.append(measured_process(side, to, MONTHS, place.rows, costs[side.name], AT_ONCE))


@pytest.fixture(scope="module")
def served(place: Place) -> Path:
    """The directory of the large file on the web server."""
    directory = place.directory / "web" / "large"
    directory.mkdir()
    month_file(directory, TripMonth("yellow", 2021, 1), FACTOR * place.rows)
    return directory


def large_job(to: str, place: Place) -> Job:
    template = place.template.replace("/{color}", "/large/{color}")
    return replace(place.job(to, 1), template=template, rows=FACTOR * place.rows)


@pytest.mark.parametrize("to", ["duckdb", "postgres", "iceberg"])
def test_memory_of_one_large_file(
    to: str, served: Path, place: Place, group_of: Callable[[str], Group], pairs: int
) -> None:
    group = group_of(LARGE)
    group.source = source_of(place)
    place.prepare(DIRECT)
    ours = OurSides(place.prefect_environment).side(DIRECT)
    sides = [*(side for side in RIVALS if side.name == RIVAL[to]), ours]
    costs: dict[str, list[tuple[Cost, None]]] = {side.name: [] for side in sides}
    for _ in range(min(pairs, 2)):
        for side in sides:
            job = large_job(to, place)
            costs[side.name].append((run(side.command(job), job.directory, measure_memory=True), None))
            assert side.contents(job) == source_contents(job, list(served.iterdir()))
    for side in sides:
        rows = FACTOR * place.rows
        group.processes.append(measured_process(side, to, 1, rows, costs[side.name], LARGE))


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("to", ["gcs", "bigquery"])
def test_memory_of_one_large_file_to_google(
    to: str, place: Place, group_of: Callable[[str], Group], request: pytest.FixtureRequest
) -> None:
    """Against the emulators of the tests, whose own work is in the seconds; the command counts the rows."""
    place.prepare(DIRECT)
    side = OurSides(place.prefect_environment).side(DIRECT)
    with contextlib.ExitStack() as running:
        if to == "gcs":
            settings = request.getfixturevalue("bucket").settings
        else:
            fake = running.enter_context(process.running())
            settings = settings_for(fake.rest_url, fake.grpc_address)
        job = large_job(to, place)
        command = side.command(job)
        environment = {f"TAXI_{name.upper()}": str(value) for name, value in settings.items()}
        command = replace(command, environment={**command.environment, **environment})
        cost = run(command, job.directory, measure_memory=True)
    group = group_of(LARGE)
    group.processes.append(measured_process(side, to, 1, job.rows, [(cost, None)], LARGE))
