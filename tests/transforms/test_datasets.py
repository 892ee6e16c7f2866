"""The declarations: complete, registered, and the same in every engine that a schema is derived for."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from support.trips import HEADS

from transforms import datasets
from transforms.column import Column, ColumnType
from transforms.dataset import FILE_MONTH, Dataset, HeaderMatch
from transforms.datasets import DATASETS, YELLOW
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from pathlib import Path

MODULES = sorted(module.name for module in pkgutil.iter_modules(datasets.__path__))
NEW = ("surge", 'odd "name"')
HEAD_FILES = sorted(HEADS.glob("*.csv"))

each_dataset = pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))


def test_every_file_is_registered_and_every_entry_has_its_file() -> None:
    assert sorted(DATASETS) == MODULES == ["fhv", "fhvhv", "green", "yellow"]
    assert sorted(datasets.__all__) == sorted(["DATASETS", *(name.upper() for name in MODULES)])


@pytest.mark.parametrize("name", MODULES)
def test_a_file_declares_the_one_dataset_it_is_called_after(name: str) -> None:
    module = importlib.import_module(f"transforms.datasets.{name}")
    assert [value for value in vars(module).values() if isinstance(value, Dataset)] == [DATASETS[name]]
    assert DATASETS[name].name == name
    assert getattr(datasets, name.upper()) is DATASETS[name]


@each_dataset
def test_a_declaration_is_complete(dataset: Dataset) -> None:
    assert dataset.title
    assert dataset.table == f"{dataset.name}_taxi_trips"
    assert dataset.column[dataset.pickup].required, "a trip without a pick-up is no trip"
    for name in (dataset.pickup, dataset.dropoff):
        assert dataset.column[name].type is ColumnType.TIMESTAMP
    assert len(dataset.column) == len(dataset.columns)
    assert FILE_MONTH not in dataset.column
    assert all(column.description for column in dataset.columns)


@each_dataset
def test_every_date_in_a_declaration_is_a_month_the_dataset_can_have(dataset: Dataset) -> None:
    dates = [d for column in dataset.columns for d in (column.since, column.until) if d]
    for date in (dataset.first_month, *dates):
        assert TripMonth(dataset.name, *map(int, date.split("-"))).iso == date
        assert TripMonth(dataset.name, *map(int, date.split("-"))).first_day
    assert not [column.name for column in dataset.columns if column.since and column.until]


@each_dataset
@pytest.mark.parametrize("new", [(), NEW], ids=["declared", "with new columns"])
def test_the_schemas_of_all_engines_agree(dataset: Dataset, new: tuple[str, ...]) -> None:
    arrow = dataset.arrow_schema(new)
    names = [*dataset.column, *new, FILE_MONTH]
    assert arrow.names == list(dataset.types(new)) == list(dataset.duckdb_columns(new)) == names
    assert [name for name in names if not arrow.field(name).nullable] == [FILE_MONTH]

    empty = arrow.empty_table()
    assert pl.from_arrow(empty).schema == {name: kind.polars for name, kind in dataset.types(new).items()}
    with duckdb.connect() as connection:
        connection.register("staged", empty)
        described = connection.execute("SELECT column_name, column_type FROM (DESCRIBE staged)").fetchall()
    assert dict(described) == dataset.duckdb_columns(new)


@pytest.mark.parametrize("kind", ColumnType)
def test_a_polars_column_comes_out_as_the_arrow_type(kind: ColumnType) -> None:
    plain = pl.Series([None], dtype=kind.polars).to_arrow(compat_level=pl.CompatLevel.oldest())
    assert plain.cast(kind.arrow).type == kind.arrow
    assert pl.Series(pa.array([None], kind.arrow)).dtype == kind.polars


def changed(dataset: Dataset, **fields: object) -> Dataset:
    first, *others = dataset.columns
    return replace(dataset, columns=(replace(first, **fields), *others))


def test_the_schema_version_changes_with_what_changes_the_table() -> None:
    version = YELLOW.schema_version
    assert len(version) == 12
    assert int(version, 16)
    others = [
        changed(YELLOW, type=ColumnType.FLOAT),
        changed(YELLOW, name="vendor"),
        changed(YELLOW, required=True),
        replace(YELLOW, columns=YELLOW.columns[::-1]),
        replace(YELLOW, columns=YELLOW.columns[:-1]),
    ]
    versions = {version, *(other.schema_version for other in others)}
    assert len(versions) == len(others) + 1
    assert len({dataset.schema_version for dataset in DATASETS.values()}) == len(DATASETS)


def test_the_schema_version_does_not_change_with_words_and_units() -> None:
    described = changed(YELLOW, description="something else", unit="foot", since="2011-01")
    assert described.schema_version == YELLOW.schema_version


def test_the_schema_versions_are_those_with_which_months_have_been_staged() -> None:
    """NOTE: a version that changes makes every month of the dataset be staged and loaded again."""
    assert {name: dataset.schema_version for name, dataset in DATASETS.items()} == {
        "yellow": "c1767bc04182",
        "green": "dda34b61de70",
        "fhv": "0457ead95f8e",
        "fhvhv": "25bf2f5e3c77",
    }


UNITS = {
    "mile": ["mile"],
    "USD": ["dollar", "usd", "$"],
    "second": ["second"],
    "degree": ["degree"],
    "count": ["number", "count"],
}


@each_dataset
def test_every_measure_has_a_unit_and_nothing_else_has_one(dataset: Dataset) -> None:
    columns = (*dataset.columns, *dataset.historic)
    measures = {column.name for column in columns if column.type is ColumnType.FLOAT}
    counts = {"passenger_count", "trip_time"} & dataset.column.keys()
    assert {column.name for column in columns if column.unit is not None} == measures | counts
    assert {column.unit for column in columns} <= {*UNITS, None}


@each_dataset
def test_a_description_is_a_phrase_in_sentence_case_without_its_unit(dataset: Dataset) -> None:
    for column in (*dataset.columns, *dataset.historic):
        assert column.description[0].isupper(), column.name
        assert not column.description.endswith("."), column.name
        for word in UNITS.get(column.unit or "", []):
            assert word not in column.description.lower(), column.name


def test_bigquery_shows_the_unit_behind_the_description() -> None:
    described = {field["name"]: field["description"] for field in YELLOW.bigquery_schema(["pickup_latitude"])}
    assert described["trip_distance"] == "Distance by the taximeter (mile)"
    assert described["pickup_latitude"] == "Latitude of the pick-up, before taxi zones (degree)"
    assert described["mta_tax"] == "MTA tax (USD)"
    assert described["PULocationID"] == "Taxi zone of the pick-up"
    assert described[FILE_MONTH] == "First day of the month of the file"


@pytest.mark.parametrize("spelling", ["B", "b", " b "])
def test_two_columns_cannot_claim_one_spelling(spelling: str) -> None:
    columns = (
        Column("a", ColumnType.TEXT, "one", aliases=(spelling,)),
        Column("b", ColumnType.TEXT, "another"),
    )
    with pytest.raises(ValueError, match="two columns claim the spelling"):
        replace(YELLOW, columns=columns)


@pytest.mark.parametrize(
    ("month", "expected"),
    [
        ("2018-12", ("congestion_surcharge", "airport_fee")),
        ("2019-01", ("airport_fee",)),
        ("2021-12", ("airport_fee",)),
        ("2022-01", ()),
    ],
)
def test_expected_missing_says_what_a_month_lacks_by_its_date(month: str, expected: tuple[str, ...]) -> None:
    missing = ("trip_distance", "congestion_surcharge", "airport_fee")
    assert YELLOW.expected_missing(missing, month) == expected


@pytest.mark.parametrize(("month", "expected"), [("2021-07", ()), ("2021-08", ("SR_Flag",))])
def test_expected_missing_knows_columns_that_ended(month: str, expected: tuple[str, ...]) -> None:
    assert DATASETS["fhvhv"].expected_missing(["SR_Flag"], month) == expected


@pytest.mark.skipif(not HEAD_FILES, reason="no heads of real files in ../shared/data/heads")
@pytest.mark.parametrize("head", HEAD_FILES, ids=lambda path: path.stem)
def test_the_header_of_every_real_file_of_2019_matches(head: Path) -> None:
    color, iso = head.stem.split("_tripdata_")
    dataset = DATASETS[color]
    with head.open(newline="") as file:
        header = file.readline().rstrip("\r\n").split(",")
    match = dataset.match_header(header)
    assert [name.lower() for name in match.columns] == [name.lower() for name in header]
    assert not match.new
    assert dataset.expected_missing(match.missing, iso) == match.missing, "no column is missed by surprise"


@each_dataset
def test_columns_of_gives_every_file_column_its_declaration(dataset: Dataset) -> None:
    match = HeaderMatch((dataset.pickup, "surge"), new=("surge",))
    pickup, surge = dataset.columns_of(match)
    assert pickup is dataset.column[dataset.pickup]
    assert (surge.name, surge.type, surge.required) == ("surge", ColumnType.TEXT, False)
