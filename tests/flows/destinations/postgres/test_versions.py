"""The contract of destinations, and what is Postgres's own, on every version of PostgreSQL that there is.

The suite runs on the wheel's, which is 18. Of another version, `make test` runs some of the contract and
`make torture` all of it, with this directory.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.cli import ROOT
from support.postgres_versions import DEBIAN, NAMED, installed, server_of
from support.torture import TORTURE, note

TESTS = "tests/flows/destinations"
SHORT = [f"{TESTS}/test_contract.py", "-k", "postgres and (whole or changed_month or grows or awkward)"]
LONG = [f"{TESTS}/test_contract.py", f"{TESTS}/postgres", "-k", "postgres and not versions and not embedded"]
PYTEST = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider"]

VERSIONS = installed()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("version", VERSIONS or [None])
def test_the_contract_holds_on_another_version(version: str | None) -> None:
    if version is None:
        pytest.skip(f"no PostgreSQL in {DEBIAN}; {NAMED} names directories with initdb")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"TAXI_TEST_TORTURE": "0"}
    with server_of(VERSIONS[version]) as server:
        said = server.value("SHOW server_version")
        environment["TAXI_TEST_POSTGRES_URL"] = server.url
        command = [*PYTEST, *(LONG if TORTURE else SHORT)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    [passed] = [word for word in done.stdout.splitlines()[-1].split(",") if "passed" in word]
    assert said.startswith(version)
    note(f"contract on PostgreSQL {version}", {"tests passed": int(passed.split()[0])})
