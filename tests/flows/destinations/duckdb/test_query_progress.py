"""How far DuckDB is with a statement."""

from __future__ import annotations

import duckdb
import pytest

from flows.destinations.duckdb import query_progress
from flows.errors import Stopped


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> duckdb.DuckDBPyConnection:
    monkeypatch.setattr(query_progress, "POLL_SECONDS", 0.005)
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("CREATE TABLE source AS SELECT range AS i FROM range(3_000_000)")
    connection.execute("CREATE TABLE target (i BIGINT)")
    return connection


def test_a_long_statement_reports_how_far_it_is(
    connection: duckdb.DuckDBPyConnection, capfd: pytest.CaptureFixture[str]
) -> None:
    reports: list[tuple[int, int | None]] = []
    with query_progress.progress_reported(connection, 1_000, lambda *report: reports.append(report)):
        connection.execute("INSERT INTO target SELECT i FROM source")
        connection.execute("SELECT count(*) FROM source WHERE i = 1").fetchall()
    assert reports[0] == (0, 1_000)
    rows = [rows for rows, _ in reports]
    assert any(0 < each < 1_000 for each in rows)
    assert rows == sorted(rows)
    assert capfd.readouterr() == ("", "")


def test_a_run_that_is_told_to_stop_does_not_break_the_statement(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    calls: list[int] = []

    def report(rows: int, _: int | None) -> None:
        calls.append(rows)
        if len(calls) > 1:
            raise Stopped("stopped")

    with query_progress.progress_reported(connection, 1_000, report):
        connection.execute("INSERT INTO target SELECT i FROM source")
    assert len(calls) == 2
    assert connection.execute("SELECT count(*) FROM target").fetchall() == [(3_000_000,)]
