from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flows.runtime import (
    FinishedMonth,
    LogProgress,
    begin_run,
    clear_stop,
    finish_month,
    reporter,
    request_stop,
    set_progress_listener,
)

if TYPE_CHECKING:
    import pytest


def test_a_finished_month_is_one_line_and_its_short_phases_are_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="flows.runtime.progress")
    set_progress_listener(LogProgress())
    begin_run(4)
    report = reporter("yellow 2021-01", "stage")
    report(1_000, 2_000)
    report(2_000, 2_000)
    finish_month(FinishedMonth("yellow 2021-01", "published", 2.04, 2_000))
    finish_month(FinishedMonth("yellow 2021-02", "failed", 0.3, error="yellow 2021-02: no such file"))
    finish_month(FinishedMonth("yellow 2021-03", "unchanged", 0.1, 2_000))
    finish_month(FinishedMonth("yellow 2021-04", "failed", 0.3, error="yellow 2021-04: no such file"))
    assert caplog.messages == [
        "yellow 2021-01: published 2,000 rows in 2.0 s (1 of 4 months)",
        "yellow 2021-02: failed after 0.3 s (no such file) (2 of 4 months)",
        "yellow 2021-03: unchanged (3 of 4 months)",
        "yellow 2021-04: failed after 0.3 s (4 of 4 months)",
    ]


def test_a_run_of_one_month_counts_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="flows.runtime.progress")
    set_progress_listener(LogProgress())
    begin_run(1)
    finish_month(FinishedMonth("yellow 2021-01", "published", 2.04, 2_000))
    assert caplog.messages == ["yellow 2021-01: published 2,000 rows in 2.0 s"]


def test_a_month_that_an_interruption_ended_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="flows.runtime.progress")
    set_progress_listener(LogProgress())
    request_stop()
    try:
        finish_month(FinishedMonth("yellow 2021-01", "failed", 0.3, error="yellow 2021-01: stopped"))
    finally:
        clear_stop()
    assert caplog.messages == []


def test_a_long_phase_says_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="flows.runtime.progress")
    set_progress_listener(LogProgress(every_seconds=0))
    report = reporter("green 2021-02", "download")
    report(500, 2_000)
    report(700)
    set_progress_listener(LogProgress())
    assert caplog.messages == [
        "green 2021-02: download 500 of 2,000 bytes",
        "green 2021-02: download 700 bytes",
    ]
