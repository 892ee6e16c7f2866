"""Group `load postgres`: a staged month into a real Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from contents import in_parquet
from loading import (
    bare_adbc_ingest,
    contents,
    copy_csv,
    copy_with_pgpq,
    destination,
    to_sql,
    tutorials_engine,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Versus
    from support.postgres import Database

    from flows.staging import StagedMonth

GROUP = "load postgres"
SLOW_ROWS = {None: 20_000, "multi": 5_000}  # rows for the slow rivals, by method


@pytest.mark.parametrize(
    ("rival", "what", "way"),
    [
        ("adbc_ingest", "the driver alone, into a new table", bare_adbc_ingest),
        ("psycopg COPY CSV", "CSV by pyarrow, COPY by psycopg", copy_csv),
        ("pgpq", "COPY BINARY encoded by pgpq: the bound", copy_with_pgpq),
    ],
)
def test_load(
    rival: str,
    what: str,
    way: Callable[[Database, Path], None],
    postgres: Database,
    staged: StagedMonth,
    versus: Versus,
) -> None:
    target = destination(postgres)
    versus(
        GROUP,
        rival,
        what,
        ours=lambda: target.publish(staged, force=True),
        theirs=lambda: way(postgres, staged.path),
    )
    expected = in_parquet(staged.path)
    assert contents(postgres, "yellow_taxi_trips") == expected
    assert contents(postgres, "rival") == expected


@pytest.mark.parametrize("method", [None, "multi"])
def test_load_against_to_sql(
    method: str | None, postgres: Database, staged: StagedMonth, versus: Versus
) -> None:
    target, engine, slow_rows = (
        destination(postgres),
        tutorials_engine(postgres),
        min(staged.rows, SLOW_ROWS[method]),
    )
    versus(
        GROUP,
        "pandas to_sql" + (f" {method}" if method else ""),
        f"to_sql(method={method!r}), chunks of {1_000 if method else 100_000:,} rows",
        ours=lambda: target.publish(staged, force=True),
        theirs=lambda: to_sql(engine, staged.path, slow_rows, method=method),
        rival_rows=slow_rows,
        at_most_pairs=3,
    )
    engine.dispose()
    assert contents(postgres, "yellow_taxi_trips") == in_parquet(staged.path)
    assert contents(postgres, "rival") == in_parquet(staged.path, slow_rows)
