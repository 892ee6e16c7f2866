"""The registry, both ways: every destination is in it, and every entry is a destination."""

from __future__ import annotations

import contextlib
import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
from support.recording import Recording

import flows.destinations
from flows.destinations import DESTINATIONS, Destination, make_destination
from flows.destinations.base import Warehouse
from flows.errors import UsageError
from flows.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from support.destinations import Harness

VERBS = ("publish", "loaded", "holdings")
DRIVERS = (
    "duckdb", "adbc_driver_postgresql", "adbc_driver_manager", "psycopg", "google.cloud", "gcsfs",
    "pyiceberg", "prefect",
)  # fmt: skip


def _registered(name: str) -> type:
    module, _, attribute = DESTINATIONS[name].partition(":")
    return getattr(import_module(module), attribute)


def _defined() -> set[type]:
    """Every class below flows/destinations that has what a destination has, variants of another one apart."""
    modules = [
        import_module(module.name)
        for module in pkgutil.walk_packages(flows.destinations.__path__, f"{flows.destinations.__name__}.")
        if not module.name.endswith(".copy_process")  # a program of its own
    ]
    return {
        made
        for module in modules
        for made in vars(module).values()
        if inspect.isclass(made)
        and made.__module__ == module.__name__
        and hasattr(made, "publish")
        and hasattr(made, "loaded")
        and not any(
            issubclass(made, _registered(name)) and made is not _registered(name) for name in DESTINATIONS
        )
    }


def test_every_destination_is_registered() -> None:
    assert _defined() == {Destination, Warehouse, *map(_registered, DESTINATIONS)}


@pytest.mark.parametrize("name", DESTINATIONS)
def test_every_entry_is_a_destination(name: str) -> None:
    made = _registered(name)
    assert made.name == name
    for verb in VERBS:
        assert inspect.signature(getattr(made, verb)) == inspect.signature(getattr(Destination, verb)), verb


def test_the_recording_one_has_the_same_verbs() -> None:
    for verb in VERBS:
        assert inspect.signature(getattr(Recording, verb)) == inspect.signature(getattr(Destination, verb))


def test_every_destination_can_be_made(anywhere: Harness) -> None:
    assert anywhere.make().name in {*DESTINATIONS, "recording"}


@pytest.mark.parametrize("name", DESTINATIONS)
def test_making_one_opens_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(UsageError):  # if it needs a setting
        make_destination(name, tmp_path / "data", Settings(_env_file=None))
    assert list(tmp_path.iterdir()) == []


def test_the_default_is_registered() -> None:
    assert {*Settings.model_fields["to"].default} <= {*DESTINATIONS}


def test_an_unknown_name_is_a_key_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        make_destination("parchment", tmp_path, Settings(_env_file=None))


def test_the_registry_imports_no_driver() -> None:
    ask = (
        "import sys, flows.destinations; "
        f"print(*[name for name in {DRIVERS} if name in sys.modules], *flows.destinations.DESTINATIONS)"
    )
    found = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [*DESTINATIONS]


def test_what_is_exported_is_there() -> None:
    assert sorted(flows.destinations.__all__) == sorted(set(flows.destinations.__all__))
    for name in flows.destinations.__all__:
        assert hasattr(flows.destinations, name)
