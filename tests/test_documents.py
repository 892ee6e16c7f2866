"""What the documents say is what the program does."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import load_parser as parser
from flows.destinations import DESTINATIONS
from flows.ingest import parser as ingest_parser
from flows.settings import Settings
from flows.status import parser as status_parser
from transforms.cleaning import ROW_TRANSFORMS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def options(made: object) -> set[str]:
    return {option for action in made._actions for option in action.option_strings if option[2:]}  # type: ignore[attr-defined]


def test_every_option_is_in_the_readme_and_no_other() -> None:
    section = README.partition("## Options")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `(--[a-z-]+)`", section, re.MULTILINE))
    assert documented == options(parser()) - {"--help"}


def test_every_option_of_ingest_is_documented() -> None:
    text = (ROOT / "docs" / "postgres.md").read_text()
    assert [option for option in sorted(options(ingest_parser()) - {"--help"}) if option not in text] == []


def test_every_option_of_status_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert [option for option in sorted(options(status_parser()) - {"--help"}) if option not in text] == []


@pytest.mark.parametrize("name", [*ROW_TRANSFORMS, *DESTINATIONS])
def test_every_name_an_option_takes_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


def test_every_setting_says_when_to_change_it() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_setting_named_in_the_documents_exists() -> None:
    known = {f"TAXI_{name.upper()}" for name in Settings.model_fields} | {"TAXI_TEST_POSTGRES_URL"}
    texts = [README, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))]
    named = {name for text in texts for name in re.findall(r"\bTAXI_[A-Z_]+[A-Z]\b", text)}
    assert named - known == set()


def test_every_file_named_in_the_documents_exists() -> None:
    texts = [README, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))]
    named = {
        path
        for text in texts
        for path in re.findall(r"\b(?:tests|flows|transforms|docs)/[\w/]+\.(?:py|md)\b", text)
    }
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


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
    done = subprocess.run(
        [sys.executable, "-c", block[1]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "mean_total" in done.stdout
    assert "2021-01-01" in done.stdout
    columns = re.findall(r"│ +(file_month|trips|mean_total) ", README)
    assert columns == ["file_month", "trips", "mean_total"]


def test_no_module_in_flows_hides_a_library() -> None:
    """`python flows/parent.py` puts flows/ first on the path, before every library."""
    ours = {path.stem for path in (ROOT / "flows").iterdir() if path.suffix == ".py" or path.is_dir()}
    libraries = set(importlib.metadata.packages_distributions()) | set(sys.stdlib_module_names)
    assert (ours - {"__init__", "__pycache__"}) & libraries == set()
