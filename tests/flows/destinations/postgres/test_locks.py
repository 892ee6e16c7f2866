"""Waiting for locks: one limit for all of a month's waits, and who holds what is waited for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from support.postgres_harness import destination

from flows.destinations import LEDGER
from flows.destinations.postgres import locks, swap
from flows.destinations.postgres.address import PostgresAddress
from flows.destinations.postgres.connection import LockNotAvailable, connected
from flows.destinations.postgres.locks import LockBudget
from flows.destinations.postgres.tables import lock_key
from flows.errors import LockTimeout
from flows.runtime import RetryPolicy, retry_transient
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Generator

    import psycopg
    from support.destinations import Months
    from support.postgres import Database

JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
TABLE = JANUARY.dataset.table


@contextlib.contextmanager
def idle_in_transaction(
    database: Database, application: str, statement: str
) -> Generator[psycopg.Connection]:
    """Somebody has run a statement and not ended the transaction."""
    with database.connect() as connection:
        connection.execute(f"SET application_name = '{application}'".encode())
        connection.execute(b"BEGIN")
        connection.execute(statement.encode())
        yield connection


def test_the_reader_in_the_way_of_a_replacement_is_named(postgres: Database, months: Months) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    with idle_in_transaction(postgres, "a dashboard", f"SELECT count(*) FROM {TABLE}") as reader:
        user = reader.info.user
        says = (
            rf"waited 0\.3 s for a lock of {TABLE}_2021_01 that is held by PID {reader.info.backend_pid} "
            rf"\(user {user}, a dashboard, idle in transaction since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\); "
            r".*pg_terminate_backend.*TAXI_LOCK_TIMEOUT_SECONDS"
        )
        with pytest.raises(LockTimeout, match=says):
            destination(postgres, lock_timeout_seconds=0.3, swap_timeout_seconds=0.1).publish(
                months.trips(JANUARY, 80, first=500)
            )
    assert destination(postgres).publish(months.trips(JANUARY, 80, first=500)).status == "published"


def test_a_reader_is_not_named_where_a_month_is_new(postgres: Database, months: Months) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    lock = f"LOCK TABLE {TABLE} IN SHARE UPDATE EXCLUSIVE MODE"
    with (
        idle_in_transaction(postgres, "a dashboard", f"SELECT count(*) FROM {TABLE}"),
        idle_in_transaction(postgres, "maintenance", lock),
        pytest.raises(LockTimeout, match="maintenance") as refused,
    ):
        destination(postgres, lock_timeout_seconds=0.3, swap_timeout_seconds=0.1).publish(
            months.trips(FEBRUARY)
        )
    assert "a dashboard" not in refused.value.message


def test_reading_waits_no_longer_either(postgres: Database, months: Months) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    lock = f"LOCK TABLE {LEDGER} IN ACCESS EXCLUSIVE MODE"
    with idle_in_transaction(postgres, "maintenance", lock):
        short = destination(postgres, lock_timeout_seconds=0.1)
        with pytest.raises(LockTimeout, match="maintenance"):
            short.loaded(JANUARY)
        with pytest.raises(LockNotAvailable, match="waited too long for a lock"):
            short.holdings(JANUARY.dataset)


def test_what_one_wait_takes_the_next_does_not_have(postgres: Database) -> None:
    budget = LockBudget(30)
    with connected(PostgresAddress.of_url(postgres.url)) as session:
        with budget.transaction(session):
            session.rows("SELECT pg_sleep(0.2)")
        assert budget.left_seconds <= 29.8
        with budget.transaction(session):
            [[limit]] = session.rows("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'")
        assert limit <= 29_800
        with budget.transaction(session, longest_seconds=2):
            [[limit]] = session.rows("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'")
        assert limit == 2_000


def test_a_wait_in_vain_leaves_nothing_for_the_next(postgres: Database, months: Months) -> None:
    destination(postgres).publish(months.trips(JANUARY))
    budget = LockBudget(0.2)
    with (
        idle_in_transaction(postgres, "maintenance", f"LOCK TABLE {TABLE}"),
        connected(PostgresAddress.of_url(postgres.url)) as session,
    ):
        with pytest.raises(LockNotAvailable), budget.transaction(session):
            session.execute(f"LOCK TABLE {TABLE}")
        with budget.transaction(session):
            [[limit]] = session.rows("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'")
    assert (budget.left_seconds, limit) == (0, 1)


def test_a_swap_has_what_the_waits_before_it_have_left(
    postgres: Database, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies, hours_ahead = list[RetryPolicy](), list[int]()
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * len(hours_ahead))
    monkeypatch.setattr(locks, "time", clock)

    def note_policy(swap_in: Callable[[], None], policy: RetryPolicy, **options: object) -> None:
        policies.append(policy)
        retry_transient(swap_in, policy, **options)

    monkeypatch.setattr(swap, "retry_transient", note_policy)
    key = lock_key(f"{TABLE}_2021_01_loading")
    with postgres.connect() as another_run:
        another_run.execute("SELECT pg_advisory_lock(%s)", [key])

        def let_go() -> None:
            while not postgres.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                time.sleep(0.01)
            hours_ahead.append(1)
            another_run.execute("SELECT pg_advisory_unlock(%s)", [key])

        with ThreadPoolExecutor(1) as pool:
            pool.submit(let_go)
            destination(postgres, lock_timeout_seconds=2 * 3600).publish(months.trips(JANUARY))
    [policy] = policies
    assert policy.total_seconds is not None
    assert 0 < policy.total_seconds <= 3600


def test_a_month_of_another_schema_is_another_month(postgres: Database, months: Months) -> None:
    with postgres.connect() as another_run:
        another_run.execute("SELECT pg_advisory_lock(%s)", [lock_key(f"{TABLE}_2021_01_loading")])
        elsewhere = destination(postgres, schema="etl", lock_timeout_seconds=2)
        try:
            assert elsewhere.publish(months.trips(JANUARY)).status == "published"
        finally:
            postgres.execute("DROP SCHEMA IF EXISTS etl CASCADE")
