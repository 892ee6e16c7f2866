"""Fixtures of the destinations' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.bigquery_harness import BigQueryHarness
from support.destinations import HARNESSES, Harness
from support.gcs_harness import GcsHarness
from support.iceberg_harness import IcebergHarness, IcebergRestHarness
from support.postgres_harness import PostgresHarness
from support.torture import TORTURE

if TYPE_CHECKING:
    from pathlib import Path

HARNESSES["postgres"] = PostgresHarness
HARNESSES["bigquery"] = BigQueryHarness
HARNESSES["gcs"] = GcsHarness
HARNESSES["iceberg"] = IcebergHarness


VARIANTS = {"iceberg rest": IcebergRestHarness} if TORTURE else {}
"""Other ways to reach a destination, for which the contract holds as well."""

EVERYWHERE = HARNESSES | VARIANTS


def _made(tmp_path: Path, request: pytest.FixtureRequest) -> Harness:
    return EVERYWHERE[request.param](tmp_path / "data", request)


@pytest.fixture(params=EVERYWHERE)
def anywhere(tmp_path: Path, request: pytest.FixtureRequest) -> Harness:
    """Every destination, empty."""
    return _made(tmp_path, request)


@pytest.fixture(params=[name for name, harness in EVERYWHERE.items() if harness.keeps_rows])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Harness:
    """Every destination that keeps the rows, empty."""
    return _made(tmp_path, request)


@pytest.fixture(params=[name for name, harness in EVERYWHERE.items() if harness.has_tables])
def warehouse(tmp_path: Path, request: pytest.FixtureRequest) -> Harness:
    """Every destination that has tables, empty."""
    return _made(tmp_path, request)


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> PostgresHarness:
    """Postgres, empty."""
    return PostgresHarness(tmp_path / "data", request)
