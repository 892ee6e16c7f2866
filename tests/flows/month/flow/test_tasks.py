"""What is said of a task that will be tried again."""

from __future__ import annotations

import logging

import pytest
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed

from flows.errors import DestinationBusy, DestinationRefused
from flows.month.flow.tasks import is_transient, publish_task


def failed_attempt(number: int) -> TaskRun:
    return TaskRun(task_key="publish", dynamic_key="0", run_count=number)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, "2.0"), (2, "4.0"), (3, "8.0")])
def test_another_attempt_is_announced_without_the_advice_to_make_one(
    caplog: pytest.LogCaptureFixture, attempt: int, seconds: str
) -> None:
    error = DestinationBusy("Postgres is starting up", "run it again once it is up")
    error.where = "yellow 2021-01 -> postgres"
    assert is_transient(publish_task, failed_attempt(attempt), Failed(data=error))
    announced = f"yellow 2021-01 -> postgres: Postgres is starting up. Trying again in {seconds} s."
    assert caplog.messages == [announced]
    assert str(error).endswith("Postgres is starting up; run it again once it is up")


def test_a_failure_for_good_is_not_announced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    refused = Failed(data=DestinationRefused("wrong password"))
    assert not is_transient(publish_task, failed_attempt(1), refused)
    assert caplog.messages == []
