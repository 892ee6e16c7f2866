"""What the documents say is what the program does."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.cli import load_parser as parser
from flows.destinations import DESTINATIONS
from flows.ingest import parser as ingest_parser
from flows.settings import Settings
from flows.status import parser as status_parser
from taxi_etl import COMMANDS
from transforms.cleaning import ROW_TRANSFORMS

if TYPE_CHECKING:
    import argparse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text()


SHARED = {"--help", "--version", "--quiet", "--verbose", "--log-format"}
"""Options of every command; those of its log stand in the README, with the main command's own."""


def options(command_line: argparse.ArgumentParser) -> set[str]:
    return {option for action in command_line._actions for option in action.option_strings if option[2:]}


def test_every_option_is_in_the_readme_and_no_other() -> None:
    section = README.partition("## Options")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `(--[a-z-]+)`", section, re.MULTILINE))
    assert documented == options(parser()) - {"--help", "--version"}


def test_every_command_is_in_the_readme_with_its_script() -> None:
    section = README.partition("## One command")[2].partition("\n## ")[0]
    documented = dict(
        re.findall(r"^\| `([a-z-]+)` \| .+? \|(?: `(flows/\w+\.py)`.*)?", section, re.MULTILINE)
    )
    assert documented.keys() == COMMANDS.keys()
    for name, (script, _) in COMMANDS.items():
        assert documented[name] in ("", script)


def test_the_readmes_settings_file_is_legal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "taxi.toml").write_text(example)
    monkeypatch.chdir(tmp_path)
    given = tomllib.loads(example)
    assert given.keys() <= Settings.model_fields.keys()
    assert Settings().to == tuple(given["to"])


def test_every_option_of_ingest_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "postgres.md").read_text()
    assert [option for option in sorted(options(ingest_parser()) - SHARED) if option not in text] == []


def test_every_option_of_status_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "operations.md").read_text()
    assert [option for option in sorted(options(status_parser()) - SHARED) if option not in text] == []


@pytest.mark.parametrize("name", [*ROW_TRANSFORMS, *DESTINATIONS])
def test_every_name_an_option_takes_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


def test_every_setting_says_when_to_change_it() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_setting_named_in_the_documents_exists() -> None:
    known = {f"TAXI_{name.upper()}" for name in Settings.model_fields} | {
        "TAXI_TEST_POSTGRES_URL",
        "TAXI_TEST_POSTGRES_BINARIES",
    }
    texts = [README, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))]
    named = {name for text in texts for name in re.findall(r"\bTAXI_[A-Z_]+[A-Z]\b", text)}
    assert named - known == set()


def test_every_file_and_folder_named_in_the_documents_exists() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    path = re.compile(r"\b(?:tests|flows|transforms|benchmarks|docs)/[\w/]+(?:\.(?:py|md)\b|/)")
    named = {(document.name, name) for document in documents for name in path.findall(document.read_text())}
    assert sorted((document, name) for document, name in named if not (ROOT / name).exists()) == []


def test_the_walk_through_one_month_is_short_and_names_a_file_in_each_step() -> None:
    """That the files exist is another test's matter, which reads all documents."""
    walk = ARCHITECTURE.partition("## One month, from the command to a row in Postgres\n")[2].partition(
        "\n## "
    )[0]
    _, *steps = re.split(r"^\d+\. ", walk, flags=re.MULTILINE)
    assert 5 <= len(steps) <= 10
    assert [step for step in steps if not re.search(r"`flows/[\w/]+\.py`", step)] == []


def test_the_architecture_lists_every_package_with_names_of_its_face() -> None:
    rows = re.findall(r"^\| `(flows/[\w/]+)/` \| .+ \| (.+) \|$", ARCHITECTURE, re.MULTILINE)
    packages = {
        folder.parent.relative_to(ROOT).as_posix() for folder in (ROOT / "flows").glob("*/**/__init__.py")
    }
    assert {folder for folder, _ in rows} == packages
    for folder, names in rows:
        face = importlib.import_module(folder.replace("/", "."))
        assert [name for name in re.findall(r"`(\w+)`", names) if name not in face.__all__] == [], folder


def test_every_class_in_the_glossary_exists() -> None:
    section = (ROOT / "docs" / "reference" / "naming.md").read_text().partition("\n## In the code\n")[2]
    sources = "".join(
        path.read_text() for folder in ("flows", "transforms") for path in (ROOT / folder).rglob("*.py")
    )
    defined = re.findall(r"^class (\w+)", sources, re.MULTILINE)
    named = re.findall(r"`((?:[A-Z][a-z]+)+)`", section)
    assert named
    assert set(named) - set(defined) == set()


def test_every_make_target_the_documents_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    documents = [README, (ROOT / "CONTRIBUTING.md").read_text()]
    documents += [path.read_text() for path in (ROOT / "docs").glob("*.md")]
    named = {name for text in documents for name in re.findall(r"\bmake ([a-z-]+)\b", text)}
    assert named <= targets


def test_the_readmes_query_runs_and_prints_its_table(tmp_path: Path) -> None:
    import duckdb

    (tmp_path / "demo").mkdir()
    with duckdb.connect(tmp_path / "demo" / "warehouse.duckdb") as connection:
        connection.execute(
            "CREATE TABLE yellow_taxi_trips AS SELECT DATE '2021-01-01' AS file_month, 15.004 AS total_amount"
        )
    block = re.search(r'```sh\n\.venv/bin/python -c "\n(.*?)"\n```', README, re.DOTALL)
    assert block
    query = subprocess.run(
        [sys.executable, "-c", block[1]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "mean_total" in query.stdout
    assert "2021-01-01" in query.stdout
    columns = re.findall(r"│ +(file_month|trips|mean_total) ", README)
    assert columns == ["file_month", "trips", "mean_total"]


def test_no_module_in_flows_hides_a_library() -> None:
    """`python flows/parent.py` puts flows/ first on the path, before every library."""
    ours = {path.stem for path in (ROOT / "flows").iterdir() if path.suffix == ".py" or path.is_dir()}
    libraries = set(importlib.metadata.packages_distributions()) | set(sys.stdlib_module_names)
    assert (ours - {"__init__", "__pycache__"}) & libraries == set()
