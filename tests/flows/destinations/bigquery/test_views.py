"""The views in BigQuery: what they say about themselves, and what an emulator by others makes of them."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import duckdb
import pytest
from support.bigquery import DATASET, client_of, settings_for
from support.destinations import Place, answers

from transforms.datasets import DATASETS
from transforms.dimensions import dimensions
from transforms.trip_month import TripMonth
from transforms.views import taxi_views

if TYPE_CHECKING:
    from pathlib import Path

    from support.bigquery_fake import BigQueryFake
    from support.bqemulator import BqEmulator
    from support.destinations import Months

    from flows.destinations.views import Dialect

JANUARY = TripMonth("yellow", 2021, 1)
ITEMS = (*dimensions(), *taxi_views({}))


def test_views_and_columns_are_described(bigquery_fake: BigQueryFake, tmp_path: Path, months: Months) -> None:
    settings = settings_for(bigquery_fake.rest_url, bigquery_fake.grpc_address)
    Place("bigquery", tmp_path, settings).make().publish(months.trips(JANUARY))
    with contextlib.closing(client_of(bigquery_fake.rest_url)) as client:
        for item in ITEMS:
            found: Any = client.get_table(f"taxi-test.{DATASET}.{item.name}")
            assert {field.name: field.description for field in found.schema} == {
                column.name: column.comment for column in item.columns
            }
            assert found.description.startswith(item.description)
            assert found.labels["taxi_etl"] in found.description


def _name_only(item: Any, _: str, dialect: Dialect) -> str:  # noqa: ANN401 - a dimension or a view
    return dialect.qualified(item.name)


@pytest.mark.xdist_group("bqemulator")
def test_views_have_the_same_values_on_bqemulator(
    bqemulator: BqEmulator, tmp_path: Path, months: Months
) -> None:
    dataset = f"trips_{secrets.token_hex(4)}"
    settings = settings_for(bqemulator.rest_url, bqemulator.grpc_address) | {"bigquery_dataset": dataset}
    place, other = Place("bigquery", tmp_path, settings), Place("duckdb", tmp_path)
    staged = [months.synthetic(TripMonth(color, 2021, 1), 200) for color in DATASETS]
    staged.append(months.trips(TripMonth("fhvhv", 2021, 2)))
    without_views = replace(place, settings=settings | {"views": False})
    for month in staged:
        without_views.make().publish(month)
        other.make().publish(month)
    # The emulator hands CREATE to DuckDB, which knows neither descriptions nor labels.
    with mock.patch("flows.destinations.bigquery.views._head", _name_only):
        place.make().publish(staged[-1])
    with (
        contextlib.closing(client_of(bqemulator.rest_url)) as client,
        duckdb.connect(tmp_path / "warehouse.duckdb", read_only=True) as connection,
    ):
        for item in ITEMS:
            names = ", ".join(column.name for column in item.columns)
            rows: Any = client.query_and_wait(f"SELECT {names} FROM {dataset}.{item.name}")
            expected = connection.execute(f"SELECT {names} FROM {item.name}").fetchall()
            assert expected
            assert sorted(repr(tuple(row.values())) for row in rows) == sorted(map(repr, expected)), item.name
    assert answers(place.make()) == answers(other.make())
