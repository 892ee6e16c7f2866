"""Whatever breaks, one whole month stays, and the next run repairs the rest."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support.bigquery_harness import MOMENTS, BigQueryHarness, die_at
from support.destinations import Apart, assert_holds

from flows.destinations import LEDGER, REJECTS
from flows.destinations.bigquery import (
    connection as bigquery_connection,
)
from flows.destinations.bigquery import (
    destination as bigquery,
)
from flows.destinations.bigquery import (
    write_streams as bigquery_write,
)
from flows.destinations.bigquery.connection import connected
from flows.destinations.bigquery.staging_table import LIFETIME, _machine, new_name, staging_table
from flows.errors import DestinationBusy, DestinationRefused, LockTimeout, ReconciliationError
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from support.bigquery_fake import BigQueryFake
    from support.destinations import Months


JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)
TABLE = JANUARY.dataset.table


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> BigQueryHarness:
    """BigQuery, empty."""
    return BigQueryHarness(tmp_path / "data", request)


@pytest.fixture
def many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A month of 80 rows takes eight requests."""
    monkeypatch.setattr(bigquery, "BATCH_ROWS", 10)


def _calls(server: BigQueryFake, name: str) -> list[str | None]:
    return [call.outcome for call in server.requests if call.name == name]


# The process is killed


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_process(harness: BigQueryHarness, months: Months, moment: str) -> None:
    old, other = months.trips(JANUARY), months.trips(FEBRUARY)
    new = months.trips(JANUARY, 80, first=500)
    for staged in (old, other):
        harness.make().publish(staged)

    with Apart(die_at, harness.place, new, moment) as process:
        assert process.wait() == -signal.SIGKILL
    harness.settle()

    swapped = moment == "after the transaction"
    assert_holds(harness, new if swapped else old, other)
    assert len(harness.staging_tables()) == 1

    assert harness.make().publish(new).status == ("unchanged" if swapped else "published")
    assert_holds(harness, new, other)
    assert harness.all_tables() == {TABLE, LEDGER, REJECTS}


def test_a_staging_table_expires_by_itself(harness: BigQueryHarness, months: Months) -> None:
    with Apart(die_at, harness.place, months.trips(JANUARY), "after some requests") as process:
        process.wait()
    assert harness.staging_tables()
    harness.server.advance(LIFETIME.total_seconds() + 1)
    assert harness.all_tables() == set()


def test_only_what_killed_runs_on_this_machine_left_is_dropped(
    harness: BigQueryHarness, months: Months
) -> None:
    harness.make().publish(months.trips(JANUARY))
    with Apart(die_at, harness.place, months.trips(JANUARY), "after some requests") as process:
        process.wait()
        dead = process.process.pid
    stem, machine = f"{TABLE}__202103", _machine()
    theirs = {
        f"{stem}_{machine}_{os.getpid()}_00000000",  # under way
        f"{stem}_{'f' * 8}_{dead}_00000000",  # another machine's
        f"green_taxi_trips__202103_{machine}_{dead}_00000000",  # another table's
        f"{stem}_{machine}_{dead}_kept",  # not named as ours are
    }
    for name in theirs:
        harness.create_table(name, JANUARY.dataset.types())
    assert len(harness.all_tables()) == 3 + 1 + len(theirs)
    harness.make().publish(months.trips(JANUARY))
    assert harness.all_tables() == {TABLE, LEDGER, REJECTS, *theirs}


# The connection breaks, the server fails


@pytest.mark.parametrize("applied", [False, True], ids=["lost", "written"])
@pytest.mark.parametrize("error", ["UNAVAILABLE", "ABORTED", "INTERNAL", "CANCELLED", "cut"])
def test_a_stream_is_resumed_where_it_was(
    harness: BigQueryHarness, months: Months, many_requests: None, error: str, applied: bool
) -> None:
    harness.server.fail("AppendRows", error, 3, applied=applied)
    harness.server.fail("AppendRows", error, 7, applied=applied)
    staged = months.trips(JANUARY, 80)
    assert harness.make().publish(staged).rows == 80
    assert_holds(harness, staged)
    outcomes = _calls(harness.server, "AppendRows")
    assert outcomes.count("ok") == (6 if applied else 8)
    assert outcomes.count(error) == 2
    # What was written and not answered is sent again, and the server says so.
    assert ("ALREADY_EXISTS" in outcomes) is applied
    assert harness.all_tables() == {TABLE, LEDGER, REJECTS}


def test_a_lost_request_is_sent_again_with_everything_after_it(
    harness: BigQueryHarness, months: Months, many_requests: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sent = bigquery_write._Connection.send, []

    def lose_the_second(self: bigquery_write._Connection, offset: int, rows: object) -> None:
        sent.append(offset)
        if len(sent) != 2:
            real(self, offset, rows)

    monkeypatch.setattr(bigquery_write._Connection, "send", lose_the_second)
    staged = months.trips(JANUARY, 80)
    assert harness.make().publish(staged).rows == 80
    assert "OUT_OF_RANGE" in _calls(harness.server, "AppendRows")
    assert sent.count(10) == 2
    assert sent.count(0) == 1
    assert_holds(harness, staged)


def test_a_server_that_says_nothing_is_left_for_another_connection(
    harness: BigQueryHarness, months: Months, many_requests: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery_write, "SILENCE_SECONDS", 0.3)
    staged = months.trips(JANUARY, 80)
    with harness.server.hold("AppendRows", 3):
        assert harness.make().publish(staged).rows == 80
    assert_holds(harness, staged)


def test_a_server_that_keeps_failing_is_given_up(
    harness: BigQueryHarness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = months.trips(JANUARY)
    harness.make().publish(old)
    monkeypatch.setattr(bigquery_write, "RESUME_SECONDS", 0.5)
    harness.server.fail("AppendRows", "UNAVAILABLE", times=1000)
    with pytest.raises(DestinationBusy, match="UNAVAILABLE"):
        harness.make().publish(months.trips(JANUARY, 80))
    harness.server.failures.clear()
    assert_holds(harness, old)


@pytest.mark.parametrize(
    ("error", "advice"),
    [("RESOURCE_EXHAUSTED", "quota"), ("PERMISSION_DENIED", "roles/bigquery.dataEditor")],
)
@pytest.mark.parametrize("call", ["AppendRows", "CreateWriteStream", "BatchCommitWriteStreams"])
def test_quota_and_rights_are_one_line_and_not_tried_again(
    harness: BigQueryHarness, months: Months, call: str, error: str, advice: str
) -> None:
    old = months.trips(JANUARY)
    harness.make().publish(old)
    harness.server.failures.clear()
    harness.server.fail(call, error, times=1000)
    with pytest.raises(DestinationRefused, match=advice) as refused:
        harness.make().publish(months.trips(JANUARY, 80))
    assert error in refused.value.message
    assert "\n" not in str(refused.value)
    assert _calls(harness.server, call) == [error]
    harness.server.failures.clear()
    assert_holds(harness, old)


@pytest.mark.parametrize(
    ("call", "reason", "advice"),
    [
        ("datasets.get", "accessDenied", "roles/bigquery.jobUser"),
        ("tables.insert", "accessDenied", "roles/bigquery.dataEditor"),
        ("jobs.query", "quotaExceeded", "wait until the quota"),
        ("jobs.insert", "quotaExceeded", "wait until the quota"),
    ],
)
def test_a_refusal_of_the_rest_api_is_one_line_and_not_tried_again(
    harness: BigQueryHarness, months: Months, call: str, reason: str, advice: str
) -> None:
    harness.server.fail(call, reason, times=1000)
    with pytest.raises(DestinationRefused, match=advice) as refused:
        harness.make().publish(months.trips(JANUARY, 80))
    assert reason in refused.value.message
    assert "http" not in refused.value.message
    assert "\n" not in str(refused.value)
    assert _calls(harness.server, call) == [reason]


@pytest.mark.parametrize(
    ("call", "applied"),
    [
        ("datasets.get", False),
        ("tables.get", False),
        ("tables.insert", False),
        ("tables.insert", True),
        ("jobs.query", False),
        ("jobs.query", True),
        ("jobs.insert", False),
        ("jobs.insert", True),
        ("tables.delete", True),
    ],
)
def test_a_busy_rest_api_is_asked_again(
    harness: BigQueryHarness, months: Months, call: str, applied: bool
) -> None:
    harness.server.fail(call, "backendError", applied=applied)
    staged = months.trips(JANUARY)
    harness.make().publish(staged)
    assert _calls(harness.server, call)[0] == "backendError"
    assert_holds(harness, staged)


def test_a_transaction_whose_answer_is_lost_is_not_run_again(
    harness: BigQueryHarness, months: Months
) -> None:
    harness.server.fail("jobs.insert", "backendError", applied=True)
    staged = months.trips(JANUARY)
    harness.make().publish(staged)
    scripts = [
        call
        for call in harness.server.requests
        if call.name == "jobs.insert" and "BEGIN TRANSACTION" in str(call.body)
    ]
    assert [call.outcome for call in scripts] == ["backendError", "duplicate"]
    assert len({call.body["jobReference"]["jobId"] for call in scripts}) == 1
    assert_holds(harness, staged)


# The commit


@pytest.mark.parametrize("call", ["FinalizeWriteStream", "BatchCommitWriteStreams"])
@pytest.mark.parametrize("applied", [False, True], ids=["lost", "done"])
def test_sealing_and_committing_are_asked_for_again(
    harness: BigQueryHarness, months: Months, call: str, applied: bool
) -> None:
    harness.server.fail(call, "UNAVAILABLE", applied=applied)
    staged = months.trips(JANUARY)
    harness.make().publish(staged)
    assert len(_calls(harness.server, call)) == 2
    assert_holds(harness, staged)


@pytest.mark.parametrize(
    ("code", "error"),
    [("INVALID_STREAM_STATE", DestinationBusy), ("INVALID_STREAM_TYPE", DestinationRefused)],
)
def test_what_the_answer_to_a_commit_says_is_raised(
    harness: BigQueryHarness, months: Months, code: str, error: type[Exception]
) -> None:
    old = months.trips(JANUARY)
    harness.make().publish(old)
    harness.server.fail("BatchCommitWriteStreams", f"stream_errors:{code}")
    with pytest.raises(error, match=code):
        harness.make().publish(months.trips(JANUARY, 80))
    assert_holds(harness, old)


def test_a_commit_that_did_nothing_is_found_out(
    harness: BigQueryHarness, months: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery_write, "_commit", lambda *_: None)
    with pytest.raises(ReconciliationError, match="50 rows staged, 0 counted"):
        harness.make().publish(months.trips(JANUARY))


# Several at once


def test_an_aborted_transaction_is_run_again(harness: BigQueryHarness, months: Months) -> None:
    old, new = months.trips(JANUARY), months.trips(JANUARY, 80, first=500)
    harness.make().publish(old)
    harness.server.abort_transactions(2)
    harness.make().publish(new)
    assert_holds(harness, new)


def test_other_transactions_are_not_waited_for_for_ever(harness: BigQueryHarness, months: Months) -> None:
    old = months.trips(JANUARY)
    harness.make().publish(old)
    harness.server.abort_transactions(1000)
    harness.place.settings["lock_timeout_seconds"] = 0.3
    with pytest.raises(LockTimeout, match="TAXI_LOCK_TIMEOUT_SECONDS"):
        harness.make().publish(months.trips(JANUARY, 80))
    harness.server.abort_transactions(0)
    assert_holds(harness, old)
    assert harness.all_tables() == {TABLE, LEDGER, REJECTS}


def test_a_large_file_goes_through_several_streams(
    harness: BigQueryHarness, months: Months, many_requests: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery, "STREAM_BYTES", 1)
    harness.server.fail("AppendRows", "UNAVAILABLE", 5)
    staged = months.trips(JANUARY, 230)
    harness.make().publish(staged)
    appends = {call.target for call in harness.server.requests if call.name == "AppendRows"}
    assert len(appends) == bigquery.MOST_STREAMS
    assert len(_calls(harness.server, "FinalizeWriteStream")) == bigquery.MOST_STREAMS
    assert _calls(harness.server, "BatchCommitWriteStreams") == ["ok"]
    assert_holds(harness, staged)


def test_no_more_is_read_than_may_be_unanswered(
    harness: BigQueryHarness, months: Months, many_requests: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged, sent = months.trips(JANUARY, 300), []
    real = bigquery_write._Connection.send
    monkeypatch.setattr(
        bigquery_write._Connection,
        "send",
        lambda self, offset, rows: (sent.append(offset), real(self, offset, rows)),
    )
    with harness.server.hold("AppendRows", 1) as held:
        publishing = threading.Thread(target=harness.make().publish, args=(staged,))
        publishing.start()
        assert held.reached.wait(20)
        time.sleep(0.3)
        assert len(sent) == bigquery_write.IN_FLIGHT + 1
    publishing.join(30)
    assert_holds(harness, staged)


# There is no way to it


@contextlib.contextmanager
def _mute_server() -> Generator[int]:
    """A port where somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.mark.parametrize("listens", [False, True], ids=["nobody listens", "nobody answers"])
@pytest.mark.parametrize("which", ["bigquery_emulator_host", "bigquery_storage_emulator_host"])
def test_without_a_way_to_the_server_there_is_one_line_soon(
    harness: BigQueryHarness, months: Months, monkeypatch: pytest.MonkeyPatch, which: str, listens: bool
) -> None:
    assert bigquery_connection.CONTACT_SECONDS <= 5
    monkeypatch.setattr(bigquery_connection, "CONTACT_SECONDS", 0.5)
    with _mute_server() as mute:
        harness.place.settings[which] = f"127.0.0.1:{mute if listens else _closed_port()}"
        started = time.monotonic()
        with pytest.raises(DestinationRefused, match=which.upper()) as refused:
            harness.make().publish(months.trips(JANUARY))
    assert time.monotonic() - started < 30
    assert "\n" not in str(refused.value)


def test_the_names_of_staging_tables_are_legal_and_never_the_same() -> None:
    names = {new_name(JANUARY) for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(f"{TABLE}__202101_") for name in names)


def test_a_staging_table_says_when_it_expires(harness: BigQueryHarness) -> None:
    target = harness.make()
    with connected(target._address) as session:
        session.ensure_dataset()
        with staging_table(session, JANUARY, JANUARY.dataset.bigquery_schema()) as staging:
            found = session.client.get_table(f"{session.dataset}.{staging}")
            hours = (found.expires.timestamp() - time.time()) / 3600
            assert 0 < hours <= LIFETIME.total_seconds() / 3600
        assert harness.all_tables() == set()
