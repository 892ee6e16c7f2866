"""docs/reference/views.md: every statement in it is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.destinations import HARNESSES, Harness, Months
from support.postgres_harness import destination

from transforms.datasets import DATASETS
from transforms.quality import odd_conditions
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from support.postgres import Database

DOCUMENT = (Path(__file__).parents[3] / "docs" / "reference" / "views.md").read_text()
QUERIES = re.findall(r"```sql\n(SELECT .*?);\n```", DOCUMENT, re.DOTALL)
OTHERS = re.findall(r"```sql\n((?!SELECT).*?);\n```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("name", [name for name, harness in HARNESSES.items() if harness.has_tables])
def test_the_queries_have_answers(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, months: Months
) -> None:
    warehouse: Harness = HARNESSES[name](tmp_path / "data", request)
    warehouse.make().publish(months.synthetic(TripMonth("yellow", 2021, 1), 500))
    with warehouse.reader() as query:
        assert [len(query(text)) > 0 for text in QUERIES] == [True, True, True]


def test_the_other_statements_run(postgres: Database, months: Months) -> None:
    for color in ("yellow", "green"):
        destination(postgres).publish(months.trips(TripMonth(color, 2021, 1)))
    drop, grant = OTHERS
    postgres.execute(grant, drop)
    destination(postgres).publish(months.trips(TripMonth("yellow", 2021, 2)))
    assert postgres.value("SELECT count(*) FROM taxi_trips") == 100


def test_the_reasons_are_named() -> None:
    names = {name for dataset in DATASETS.values() for name in odd_conditions("a", "b", dataset.column)}
    assert [name for name in sorted(names) if f"`{name}`" not in DOCUMENT] == []
