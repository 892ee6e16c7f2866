"""How many months at once a machine works on by itself, and where they go without `--to`."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING

import pytest

from flows.cli import load_parser
from flows.parent import etl_parent_flow
from flows.request import LoadRequest
from flows.serve import read_deployments
from flows.settings import Settings, default_concurrency, override_settings

if TYPE_CHECKING:
    from pathlib import Path

GB = 2**30


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SC_PHYS_PAGES": 64 * GB // 4096, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 6),
        ({"memory.max": "max", "cpu.max": "max 100000"}, 6),
        ({"memory.max": str(3 * GB)}, 3),
        ({"memory.max": str(GB // 4)}, 1),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"memory/memory.limit_in_bytes": str(2 * GB)}, 2),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, 6),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 6),
    ],
)
def test_months_at_once_follow_the_limits_of_the_container(
    files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert default_concurrency(tmp_path) == expected


def test_a_large_machine_works_on_eight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(96)), raising=False)
    assert default_concurrency(tmp_path) == 8


def test_an_explicit_number_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXI_CONCURRENCY", "11")
    assert Settings(_env_file=None).concurrency == 11


def test_one_setting_is_the_default_of_to_for_commands_and_deployments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TAXI_TO", "duckdb, postgres gcs")
    to = Settings(_env_file=None).to
    assert to == ("duckdb", "postgres", "gcs")
    with override_settings(to=to):
        assert load_parser().parse_args(["--color", "yellow"]).to == to
        monthly = [entry for name, entry in read_deployments().items() if name.startswith("monthly-")]
        assert len(monthly) == 4
        for entry in monthly:
            assert entry["entrypoint"] == "flows.parent.etl_parent_flow"
            assert LoadRequest.from_parameters(**entry["parameters"], to=flow_default("to")).to == to


def flow_default(name: str) -> object:
    return inspect.signature(etl_parent_flow.fn).parameters[name].default
