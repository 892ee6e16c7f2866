"""docs/reference/postgres.md: every SQL command in it is run, in the situation it is written for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.postgres_harness import destination

from flows.destinations import LEDGER, REJECTS
from flows.destinations.postgres.address import PostgresAddress
from flows.settings import Settings
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Generator

    from pydantic.fields import FieldInfo
    from support.destinations import Months
    from support.postgres import Database

DOCUMENT = (Path(__file__).parents[4] / "docs" / "reference" / "postgres.md").read_text()
JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
TABLE = JANUARY.dataset.table


def commands(heading: str) -> list[list[str]]:
    """The SQL blocks under a heading, each a list of statements."""
    _, _, section = DOCUMENT.partition(f"\n## {heading}\n")
    blocks = re.findall(r"```sql\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    return [[command.strip() for command in block.split(";") if command.strip()] for block in blocks]


SECTIONS = {
    "Permissions": 2,
    "How to query": 3,
    "How to drop a month": 2,
    "Moving from the tutorial's table": 5,
}


def test_every_command_has_a_test() -> None:
    assert {heading: len(commands(heading)) for heading in SECTIONS} == SECTIONS
    assert sum(SECTIONS.values()) == DOCUMENT.count("```sql")


@pytest.fixture
def filled(postgres: Database, months: Months) -> Database:
    """January and February are loaded."""
    for month in (JANUARY, FEBRUARY):
        destination(postgres).publish(months.trips(month))
    return postgres


@pytest.fixture
def roles(postgres: Database) -> Generator[dict[str, str]]:
    """The document's roles under names that no other test has."""
    prefix = postgres.parameters["dbname"]
    names = {"taxi_loader": f"{prefix}_loader", "taxi_reader": f"{prefix}_reader"}
    yield names
    for name in names.values():
        if postgres.rows(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"):
            postgres.execute(f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


def test_permissions(postgres: Database, months: Months, roles: dict[str, str]) -> None:
    def renamed(block: list[str]) -> list[str]:
        return [re.sub(r"taxi_(loader|reader)", lambda found: roles[found[0]], command) for command in block]

    loader_rights, reader_rights = map(renamed, commands("Permissions"))
    postgres.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC", *loader_rights)
    loader = postgres.other(user=roles["taxi_loader"], password="secret")
    destination(loader).publish(months.trips(JANUARY))

    postgres.execute(*reader_rights)
    reader = postgres.other(user=roles["taxi_reader"], password="secret")
    assert reader.value(f"SELECT count(*) FROM {TABLE}") == 50
    destination(loader).publish(months.trips(JANUARY, 80, first=500))
    destination(loader).publish(months.trips(FEBRUARY))
    assert reader.value(f"SELECT count(*) FROM {TABLE}") == 130
    load = destination(reader).loaded(JANUARY)
    assert load is not None
    assert load.row_count == 80


def test_queries(filled: Database) -> None:
    [[by_vendor], [loads], [index]] = commands("How to query")
    assert sum(count for _, count, _ in filled.rows(by_vendor)) == 50
    scanned = "\n".join(line for (line,) in filled.rows(f"EXPLAIN {by_vendor}"))
    assert f"{TABLE}_2021_01" in scanned
    assert f"{TABLE}_2021_02" not in scanned
    assert [row[:3] for row in filled.rows(loads)] == [
        ("yellow", JANUARY.first_day, 50),
        ("yellow", FEBRUARY.first_day, 50),
    ]
    filled.execute(index)


def test_dropping_a_month(filled: Database, months: Months) -> None:
    drop_january, keep_february = commands("How to drop a month")
    filled.execute(*drop_january)
    assert destination(filled).loaded(JANUARY) is None
    assert filled.value(f"SELECT count(*) FROM {TABLE}") == 50
    filled.execute(*keep_february)
    assert filled.value("SELECT count(*) FROM yellow_2021_02_kept") == 50
    assert filled.value(f"SELECT count(*) FROM {TABLE}") == 0
    assert not filled.rows(f"SELECT * FROM {LEDGER}")
    for month in (JANUARY, FEBRUARY):
        assert destination(filled).publish(months.trips(month)).status == "published"


@pytest.mark.parametrize("keeps", [True, False])
def test_moving_from_the_tutorial(postgres: Database, months: Months, keeps: bool) -> None:
    [[drop], [rename], [compare], [without_passengers], [drop_old]] = commands(
        "Moving from the tutorial's table"
    )
    postgres.execute(f"CREATE TABLE {TABLE} AS SELECT 1.0::double precision AS passenger_count")
    postgres.execute(rename if keeps else drop)
    destination(postgres).publish(months.trips(JANUARY))
    if keeps:
        assert postgres.rows(compare) == [(1, 50)]
        assert postgres.value(without_passengers) >= 0
        postgres.execute(drop_old)
    assert postgres.tables() == {TABLE, f"{TABLE}_2021_01", LEDGER, REJECTS}


def test_settings_and_defaults_are_those_of_the_program() -> None:
    fields: dict[str, FieldInfo] = Settings.model_fields
    for name in re.findall(r"TAXI_([A-Z_]+)", DOCUMENT):
        assert name.lower() in fields
    for name, default in re.findall(r"`TAXI_([A-Z_]+)` \((\d+)\)", DOCUMENT):
        assert fields[name.lower()].default == float(default)


def test_example_urls_are_read() -> None:
    for url in re.findall(r"`(postgresql://[^`]*)`|=(postgresql://\S+)", DOCUMENT):
        PostgresAddress.of_url("".join(url))
