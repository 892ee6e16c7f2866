from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flows.runtime import reporter
from flows.runtime.progress import LogProgress, set_progress_listener

if TYPE_CHECKING:
    import pytest


def test_a_finished_phase_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="flows.runtime.progress")
    set_progress_listener(LogProgress())
    report = reporter("yellow 2021-01", "stage")
    report(1_000, 2_000)
    report(2_000, 2_000)
    report(2_000, 2_000)
    assert caplog.messages == ["yellow 2021-01: stage 2,000 rows"]


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
