"""`taxi-etl gates`: the gates in force, and what staged months measure."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from flows.runtime import Layout
from flows.settings import _read_settings
from taxi_etl.gates import main
from transforms.gates import DEFAULT_GATES
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.destinations import Months

JANUARY, FEBRUARY = TripMonth("yellow", 2021, 1), TripMonth("yellow", 2021, 2)


@pytest.fixture(autouse=True)
def settings_read_anew() -> Iterator[None]:
    _read_settings.cache_clear()
    yield
    _read_settings.cache_clear()


def test_the_gates_of_every_dataset_are_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--json", "--data-dir", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["gates"] == {
        dataset: {name: {"warn": gate.warn, "fail": gate.fail} for name, gate in gates.items()}
        for dataset, gates in DEFAULT_GATES.items()
    }
    assert main(["--color", "fhv", "--data-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "fhv: gates" in out
    assert "yellow" not in out


def test_the_settings_are_in_force(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(
        "TAXI_GATES", '{"all": {"row_ratio": {"fail": 0.3}}, "fhv": {"row_ratio": {"warn": null}}}'
    )
    main(["--json", "--data-dir", str(tmp_path)])
    gates = json.loads(capsys.readouterr().out)["gates"]
    assert gates["fhv"]["row_ratio"] == {"warn": None, "fail": 0.3}
    assert gates["yellow"]["row_ratio"] == {"warn": 0.5, "fail": 0.3}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "this is no JSON"),
        ('{"yelow": {}}', "unknown dataset 'yelow'; legal are all, yellow"),
        (
            '{"yellow": {"zero_distanze": {}}}',
            "unknown measure zero_distanze of yellow; legal are pickup_out",
        ),
        ('{"fhv": {"nulls.tip_amount": {}}}', "unknown measure nulls.tip_amount of fhv"),
        ('{"fhv": {"row_ratio": {"stop": 1}}}', "Input should be 'warn' or 'fail'"),
        ('{"fhv": {"row_ratio": {"fail": "much"}}}', "valid number"),
    ],
)
def test_gates_that_make_no_sense_are_one_line(
    given: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAXI_GATES", given)
    assert main([]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "TAXI_GATES" in line
    assert said in line


def test_staged_months_are_measured(
    capsys: pytest.CaptureFixture[str], months: Months, tmp_path: Path
) -> None:
    directory = Layout(tmp_path).staged("yellow")
    directory.mkdir(parents=True)
    for staged in (months.synthetic(JANUARY, 2_000), months.outside(FEBRUARY)):
        shutil.copy(staged.path, directory / staged.path.name)
    call = ["--color", "yellow", "--data-dir", str(tmp_path), "--months"]
    assert main([*call, "1"]) == 0
    capsys.readouterr()
    assert main([*call, "1", "2"]) == 1
    out = capsys.readouterr().out
    [line] = [line for line in out.splitlines() if "pickup_outside_month" in line and "fail" in line]
    assert "1 fail" in line
    assert main([*call, "1", "2", "3", "--json"]) == 1
    january, february, march = json.loads(capsys.readouterr().out)["months"]
    assert january["measures"]["row_ratio"] == {"value": 2.0, "verdict": "pass"}
    assert february["measures"]["pickup_outside_month"] == {"value": 1.0, "verdict": "fail"}
    assert march["measures"] is None


@pytest.mark.parametrize("call", [["--months", "1"], ["--color", "yellow", "--since", "2021-01"]])
def test_wrong_usage_is_one_line(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(call) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
